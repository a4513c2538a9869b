"""Checks of a layer of one's own: its hand-written backward against its forward.

`forward(**inputs) -> (y, cache)`, y an array or a tuple of arrays; `backward(dy, cache) ->
gradients`, dy in y's form, the gradients as a tuple in the order of `inputs` (None for those that
are not checked) or as a dict by name. Three questions, each for every named input:

values: finite, of the right shape and dtype; nothing given is written, nothing kept between calls.
differences: d<dy, f(x)> along random directions, by finite differences, is that of the gradient.
    A step has no derivative, so a spiking layer must fire its surrogate's primitive here.
adjoint: <dy, J v> = <J^T dy, v> to rounding, with J v from `jvp(tangents, cache)`, or from an
    input in which y is affine. Holds for a spiking layer with its surrogate too, but says only that
    both modes agree: a wrong slope in both stays unseen.
"""

import sys
from types import ModuleType
from typing import Any

from refsnn.gradcheck.check import assert_gradients, gradcheck
from refsnn.gradcheck.report import Check, Report

__all__ = ["Check", "Report", "assert_gradients", "gradcheck"]


class Callable(ModuleType):
    """A module that is also the function of its name, so that `refsnn.gradcheck(...)` works."""

    def __call__(self, *args: Any, **kwargs: Any) -> Report:
        """Check gradients, as `gradcheck` does."""
        return gradcheck(*args, **kwargs)


sys.modules[__name__].__class__ = Callable
