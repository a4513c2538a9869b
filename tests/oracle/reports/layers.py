"""Layers of spiking neurons with the faults of public reports, and right ones in odd dress.

Gradients are carried forward through the steps, with the derivatives by the currents of all steps.
`autograd_layers.py` has those whose report is about PyTorch's autograd.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from refsnn.oracle.adapters import Unsupported


class Dual(NamedTuple):
    """Values, and their derivatives by the current of each step."""

    value: Any
    by_c: Any  # a first axis more than `value`

    def __add__(self, other):
        other = dual(other)
        return Dual(self.value + other.value, self.by_c + other.by_c)

    def __sub__(self, other):
        return self + dual(other) * -1.0

    def __rsub__(self, other):
        return dual(other) - self

    def __mul__(self, other):
        other = dual(other)
        product = self.by_c * other.value + other.by_c * self.value
        return Dual(self.value * other.value, product)

    __rmul__ = __mul__

    def detached(self):
        return Dual(self.value, 0 * self.by_c)


def dual(x):
    return x if isinstance(x, Dual) else Dual(x, 0)


def slope(x, p):
    k, name = p["surrogate_shape"], p["surrogate"]
    if name == "tanh":
        return k * (1 - np.tanh(x) ** 2)
    if name == "tanh_literal":
        return k * (1 - np.tanh(x)) ** 2
    if name == "rectangular":
        inside = np.less_equal if p["surrogate_edge"] == "inside" else np.less
        return inside(abs(x), k / 2) / k
    return k * np.maximum(1 - abs(x) / p["v_th"], 0)


class Right:
    """The layer that each case asks for; the others override a part of it."""

    levels: tuple[str, ...] = ("neuron",)
    dtype: Any = np.float64
    always: dict[str, Any] = {}  # noqa: RUF012  # what it computes whatever a case asks for

    def run(self, case):
        p = {**case.conventions, **self.always}
        c, do = (case.inputs[name].astype(self.dtype) for name in ("c", "do"))
        wide = np.promote_types(self.dtype, np.float32)  # for products that overflow float16
        seeds = np.zeros((len(c), *c.shape), wide)  # dc[s] / dc[t]
        seeds[range(len(c)), range(len(c))] = 1
        steps = self.steps([Dual(c_t, seed) for c_t, seed in zip(c, seeds, strict=True)], p)
        u_pre, o, u = zip(*steps, strict=True)
        dc = sum(do_t * o_t.by_c for do_t, o_t in zip(do, o, strict=True))
        got = {"u_pre": u_pre, "o": o, "u": u}
        arrays = {name: np.stack([x.value for x in xs]) for name, xs in got.items()}
        return arrays | {"dc": dc.astype(self.dtype)}

    def steps(self, c, p):
        u = self.start(c)
        for c_t in c:
            u_pre = u * p["tau"] + c_t
            o = self.fire(u_pre, p)
            u = self.reset(u_pre, o, p)
            yield u_pre, o, u

    def start(self, c):
        return c[0] * 0.0

    def fire(self, u_pre, p):
        x = u_pre.value - p["v_th"]
        fired = x >= 0 if p["fire_at_threshold"] else x > 0
        return Dual(fired.astype(x.dtype), self.slope(x, p).astype(x.dtype) * u_pre.by_c)

    def slope(self, x, p):
        return slope(x, p)

    def reset(self, u_pre, o, p):
        return u_pre * (1 - (o.detached() if p["reset_gradient"] == "detached" else o))


# ---- slopes that overflow, have another shape or height, or are zero


class OnlyTanh(Right):
    """A layer in float32 that has one surrogate and shows its slope."""

    levels = ("surrogate", "neuron")
    dtype = np.float32

    def run(self, case):
        if case.conventions["surrogate"] != "tanh":
            raise Unsupported("it has tanh alone")
        if case.level == "neuron":
            return super().run(case)
        x = case.inputs["u_pre"].astype(self.dtype) - self.dtype(case.conventions["v_th"])
        return {"h": self.slope(x, case.conventions)}


class SigmoidOverflows(OnlyTanh):
    """tanh's slope as that of sigmoid(2 x)."""

    alpha = 2.0

    def height(self, p):
        return 4 * p["surrogate_shape"]

    def slope(self, x, p):
        with np.errstate(over="ignore", invalid="ignore"):
            e = np.exp(-x * self.dtype(self.alpha))
            return (self.height(p) * e / (1 + e) ** 2).astype(self.dtype)


class SteepSigmoidOverflows(SigmoidOverflows):
    alpha = 25.0

    def height(self, p):
        return self.alpha


class TanhOfExponentials(OnlyTanh):
    def slope(self, x, p):
        with np.errstate(over="ignore", invalid="ignore"):
            up, down = np.exp(x), np.exp(-x)
            return p["surrogate_shape"] * (1 - ((up - down) / (up + down)) ** 2)


class Arctan(Right):
    height, alpha = 1.0, 2.0

    def slope(self, x, p):
        return self.height / (1 + (np.pi / 2 * self.alpha * x) ** 2)


class ArctanOverPi(Arctan):
    height = 1 / np.pi


class ArctanAlpha5(Arctan):
    height, alpha = 2.5, 5.0


class ZeroSlope(Right):
    def slope(self, x, p):
        return 0 * x


# ---- the reset, several spikes, a filtered input


class SpikeMinusThreshold(Right):
    def reset(self, u_pre, o, p):
        return u_pre - (o - p["v_th"]).detached()


