"""The one door to the computing: every operation, in NumPy or with Numba kernels.

What is above this module takes an `Ops` as an argument and computes with nothing
else, so that the two sets can stand in for each other.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np

from refsnn.equations import batchnorm, conv, lif, linear, loss, pool, shortcut, update, validate
from refsnn.equations.batchnorm import (
    BatchNorm,
    BatchNormCache,
    NormGrads,
    NormInput,
    Running,
)
from refsnn.equations.conv import Conv, ConvCache
from refsnn.equations.lif import LIF, LIFCache, LIFGrads
from refsnn.equations.pool import AvgPool, AvgPoolCache
from refsnn.equations.shortcut import METHODS, Pullback
from refsnn.equations.surrogate import SURROGATES, Array, Surrogate, make_surrogate

__all__ = [
    "CONV_METHODS",
    "METHODS",
    "NUMPY",
    "SURROGATES",
    "Array",
    "AvgPool",
    "AvgPoolCache",
    "BatchNorm",
    "BatchNormCache",
    "Conv",
    "ConvCache",
    "LIF",
    "LIFCache",
    "LIFGrads",
    "NormGrads",
    "NormInput",
    "Ops",
    "Pullback",
    "Running",
    "Surrogate",
    "get_ops",
    "make_surrogate",
    "validate",
]


CONV_METHODS = ("auto", "direct", "dense", "event", "winograd")


@dataclass(frozen=True)
class Ops:
    """Each field is the function of that name in `equations`, or its twin in `kernels`.

    The last four are of the kernels alone: batch norm, sum and LIF in one pass over float32
    (None: they are computed one after the other), the surrogates that this pass knows, and which
    method a convolution takes.
    """

    name: str
    lif_forward: Callable[..., Any]
    lif_backward: Callable[..., Any]
    conv_forward: Callable[..., Any]
    conv_input_gradient: Callable[..., Any]
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
    sgd_update: Callable[..., Any]
    adamw_update: Callable[..., Any]
    add_into: Callable[..., None]
    norm_neuron_forward: Callable[..., Any] | None = None
    norm_neuron_backward: Callable[..., Any] | None = None
    fused_surrogates: tuple[type[Surrogate], ...] = ()
    conv_choice: Callable[..., str] | None = None

    def fuses(self, dtype: Any, p: LIF, norm: BatchNorm) -> bool:
        """Tell whether norm_neuron_forward and _backward serve: in float32, for the classes that
        they know alone, since a subclass may compute otherwise."""
        return (
            self.norm_neuron_forward is not None
            and dtype == np.float32
            and type(p) is LIF
            and type(norm) is BatchNorm
            and type(p.surrogate) in self.fused_surrogates
            and not p.smooth
        )


def add_into(total: Array, x: Array) -> None:
    """total += x: gradients that meet."""
    total += x


NUMPY = Ops(
    name="numpy",
    lif_forward=lif.lif_forward,
    lif_backward=lif.lif_backward,
    conv_forward=conv.conv_forward,
    conv_input_gradient=conv.conv_input_gradient,
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
    sgd_update=update.sgd_update,
    adamw_update=update.adamw_update,
    add_into=add_into,
)


@cache
def get_ops(name: str, conv_method: str = "auto") -> Ops:
    """`numpy` or `numba`; Numba is imported only when it is asked for.

    `conv_method` forces the kernels' convolutions in float32 (see `kernels.conv`).
    """
    validate.one_of("ops", name, ("numpy", "numba"))
    validate.one_of("conv", conv_method, CONV_METHODS)
    if name == "numpy":
        return NUMPY
    from refsnn.kernels import add, conv, lif, norm_neuron, pool, slopes, update

    return replace(
        NUMPY,
        name="numba",
        lif_forward=lif.lif_forward,
        lif_backward=lif.lif_backward,
        conv_forward=partial(conv.conv_forward, method=conv_method),
        conv_input_gradient=partial(conv.conv_input_gradient, method=conv_method),
        conv_weight_gradient=partial(conv.conv_weight_gradient, method=conv_method),
        avgpool_forward=pool.avgpool_forward,
        avgpool_backward=pool.avgpool_backward,
        global_avgpool_forward=pool.global_avgpool_forward,
        sgd_update=update.sgd_update,
        adamw_update=update.adamw_update,
        add_into=add.add_into,
        norm_neuron_forward=norm_neuron.norm_neuron_forward,
        norm_neuron_backward=norm_neuron.norm_neuron_backward,
        fused_surrogates=slopes.SURROGATES,
        conv_choice=partial(conv.conv_choice, method=conv_method),
    )
