"""A neuron's constants in the form that the loops take."""

from typing import Any, NamedTuple

from refsnn.equations.lif import LIF


class Neuron(NamedTuple):
    """A `LIF`'s constants in the precision of the loop."""

    tau: Any
    v_th: Any
    fire_at_threshold: bool  # a potential of exactly v_th fires
    detach: bool  # no gradient passes through the reset


def neuron_of(p: LIF, scalar: Any) -> Neuron:
    """Return the constants as `scalar`, which is np.float32 or np.float64."""
    return Neuron(
        scalar(p.tau), scalar(p.v_th), bool(p.fire_at_threshold), p.reset_gradient == "detached"
    )
