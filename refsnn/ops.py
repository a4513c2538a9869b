"""The one door to the computing: every operation, in NumPy or with Numba kernels.

What is above this module takes an `Ops` as an argument and computes with nothing
else, so that the two sets can stand in for each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from refsnn.equations import batchnorm, conv, lif, linear, loss, pool, shortcut, validate
from refsnn.equations.batchnorm import BatchNorm, BatchNormCache, Running
from refsnn.equations.conv import Conv, ConvCache
from refsnn.equations.lif import LIF, LIFCache
from refsnn.equations.pool import AvgPool, AvgPoolCache
from refsnn.equations.shortcut import METHODS, Pullback
from refsnn.equations.surrogate import SURROGATES, Array, Surrogate, make_surrogate

__all__ = [
    "METHODS", "NUMPY", "SURROGATES", "Array", "AvgPool", "AvgPoolCache", "BatchNorm",
    "BatchNormCache", "Conv", "ConvCache", "LIF", "LIFCache", "Ops", "Pullback", "Running",
    "Surrogate", "get_ops", "make_surrogate", "validate",
]  # fmt: skip


@dataclass(frozen=True)
class Ops:
    """Each field is the function of that name in `equations`, or its twin in `kernels`."""

    name: str
    lif_forward: Callable[..., Any]
    lif_backward: Callable[..., Any]
    conv_forward: Callable[..., Any]
    conv_backward: Callable[..., Any]
    conv_weight_gradient: Callable[..., Any]
    batchnorm_forward: Callable[..., Any]
    batchnorm_backward: Callable[..., Any]
    avgpool_forward: Callable[..., Any]
    avgpool_backward: Callable[..., Any]
    global_avgpool_forward: Callable[..., Any]
    global_avgpool_backward: Callable[..., Any]
    linear_forward: Callable[..., Any]
    linear_backward: Callable[..., Any]
    cross_entropy_forward: Callable[..., Any]
    side_coefficient: Callable[..., float]
    objective_forward: Callable[..., Any]
    objective_backward: Callable[..., Any]
    shortcut_backward: Callable[..., Any]


NUMPY = Ops(
    name="numpy",
    lif_forward=lif.lif_forward,
    lif_backward=lif.lif_backward,
    conv_forward=conv.conv_forward,
    conv_backward=conv.conv_backward,
    conv_weight_gradient=conv.conv_weight_gradient,
    batchnorm_forward=batchnorm.batchnorm_forward,
    batchnorm_backward=batchnorm.batchnorm_backward,
    avgpool_forward=pool.avgpool_forward,
    avgpool_backward=pool.avgpool_backward,
    global_avgpool_forward=pool.global_avgpool_forward,
    global_avgpool_backward=pool.global_avgpool_backward,
    linear_forward=linear.linear_forward,
    linear_backward=linear.linear_backward,
    cross_entropy_forward=loss.cross_entropy_forward,
    side_coefficient=shortcut.side_coefficient,
    objective_forward=shortcut.objective_forward,
    objective_backward=shortcut.objective_backward,
    shortcut_backward=shortcut.shortcut_backward,
)


@cache
def get_ops(name: str) -> Ops:
    """`numpy` or `numba`; Numba is imported only when it is asked for."""
    validate.one_of("ops", name, ("numpy", "numba"))
    if name == "numpy":
        return NUMPY
    from refsnn.kernels import conv, lif, pool

    return replace(
        NUMPY,
        name="numba",
        lif_forward=lif.lif_forward,
        lif_backward=lif.lif_backward,
        conv_forward=conv.conv_forward,
        conv_backward=conv.conv_backward,
        conv_weight_gradient=conv.conv_weight_gradient,
        avgpool_forward=pool.avgpool_forward,
        avgpool_backward=pool.avgpool_backward,
    )
