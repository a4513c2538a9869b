"""The adapter of a PyTorch module, taken as it is: a neuron whose constants are its own.

A case's conventions are ignored, as a module has no common way to set them: the cases are made for
the paper's numbers, or for those that are declared. Nothing says how a
module is called either, so three ways are tried on a small input, in this order:

1. on the whole sequence: `m(c)`, with currents (T, N);
2. step by step with its state: `m(c_t, *state)`, which returns `(o_t, *state)`. The first state is
   what `m.reset_mem()` or another method of `STARTS` returns, else None, else zeros;
3. step by step, with the state inside: `m(c_t)`.

If all fail, they are tried with currents (T, 1, N), whose second axis is a batch of one. Of what a
call returns, the spikes come first. The first way is taken whose spikes have the currents' shape,
and depend on earlier steps and on no later ones. Before each run the module and
its parts are reset, where they have one of the methods `RESETS` without arguments, as a training
loop does between batches.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from refsnn.ops import Array
from refsnn.oracle.adapters import Unsupported

#: attributes that may be the membrane potential, of the module, of its parts, or of its state
NAMES = ("v", "mem", "u", "u_pre", "membrane", "potential")
#: methods without arguments that may return the first state; snnTorch's init_leaky is another
STARTS = ("reset_mem", "init_mem", "init_state", "init_hidden")
#: methods without arguments that forget the state; the second is snnTorch's
RESETS = ("reset", "reset_mem")
BATCHED = ", with a batch axis"
STEPS, NEURONS = 4, 256  # of the input on which it is tried
NEAR = 1e-2  # by how much equal distances may differ, relative to their size

#: potentials (T, N) by their names
Potentials = dict[str, torch.Tensor]
#: calls the module with currents (T, N); returns the spikes, and what may be potentials
Way = Callable[[nn.Module, torch.Tensor], tuple[torch.Tensor, Potentials]]


class Module:
    """Run cases of level neuron through a module, or through those that a function makes.

    With `fresh`, each case gets a new module. ValueError if no way to call it is found.
    """

    levels = ("neuron",)
    has_own_numbers = True

    def __init__(self, make: Callable[[], nn.Module], name: str, *, fresh: bool) -> None:
        self.make, self.fresh = make, fresh
        self.module, self.left = make(), 0  # runs that are left of the case
        kind = type(self.module)  # its file is where to look for the line of an error
        self.source = None if kind.__module__.startswith("torch.") else kind.forward
        self.conventions = getattr(self.module, "conventions", None)
        self.like = floats(self.module)
        said, self.way, self.kinds = find_way(self.module, trial(self.like))
        called = dict.fromkeys(reset.__name__ for reset in resets(self.module))
        words = [said, *(f"{n}() before each run" for n in called if f"{n}()" not in said)]
        words += [f"{own} is {kind}" for kind, own in self.kinds.items() if own != kind]
        self.name = f"{name} ({', '.join(words)})"
        self.omits = (*(name for name in ("u_pre", "u") if name not in self.kinds), "d[!c]*")

    def run(self, case: Any) -> dict[str, torch.Tensor]:
        """Return the spikes, dL/dc, and the potentials that the module shows."""
        model = case.conventions.get("neuron_model", "lif")
        if model != "lif":
            raise Unsupported(
                f"which parameters of a module are those of {model}, an object with run(case) says"
            )
        if not self.left:
            self.module = self.make() if self.fresh else self.module
            self.left = case.repeat
        self.left -= 1
        try:
            return self.outputs(case.inputs["c"], case.inputs["do"])
        except BaseException:
            self.left = 0
            raise

    def outputs(self, given: Array, do: Array) -> dict[str, torch.Tensor]:
        for reset in resets(self.module):
            reset()
        c = torch.tensor(given, dtype=self.like.dtype, device=self.like.device, requires_grad=True)
        o, potentials = self.way(self.module, c)
        if not o.requires_grad:
            raise ValueError("its spikes have no gradient with respect to its input")
        (dc,) = torch.autograd.grad(o, c, torch.as_tensor(do).to(o), materialize_grads=True)
        shown = {kind: potentials[name] for kind, name in self.kinds.items() if name in potentials}
        return {name: x.detach().cpu() for name, x in {"o": o, "dc": dc, **shown}.items()}


def floats(module: nn.Module) -> torch.Tensor:
    """Return a tensor of the dtype and device that the module computes with."""
    own = [x for x in (*module.parameters(), *module.buffers()) if x.is_floating_point()]
    return own[0] if own else torch.empty(0)


def trial(like: torch.Tensor) -> torch.Tensor:
    """Return constant currents (T, N), of which some reach a threshold of any usual size."""
    return torch.logspace(-3, 3, NEURONS).to(like).expand(STEPS, -1).contiguous()


def find_way(module: nn.Module, c: torch.Tensor) -> tuple[str, Way, dict[str, str]]:
    """Return in words how the module is called, that way, and which potentials it shows.

    They are names by their kinds, u_pre and u. Each attempt has a copy of the module.
    """
    faults: list[str] = []
    for said, way in ways(module):
        try:
            with torch.no_grad():
                o, potentials = way(copy.deepcopy(module), c)
                if o.shape != c.shape:
                    raise ValueError(f"it returns shape {tuple(o.shape)} for {tuple(c.shape)}")
                if not changes(way, module, o, c, slice(0, 1), slice(1, None)):
                    raise ValueError("its spikes do not depend on earlier steps")
                if changes(way, module, o, c, slice(-1, None), slice(0, -1)):
                    raise ValueError("its spikes depend on later steps")
        except Exception as error:
            fault = " ".join(str(error).split()) or type(error).__name__
            if not said.endswith(BATCHED) or not any(text.endswith(fault) for text in faults):
                faults.append(f"{said}: {fault}")
        else:
            kinds: dict[str, str] = {}
            for name, v in potentials.items():
                kind = kind_of(v, o, c)
                if kind is not None:
                    kinds.setdefault(kind, name)
            return said, way, kinds
    told = "; ".join(faults)
    raise ValueError(f"no way to call this module works, so give an object with run(case): {told}")


def ways(module: nn.Module) -> Iterator[tuple[str, Way]]:
    """Yield the ways to call a module, in words and as functions, in the order of the trial."""
    found = list(plain_ways(module))
    yield from found
    yield from ((said + BATCHED, partial(batched, way=way)) for said, way in found)


def plain_ways(module: nn.Module) -> Iterator[tuple[str, Way]]:
    """Yield the ways without a batch axis."""
    yield "called on the whole sequence", whole
    for name in (*STARTS, f"init_{type(module).__name__.lower()}"):
        start = getattr(module, name, None)
        if inspect.isroutine(start) and not needed(start):
            said = f"called step by step with the state of {name}()"
            yield said, partial(with_state, start=partial(made_by, name))
    yield "called step by step with a state, at first None", partial(with_state, start=nothing)
    yield "called step by step with a state, at first zeros", partial(with_state, start=zeros)
    yield "called step by step", inside


def batched(module: nn.Module, c: torch.Tensor, way: Way) -> tuple[torch.Tensor, Potentials]:
    """Call the module in some way with a batch of one, (T, 1, N)."""
    o, potentials = way(module, c[:, None])
    if o.ndim != 3:
        raise ValueError(f"it returns shape {tuple(o.shape)} for {tuple(c[:, None].shape)}")
    return o.squeeze(1), {name: x.squeeze(1) for name, x in potentials.items()}


def made_by(name: str, module: nn.Module, c_t: torch.Tensor) -> list[Any]:
    state = getattr(module, name)()
    if state is None:
        raise TypeError("it returns no state")
    return list(state) if type(state) in (tuple, list) else [state]


def nothing(module: nn.Module, c_t: torch.Tensor) -> list[Any]:
    return [None]


def zeros(module: nn.Module, c_t: torch.Tensor) -> list[Any]:
    return [torch.zeros_like(c_t)]


def whole(module: nn.Module, c: torch.Tensor) -> tuple[torch.Tensor, Potentials]:
    """Call the module on the whole sequence."""
    o = spikes(module(c))
    found = attributes(module.modules(), c, [*NAMES, *(f"{name}_seq" for name in NAMES)])
    return o, {name: x.detach() for name, x in found.items()}


def with_state(
    module: nn.Module,
    c: torch.Tensor,
    start: Callable[[nn.Module, torch.Tensor], list[Any]],
) -> tuple[torch.Tensor, Potentials]:
    """Call the module step by step, with the state that the step before returned."""
    fired, steps, state = [], [], start(module, c[0])
    for c_t in c:
        returned = module(c_t, *state)
        if not isinstance(returned, tuple | list) or len(returned) < 2:
            raise TypeError(f"it returns {type(returned).__name__}, not spikes and a state")
        o, *state = returned
        fired.append(o)
        steps.append(attributes(state, c_t, NAMES) | tensors(state, c_t))
    return torch.stack(fired), stacked(steps)


def inside(module: nn.Module, c: torch.Tensor) -> tuple[torch.Tensor, Potentials]:
    """Call the module step by step, with its state inside."""
    fired, steps = [], []
    for c_t in c:
        fired.append(spikes(module(c_t)))
        steps.append(attributes(module.modules(), c_t, NAMES))
    return torch.stack(fired), stacked(steps)


def spikes(returned: Any) -> torch.Tensor:
    """Return the spikes, which are the first of several things that a module returns."""
    o = returned[0] if isinstance(returned, tuple | list) and returned else returned
    if not isinstance(o, torch.Tensor):
        raise TypeError(f"it returns {type(o).__name__}, not a tensor")
    return o


def attributes(holders: Any, c: torch.Tensor, names: Any) -> Potentials:
    """Return the attributes of these names that are tensors of c's shape, the first of each."""
    found: Potentials = {}
    for holder in holders:
        for name in names:
            x = getattr(holder, name, None)
            if isinstance(x, torch.Tensor) and x.shape == c.shape:
                found.setdefault(name, x)
    return found


