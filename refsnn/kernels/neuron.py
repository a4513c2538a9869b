"""A neuron's constants in the form that the loops take."""

from typing import Any, NamedTuple

import numpy as np

from refsnn.equations.lif import LIF, amount_of


class Neuron(NamedTuple):
    """A `LIF`'s constants in the precision of the loop."""

    tau: Any
    v_th: Any
    ceiling: Any  # the highest potential that does not fire
    detach: bool  # no gradient passes through the reset
    subtract: bool  # the reset takes `amount` off, instead of everything
    amount: Any


def neuron_of(p: LIF, scalar: Any) -> Neuron:
    """Return the constants as `scalar`, which is np.float32 or np.float64."""
    v_th = scalar(p.v_th)
    ceiling = np.nextafter(v_th, scalar(-np.inf)) if p.fire_at_threshold else v_th
    amount = scalar(amount_of(p))
    detach, subtract = p.reset_gradient == "detached", p.reset == "subtract"
    return Neuron(scalar(p.tau), v_th, ceiling, detach, subtract, amount)
