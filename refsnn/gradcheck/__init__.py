"""Checks of a layer's hand-written backward pass against its forward pass.

`forward(**inputs) -> (y, cache)`, where y is an array or a tuple of arrays; `backward(dy, cache) ->
gradients`, where dy has y's form, and the gradients are a tuple in the order of `inputs` (None for
those that are not checked) or a dict by name. There are three kinds of checks, each for every named
input:

values: results are finite and of the right shape and dtype; arguments are not written; no state is
    kept between calls.
differences: the derivative of <dy, f(x)> along random directions, by finite differences, is that
    of the gradient. A step function has no derivative, so a spiking layer must fire its
    surrogate's primitive here. What the gradient takes for a constant, such as the spikes of a
    detached reset, is `stop_gradient(x)` in `forward`.
adjoint: <dy, J v> = <J^T dy, v> up to rounding, with J v from `jvp(tangents, cache)`, or from an
    input in which y is affine. It holds for a spiking layer with its surrogate too, but only shows
    that both modes agree: a wrong slope in both goes unnoticed.
"""

import sys
from types import ModuleType
from typing import Any

from refsnn.gradcheck.autograd import by_autograd
from refsnn.gradcheck.check import assert_gradients, gradcheck
from refsnn.gradcheck.frozen import stop_gradient
from refsnn.gradcheck.report import Check, Report

__all__ = ["Check", "Report", "assert_gradients", "by_autograd", "gradcheck", "stop_gradient"]


class Callable(ModuleType):
    """A module that is also the function of its name, so that `refsnn.gradcheck(...)` works."""

    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        """Check gradients: see `refsnn.gradcheck.gradcheck` for the arguments."""
        return gradcheck(*args, **kwargs)


sys.modules[__name__].__class__ = Callable
