"""Neurons of other methods, with parameters, under the conventions that each of them follows.

They are refsnn's own for the conventions that it implements, and variants of them for the mistakes
that implementations make. Conventions that a neuron does not follow change nothing. Sequences are
(T, N, C).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from refsnn.network import Params
from refsnn.ops import (
    GLIF,
    LIF,
    MPBN,
    MPBN_NORM,
    NUMPY,
    PLIF,
    RESET_GRADIENTS,
    RESETS,
    Array,
    Constants,
    Diet,
    MPBNCache,
    Neuron,
    RealSpike,
    Running,
    as_images,
    reset_slopes,
    sigmoid,
)
from refsnn.ops import reset as lif_reset
from refsnn.oracle.conventions import CONVENTIONS, PAPER, Conventions, Value
from refsnn.oracle.variant_neuron import slope

#: model -> its own conventions
OWN = {
    "plif": ("plif_input_decay", "plif_leak", "sigmoid_gradient"),
    "glif": ("glif_gates", "glif_conductance", "sigmoid_gradient"),
    "diet": ("diet_reset_leaks", "diet_slope", "diet_v_th_gradient"),
    "mpbn": ("mpbn_state",),
    "real_spike": ("real_spike_reset",),
}
#: conventions of a LIF that all models follow
SHARED = (
    *("fire_at_threshold", "reset_gradient", "surrogate", "surrogate_shape"),
    *("surrogate_scale", "surrogate_edge", "surrogate_unit"),
)
#: model -> further conventions of a LIF that it follows
FURTHER = {
    "plif": ("v_th", "reset"),
    "glif": (),
    "diet": ("reset",),
    "mpbn": ("tau", "v_th", "reset"),
    "real_spike": ("tau", "v_th", "reset"),
}
#: what a LIF's conventions can be here, if not anything
VALUES: dict[str, tuple[Value, ...]] = {"reset_gradient": RESET_GRADIENTS, "reset": RESETS}
#: what a model's conventions are, where they aren't the paper's LIF's
REQUIRED: dict[str, Conventions] = {"diet": {"reset": "subtract"}}


def follows(model: str, name: str, value: Value) -> bool:
    """Tell whether another value of a convention changes what neurons of a model compute."""
    if CONVENTIONS[name].level not in ("surrogate", "neuron"):
        return True  # of what is around the neurons
    known = name in (*OWN[model], *SHARED, *FURTHER[model])
    return known and value in VALUES.get(name, (value,)) and (name, value) != ("tau", 0)


class Slope:
    """A surrogate whose slope follows conventions."""

    def __init__(self, conventions: Conventions) -> None:
        self.conventions = conventions

    def slope(self, x: Array, v_th: Any) -> Array:
        """Return h at x = u_pre - v_th."""
        return slope(x, self.conventions, v_th)

    def primitive(self, x: Array, v_th: Any) -> Array:
        """Refuse, as no case asks for smooth neurons."""
        raise NotImplementedError


def lif_of(conventions: Conventions) -> LIF:
    """Return the settings of a layer's LIF."""
    if conventions["tau"] == 0:
        raise ValueError(f"tau: got 0, want more for neuron_model {conventions['neuron_model']}")
    return LIF(
        float(conventions["tau"]),
        float(conventions["v_th"]),
        Slope(conventions),
        "detached" if conventions["reset_gradient"] == "detached" else "full",
        bool(conventions["fire_at_threshold"]),
        reset=reset_of(conventions),
    )


def reset_of(conventions: Conventions) -> str:
    """Return how the neuron resets: as the method does, where it does not follow the convention."""
    model, reset = str(conventions["neuron_model"]), conventions["reset"]
    usual = REQUIRED.get(model, PAPER)["reset"]
    return str(reset if follows(model, "reset", reset) else usual)


