"""What is recorded of a step, and where a number first went wrong."""

from collections.abc import Iterator

import numpy as np

from refsnn.network import Forward, Params, neuron_caches
from refsnn.network.layers import ConvNormCache
from refsnn.network.model import layers
from refsnn.ops import Array


class Diverged(ArithmeticError):
    """The loss or a gradient is NaN or infinite."""


def firing_rates(run: Forward) -> dict[str, float]:
    """Mean spikes a neuron and step, for each layer of neurons."""
    return {name: float(cache.o_seq.mean()) for name, cache in neuron_caches(run)}


def norm(x: Array) -> float:
    """Euclidean norm, in float64."""
    return float(np.sqrt(np.square(x, dtype=np.float64).sum()))


def first_gradient_norm(grads: Params) -> float:
    """The norm of dL/dW_1 (Eq. 8, 9), the gradient that vanishes."""
    return norm(grads["stem.conv0.weight"])


def require_finite(iteration: int, loss: float, run: Forward, grads: Params, new: Params) -> None:
    """Diverged, naming the iteration and the layer, where anything is NaN or infinite.

    `new` are the parameters after the update.
    """
    known = (*grads.values(), *new.values(), *run.buffers.values())
    if np.isfinite(loss) and all(finite(x) for x in known):
        return
    values = in_order_of_computing(run, loss, grads, new)
    where = next(name for name, x in values if not finite(x))
    raise Diverged(f"iteration {iteration}: loss {loss}; the first NaN or infinity is in {where}")


def finite(x: Array) -> bool:
    return bool(np.isfinite(x).all())


def in_order_of_computing(
    run: Forward, loss: float, grads: Params, new: Params
) -> Iterator[tuple[str, Array]]:
    """Layers' values from input to output, then gradients from output to input, then the update."""
    for layer in layers(run):
        if isinstance(layer, ConvNormCache):
            yield layer.norm_name, layer.norm.x_hat
            yield layer.norm_name, layer.running.var
        else:
            yield layer.name, layer.lif.u_pre_seq
    for head, logits in zip(run.heads, run.branches, strict=True):
        yield f"{head.name}.fc", logits
    yield "the loss", np.asarray(loss)
    for name in reversed(list(grads)):
        yield f"the gradient of {name}", grads[name]
    for name, value in new.items():
        yield f"the update of {name}", value
