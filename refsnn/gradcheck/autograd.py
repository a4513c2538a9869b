"""A PyTorch function as a layer, whose gradient is autograd's."""

from collections.abc import Callable
from typing import Any

from refsnn.gradcheck.layer import Array


def by_autograd(function: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `forward` and `backward` of a PyTorch function, for `gradcheck`.

    `function` takes the inputs as tensors by name, and returns a tensor or a tuple of tensors.
    """
    import torch

    def forward(**inputs: Array) -> tuple[Any, Any]:
        tensors = {
            name: torch.tensor(x, requires_grad=x.dtype.kind == "f") for name, x in inputs.items()
        }
        y = function(**tensors)
        if isinstance(y, tuple):
            return tuple(part.detach().numpy() for part in y), (tensors, y)
        return y.detach().numpy(), (tensors, y)

    def backward(dy: Any, cache: Any) -> dict[str, Array]:
        tensors, y = cache
        wrt = {name: x for name, x in tensors.items() if x.requires_grad}
        y, dy = (y, dy) if isinstance(y, tuple) else ((y,), (dy,))
        grads = torch.autograd.grad(
            y,
            list(wrt.values()),
            [torch.as_tensor(part) for part in dy],
            retain_graph=True,  # gradcheck calls backward several times with one cache
            materialize_grads=True,
        )
        return {name: g.numpy() for name, g in zip(wrt, grads, strict=True)}

    return forward, backward