def model_of(conventions: Conventions) -> Neuron:
    """Return the neuron, which is refsnn's own where its conventions are the method's."""
    made: dict[str, Callable[[], Neuron]] = {
        "plif": lambda: VariantPLIF(
            bool(conventions["plif_input_decay"]),
            conventions["plif_leak"] == "sigmoid(w)",
            conventions["sigmoid_gradient"] == "missing",
        ),
        "glif": lambda: VariantGLIF(
            conventions["glif_gates"] == "1 - gate",
            conventions["glif_conductance"] == "first step",
            conventions["sigmoid_gradient"] == "missing",
        ),
        "diet": lambda: diet_of(conventions),
        "mpbn": lambda: VariantMPBN() if conventions["mpbn_state"] == "normalised" else MPBN(),
        "real_spike": lambda: (
            SizeReset() if conventions["real_spike_reset"] == "size" else RealSpike()
        ),
    }
    return made[str(conventions["neuron_model"])]()


def diet_of(conventions: Conventions) -> Neuron:
    """Return the neuron of Diet-SNN."""
    reset_leaks = bool(conventions["diet_reset_leaks"])
    names = ("diet_slope", "diet_v_th_gradient")
    if reset_of(conventions) == "subtract" and all(conventions[n] == PAPER[n] for n in names):
        return Diet(reset_leaks)
    return VariantDiet(reset_leaks, *(str(conventions[name]) for name in names))


def outputs(
    x: Mapping[str, Array],
    settings: Mapping[str, Any],
    conventions: Conventions,
    watch: Callable[[Array], None] | None = None,
) -> Iterator[tuple[str, Array]]:
    """Yield the outputs of a layer with the currents c (T, N, C) and dL/dy = do.

    They are u_pre, with MPBN the normalised potential v, the spikes o, with Real Spike what is
    passed on, y, the new running statistics, dc and the parameters' gradients. `watch` is called
    with the potentials that decide on firing, moved to the conventions' threshold.
    """
    model, p = model_of(conventions), lif_of(conventions)
    params = {name: x[name] for name in model.shapes(x["c"].shape[-1], len(x["c"]))}
    training = bool(settings.get("training", True))
    running = Running(x["running_mean"], x["running_var"]) if model.has_statistics else None
    y_seq, moved, cache = model.forward(x["c"], params, running, p, training)
    unit = x["v_th"] if isinstance(model, Diet) else 1.0  # of its potentials
    if watch is not None:
        watch(distance(cache) + p.v_th)
    yield "u_pre", cache.u_pre_seq * unit
    if isinstance(cache, MPBNCache):
        yield "v", cache.v_seq
    yield "o", cache.o_seq
    if not model.binary:
        yield "y", y_seq
    if moved is not None and training:
        yield "new.running_mean", moved.mean
        yield "new.running_var", moved.var
    dc_seq, grads = model.backward(x["do"], cache)
    yield "dc", dc_seq
    yield from ((f"grad.{name}", grads[name]) for name in params)


def distance(cache: Any) -> Array:
    """Return the distance from the threshold, (T, N, C), of the potentials that decide."""
    if isinstance(cache, MPBNCache):
        return cache.v_seq - cache.p.v_th
    if isinstance(cache, DietCache):
        return cache.u_pre_seq / cache.params["v_th"] - 1
    return cache.u_pre_seq - cache.constants.v_th


def times_sigmoids(grads: Params, params: Params) -> Params:
    """Return gradients of parameters divided by the derivative of the parameters' sigmoids."""
    return {k: d / (sigmoid(params[k]) * (1 - sigmoid(params[k]))) for k, d in grads.items()}


