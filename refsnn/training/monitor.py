"""Figures of an iteration, and the place where a number is first NaN or infinite."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from refsnn.network import Forward, Params, is_neuron, is_norm
from refsnn.network.model import neurons, recomputed_neurons
from refsnn.ops import Array


class Diverged(ArithmeticError):
    """Raised if a run's loss, gradients, parameters, optimizer or figures are NaN or infinite."""


def firing_rates(run: Forward) -> dict[str, float]:
    """Compute each layer's firing rate, spikes per neuron and step."""
    spikes = {neuron.name: neuron.o_seq for neuron in neurons(run)}
    hidden = (head.hidden for head in run.heads if head.hidden is not None)
    spikes |= {layer.name: layer.lif.o_seq for layer in hidden}
    return {name: run.context.ops.count_spikes(x) / x.size for name, x in spikes.items()}


def norm(x: Array) -> float:
    """Return the Euclidean norm, in float64 and scaled so that no square leaves its range."""
    largest = float(np.abs(x).max(initial=0))
    if not 0 < largest < np.inf:
        return largest
    return largest * float(np.sqrt(np.square(np.divide(x, largest, dtype=np.float64)).sum()))


def first_gradient_norm(grads: Params) -> float:
    """Return the norm of dL/dW_1 (Eq. 8, 9), the gradient that vanishes in deep networks."""
    return norm(grads["stem.conv0.weight"])


def weight_gradient_norms(grads: Params) -> dict[str, float]:
    """Return the norm of the gradient of each layer's weights, from input to output."""
    return {
        name.removesuffix(".weight"): norm(g)
        for name, g in grads.items()
        if name.endswith(".weight") and not is_norm(name) and not is_neuron(name)
    }


def require_finite(iteration: int, loss: float, run: Forward, grads: Params) -> None:
    """Raise Diverged, naming the iteration and the layer, if any value is NaN or infinite."""
    known = (*grads.values(), *run.buffers.values())
    if not np.isfinite(loss) or not all(finite(x) for x in known):
        raise_first(iteration, loss, in_order_of_computing(run, loss, grads))


def require_finite_update(iteration: int, loss: float, new: Params, moments: Params) -> None:
    """Raise Diverged if a parameter or a moment is NaN or infinite after the update.

    The square of a large gradient overflows before the gradient does. AdamW divides by its root,
    so the parameter would never move again.
    """
    if not all(finite(x) for x in (*new.values(), *moments.values())):
        raise_first(iteration, loss, by_parameter(new, moments))


def require_finite_figures(when: str, figures: dict[str, Any]) -> None:
    """Raise Diverged if a figure is NaN or infinite, as a sum of finite losses may be."""
    for name, value in figures.items():
        if isinstance(value, float) and not np.isfinite(value):
            raise Diverged(f"{when}: {name.replace('_', ' ')} {value}")


def by_parameter(new: Params, moments: Params) -> Iterator[tuple[str, Array]]:
    """Yield each parameter after the update, and its moments."""
    for name, x in new.items():
        yield f"the update of {name}", x
        for moment, values in moments.items():
            if moment.endswith(f".{name}"):
                yield f"the optimizer's {moment}", values


def raise_first(iteration: int, loss: float, values: Iterable[tuple[str, Array]]) -> None:
    for where, x in values:
        if not finite(x):
            raise Diverged(
                f"iteration {iteration}: loss {loss}; the first NaN or infinity is in {where}"
            )


def finite(x: Array) -> bool:
    """Tell whether all elements are finite; a finite sum, which is fast, suffices."""
    return bool(np.isfinite(x.sum()) or np.isfinite(x).all())


def in_order_of_computing(run: Forward, loss: float, grads: Params) -> Iterator[tuple[str, Array]]:
    """Yield the values of layers from input to output, then gradients from output to input."""
    for neuron in recomputed_neurons(run):
        for name, running in zip(neuron.norms, neuron.running, strict=True):
            yield from ((name, x) for x in running)
        yield neuron.name, neuron.cache.lif.u_pre_seq
    for head, logits in zip(run.heads, run.branches, strict=True):
        if head.hidden is not None:
            yield head.hidden.name, head.hidden.lif.u_pre_seq
        yield f"{head.name}.fc", logits
    yield "the loss", np.asarray(loss)
    for name in reversed(list(grads)):
        yield f"the gradient of {name}", grads[name]