class SpikeBeforeInput(Right):
    """The same, but each spike is of the potential before the input."""

    def steps(self, c, p):
        u = c[0] * 0.0
        for c_t in c:
            o = self.fire(u, p)
            u = u * p["tau"] + c_t - (o - p["v_th"]).detached()
            yield u, o, u


class SeveralSpikes(Right):
    def fire(self, u_pre, p):
        width = 0.5 * p["v_th"]
        h = np.exp(-abs(u_pre.value - p["v_th"]) / width) / width
        return Dual(np.maximum(np.floor(u_pre.value / p["v_th"]), 0), h * u_pre.by_c)

    def reset(self, u_pre, o, p):
        return u_pre - o * p["v_th"]


class NoMembrane(Right):
    """Rounds each input to a whole number of spikes, from 0 to 4."""

    def steps(self, c, p):
        for c_t in c:
            inside = (c_t.value > 0) & (c_t.value < 4)
            yield c_t, Dual(np.floor(np.clip(c_t.value, 0, 4) + 0.5), inside * c_t.by_c), c_t * 0.0


class Synapse(Right):
    alpha = 0.5

    def steps(self, c, p):
        current, filtered = c[0] * 0.0, []
        for c_t in c:
            current = current * self.alpha + c_t
            filtered.append(current)
        return super().steps(filtered, p)


class SynapseNeverDecays(Synapse):
    alpha = 1.0


# ---- state that is kept from the run before


class KeepsPotential(Right):
    kept: Any = None

    def start(self, c):
        fits = self.kept is not None and self.kept.shape == c[0].value.shape
        return dual(self.kept) if fits else c[0] * 0.0

    def steps(self, c, p):
        for step in super().steps(c, p):
            yield step
        self.kept = step[2].value


class KeepsPotentialOfAnyShape(KeepsPotential):
    """The same, but raises where the next run has another shape."""

    def start(self, c):
        return c[0] * 0.0 if self.kept is None else dual(self.kept)


class KeepsSpike(Right):
    """The last spike acts in the next step's reset, which takes the input along."""

    kept: Any = None

    def charge(self, u, c_t, o, p):
        return (u * p["tau"] + c_t) * (1 - o)

    def steps(self, c, p):
        u = c[0] * 0.0
        fits = self.kept is not None and self.kept.shape == u.value.shape
        o = dual(self.kept) if fits else u
        for c_t in c:
            u = self.charge(u, c_t, o, p)
            o = self.fire(u, p)
            yield u, o, self.shown(u, o)
        self.kept = o.value

    def shown(self, u, o):
        return u


class KeepsSpikeInVain(KeepsSpike):
    """The last spike meets a potential of zero: nothing of the run before is left."""

    def charge(self, u, c_t, o, p):
        return u * p["tau"] * (1 - o) + c_t

    def shown(self, u, o):
        return u * (1 - o)


# ---- numbers of their own


def forced(**conventions):
    return type("Forced", (Right,), {"always": conventions})


DETACHED = {"fire_at_threshold": True, "reset_gradient": "detached"}
Tau08, Tau09 = forced(tau=0.8), forced(tau=0.9)
Tau08Detached, Tau09Detached = forced(tau=0.8, **DETACHED), forced(tau=0.9, **DETACHED)
Threshold03, Threshold03Detached = forced(v_th=0.3), forced(v_th=0.3, **DETACHED)
TanhK3 = forced(surrogate="tanh", surrogate_shape=3.0)
RectangleA15 = forced(surrogate="rectangular", surrogate_shape=1.5)


class InputGain(Right):
    def steps(self, c, p):
        return super().steps([c_t * 2.0 for c_t in c], p)


class ResetPotential(Right):
    def fire(self, u_pre, p):
        return super().fire(u_pre, p | {"fire_at_threshold": False})

    def reset(self, u_pre, o, p):
        return Dual(np.where(o.value > 0, -0.5, u_pre.value), u_pre.by_c)

    def run(self, case):
        return {name: x for name, x in super().run(case).items() if name != "dc"}


class WrongParameterGradients(Right):
    def run(self, case):
        return super().run(case) | {"dtau": 1e9, "dv_th": 1e9}


# ---- precision


class ComputesInFloat32(Right):
    """All in float32, though the arrays are float64."""

    dtype = np.float32

    def run(self, case):
        return {name: x.astype(np.float64) for name, x in super().run(case).items()}


class ComputesInFloat16(ComputesInFloat32):
    dtype = np.float16


class Float16(Right):
    dtype = np.float16


# ---- right layers whose arrays are of other types, orders and layouts


class Booleans(Right):
    def run(self, case):
        return (got := super().run(case)) | {"o": got["o"].astype(bool)}


class Bytes(Right):
    def run(self, case):
        return (got := super().run(case)) | {"o": got["o"].astype(np.int8)}


class OddArrays(Right):
    """Fortran's order, reversed strides, read-only, the other byte order, unsigned bytes."""

    def run(self, case):
        got = {name: np.asfortranarray(x) for name, x in super().run(case).items()}
        got["o"] = got["o"].astype(np.uint8)
        got["u"] = np.ascontiguousarray(got["u"][::-1])[::-1]
        got["dc"] = got["dc"].astype(">f8")
        for x in got.values():
            x.flags.writeable = False
        return got


class Lists(Right):
    def run(self, case):
        return {name: x.tolist() for name, x in super().run(case).items()}


def right(case):
    """Run the right layer, as a function that knows one level alone."""
    if case.level != "neuron":
        raise Unsupported("it is a neuron")
    return Right().run(case)