@dataclass(frozen=True)
class VariantPLIF(PLIF):
    """PLIF with the leak sigmoid(w), or without the sigmoid's derivative in w's gradient."""

    swapped: bool = False
    without_sigmoid: bool = False

    def constants(self, params: Params, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants; 1 - sigmoid(-w) is sigmoid(w)."""
        return super().constants(self.own(params), p, channels, steps)

    def gradients(self, d: Constants, params: Params, p: LIF) -> Params:
        """Return dL/dw."""
        grads = super().gradients(d, self.own(params), p)
        grads = {"w": -grads["w"]} if self.swapped else grads
        return times_sigmoids(grads, params) if self.without_sigmoid else grads

    def own(self, params: Params) -> Params:
        """Return the parameter that PLIF has in w's place."""
        return {"w": -params["w"]} if self.swapped else params


@dataclass(frozen=True)
class VariantGLIF(GLIF):
    """GLIF with other gates or conductances, or without the sigmoids' derivatives."""

    swapped: bool = False
    first_only: bool = False
    without_sigmoid: bool = False

    def constants(self, params: Params, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants; a gate of -x is 1 minus that of x."""
        return super().constants(self.own(params), p, channels, steps)

    def gradients(self, d: Constants, params: Params, p: LIF) -> Params:
        """Return the parameters' gradients."""
        grads = super().gradients(d, self.own(params), p)
        if self.swapped:
            grads |= {name: -grads[name] for name in ("alpha", "beta", "gamma")}
        if self.first_only:
            summed = np.zeros_like(grads["g"])
            summed[0] = grads["g"].sum(0)
            grads["g"] = summed
        return times_sigmoids(grads, params) if self.without_sigmoid else grads

    def own(self, params: Params) -> Params:
        """Return the parameters that GLIF has in place of these."""
        if self.swapped:
            params = params | {name: -params[name] for name in ("alpha", "beta", "gamma")}
        if self.first_only:
            params = params | {"g": np.broadcast_to(params["g"][:1], params["g"].shape)}
        return params


@dataclass(frozen=True)
class SizeReset(RealSpike):
    """Real Spike whose reset takes a o[t], in place of the spike."""

    def constants(self, params: Params, p: LIF, channels: int, steps: int) -> Constants:
        """Return the constants of Real Spike, with what the reset takes times a."""
        k = super().constants(params, p, channels, steps)
        return k._replace(clear=k.clear * params["a"], amount=k.amount * params["a"])

    def gradients(self, d: Constants, params: Params, p: LIF) -> Params:
        """Return dL/da, by way of the reset too where that is not detached."""
        da = d.amplitude
        if p.reset_gradient == "full":
            channels, steps = len(params["a"]), len(d.gain)
            k = super().constants(params, p, channels, steps)
            da = da + d.clear * k.clear + d.amount * k.amount
        return {"a": da}


class DietCache(NamedTuple):
    """The values that the backward pass needs."""

    u_pre_seq: Array  # (T, N, C)
    o_seq: Array  # (T, N, C)
    params: Params
    p: LIF


@dataclass(frozen=True)
class VariantDiet(Neuron):
    """Diet-SNN's neuron with a hard reset, another slope, or another gradient of v_th."""

    reset_leaks: bool = True
    slope: str = "u_pre/v_th - 1"
    v_th_gradient: str = "full"

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shapes of leak and v_th, (1,) both."""
        return {"leak": (1,), "v_th": (1,)}

    def forward(
        self, c_seq: Array, params: Params, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, None, DietCache]:
        """Compute the spikes (T, N, C), no statistics, and the cache."""
        leak, v_th = params["leak"], params["v_th"]
        u_pre_seq, o_seq = np.empty_like(c_seq), np.empty_like(c_seq)
        kept = np.zeros_like(c_seq[0])
        for t in range(len(c_seq)):
            u_pre_seq[t] = kept + c_seq[t]
            z = u_pre_seq[t] / v_th - 1
            o_seq[t] = z >= 0 if p.fire_at_threshold else z > 0
            if p.reset == "zero":
                kept = leak * u_pre_seq[t] * (1 - o_seq[t])
            else:
                kept = leak * u_pre_seq[t] - self.factor(leak) * v_th * o_seq[t]
        return o_seq, None, DietCache(u_pre_seq, o_seq, params, p)

    def factor(self, leak: Array) -> Array:
        """Return how much of v_th a spike takes off the next u_pre."""
        return leak if self.reset_leaks else np.ones_like(leak)

    def backward(self, dy_seq: Array, cache: DietCache) -> tuple[Array, Params]:
        """Compute dL/dc, (T, N, C), and the gradients of leak and v_th."""
        u_pre_seq, o_seq, params, p = cache
        leak, v_th = params["leak"], params["v_th"]
        x_seq = u_pre_seq - v_th
        if self.slope == "u_pre - v_th":
            h_seq, by_v_th = p.surrogate.slope(x_seq, v_th), -np.ones_like(x_seq)  # type: ignore[arg-type]
        else:
            h_seq, by_v_th = p.surrogate.slope(x_seq / v_th, 1.0), -np.ones_like(x_seq)
        if self.slope == "u_pre/v_th - 1":
            h_seq, by_v_th = h_seq / v_th, -u_pre_seq / v_th
        delta_seq, later = np.empty_like(dy_seq), np.zeros_like(dy_seq[0])
        dleak, dv_th = 0.0, 0.0
        for t in reversed(range(len(dy_seq))):
            hard, fixed_v_th = p.reset == "zero", self.v_th_gradient == "reset detached"
            amount = u_pre_seq[t] * leak if hard else self.factor(leak) * v_th
            kept = 1 - o_seq[t] if hard else np.ones_like(o_seq[t])
            total = dy_seq[t] - later * amount * (p.reset_gradient == "full")
            soft = 0.0 if hard or not self.reset_leaks else v_th * o_seq[t]
            dleak += (later * (u_pre_seq[t] * kept - soft)).sum()
            if not (hard or fixed_v_th):
                dv_th -= (later * self.factor(leak) * o_seq[t]).sum()
            dv_th += (total * h_seq[t] * by_v_th[t]).sum()
            later = delta_seq[t] = total * h_seq[t] + later * leak * kept
        return delta_seq, {"leak": np.full(1, dleak), "v_th": np.full(1, dv_th)}


@dataclass(frozen=True)
class VariantMPBN(MPBN):
    """MPBN that keeps the normalised potential, as SpikingJelly's does (M6)."""

    def forward(
        self, c_seq: Array, params: Params, running: Running | None, p: LIF, training: bool
    ) -> tuple[Array, Running | None, MPBNCache]:
        """Compute the spikes (T, N, C), the running statistics after them, and the cache."""
        assert running is not None
        u_pre_seq, v_seq, o_seq = (np.empty_like(c_seq) for _ in range(3))
        u, norms = np.zeros_like(c_seq[0]), []
        for t in range(len(c_seq)):
            u_pre_seq[t] = p.tau * u + c_seq[t]
            own = params["weight"], params["bias"], running, MPBN_NORM, training
            v, running, norm = NUMPY.batchnorm_forward(as_images(u_pre_seq[t]), *own)
            norms.append(norm)
            v_seq[t] = v.reshape(u.shape)
            o_seq[t] = v_seq[t] >= p.v_th if p.fire_at_threshold else v_seq[t] > p.v_th
            u = lif_reset(v_seq[t], o_seq[t], p)
        return o_seq, running, MPBNCache(u_pre_seq, v_seq, o_seq, norms, p)

    def backward(self, dy_seq: Array, cache: MPBNCache) -> tuple[Array, Params]:
        """Compute dL/dc, (T, N, C), and the gradients of gamma and beta."""
        _, v_seq, o_seq, norms, p = cache
        h_seq = p.surrogate.slope(v_seq - p.v_th, p.v_th)
        delta_seq, du = np.empty_like(dy_seq), np.zeros_like(dy_seq[0])
        through = []
        for t in reversed(range(len(dy_seq))):
            by_u, by_o = reset_slopes(v_seq[t], o_seq[t], p)
            total = dy_seq[t] + du * by_o * (p.reset_gradient == "full")
            d = NUMPY.batchnorm_backward(as_images(total * h_seq[t] + du * by_u), norms[t])
            through.append(d)
            delta_seq[t] = d.dx_seq.reshape(du.shape)
            du = p.tau * delta_seq[t]
        dgamma = np.add.reduce([d.dgamma for d in through])
        dbeta = np.add.reduce([d.dbeta for d in through])
        return delta_seq, {"weight": dgamma, "bias": dbeta}