def tensors(state: list[Any], c_t: torch.Tensor) -> Potentials:
    """Return the parts of a state that are tensors of c_t's shape."""
    one = len(state) == 1
    return {
        "the state" if one else f"state {i + 1}": x
        for i, x in enumerate(state)
        if isinstance(x, torch.Tensor) and x.shape == c_t.shape
    }


def stacked(steps: list[Potentials]) -> Potentials:
    """Return as (T, N) what every step has."""
    names = [name for name in steps[0] if all(name in step for step in steps)]
    return {name: torch.stack([step[name].detach() for step in steps]) for name in names}


def changes(
    way: Way, module: nn.Module, o: torch.Tensor, c: torch.Tensor, at: slice, seen: slice
) -> bool:
    """Tell whether spikes of the steps `seen` change if there is no current in the steps `at`."""
    other = c.clone()
    other[at] = 0
    return not torch.equal(way(copy.deepcopy(module), other)[0][seen], o[seen])


def kind_of(v: torch.Tensor, o: torch.Tensor, c: torch.Tensor) -> str | None:
    """Return whether potentials are those before firing, u_pre, or after the reset, u.

    If a threshold divides those that fire from the others, they are u_pre. If all that fire have
    one value, or in the first step from rest lie below what their current gives by one amount,
    they are u: the reset is to a value, or by subtraction. None if they are neither.
    """
    fired = o > 0
    if fired.all() or not fired.any():
        return None
    if v[fired].min() > v[~fired].max():
        return "u_pre"
    if equal(v[fired]) and not equal(v[~fired]):
        return "u"
    first, silent = fired[0], ~fired[0]
    if not first.any() or not silent.any():
        return None
    amount = (v[0] / c[0])[silent].median() * c[0][first] - v[0][first]
    return "u" if amount.min() > 0 and equal(amount) else None


def equal(values: torch.Tensor) -> bool:
    """Tell whether values are one, up to rounding."""
    return bool(values.max() - values.min() <= NEAR * values.abs().max())


def needed(function: Any) -> list[str]:
    """Return the arguments that a function needs."""
    return [
        p.name
        for p in inspect.signature(function).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
    ]


def resets(module: nn.Module) -> list[Callable[[], Any]]:
    """Return the methods of the module and its parts that forget the state."""
    found = [getattr(part, name, None) for part in module.modules() for name in RESETS]
    return [reset for reset in found if inspect.isroutine(reset) and not needed(reset)]
