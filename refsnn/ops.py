"""Every operation, in NumPy or with Numba kernels, as an `Ops`.

Networks and training take an `Ops` as an argument and compute with it alone, so that one set can
replace the other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Protocol

import numpy as np

from refsnn.equations import (
    batchnorm,
    conv,
    lif,
    linear,
    pool,
    potentials,
    shortcut,
    update,
    validate,
)
from refsnn.equations.batchnorm import (
    BatchNorm,
    BatchNormCache,
    NormGrads,
    NormInput,
    Running,
    along_steps,
)
from refsnn.equations.conv import Conv, ConvCache
from refsnn.equations.distillation import Distillation, feature_loss
from refsnn.equations.lif import (
    LIF,
    RESET_GRADIENTS,
    RESETS,
    LIFCache,
    LIFGrads,
    reset,
    reset_slopes,
)
from refsnn.equations.linear import LinearCache
from refsnn.equations.loss import CROSS_ENTROPY, Loss, is_per_step, loss_value
from refsnn.equations.neurons import GLIF, MPBN, NEURONS, PLIF, Diet, Neuron, RealSpike
from refsnn.equations.neurons.gated import Constants, Gated, GatedCache, is_gated
from refsnn.equations.neurons.mpbn import NORM as MPBN_NORM
from refsnn.equations.neurons.mpbn import MPBNCache, as_images
from refsnn.equations.neurons.sigmoid import sigmoid
from refsnn.equations.neurons.thresholds import Thresholds, threshold_of_mpbn
from refsnn.equations.norms import BNTT, NORMS, PSPBN, TEBN, Norm
from refsnn.equations.norms.folded import Folded, FoldedByStep
from refsnn.equations.norms.psp import PSPCache, psp_backward, psp_forward
from refsnn.equations.pool import AvgPool, AvgPoolCache
from refsnn.equations.potentials import (
    POTENTIAL_LOSSES,
    DistributionLoss,
    IMLoss,
    Moments,
    PotentialLoss,
)
from refsnn.equations.sequence import is_still
from refsnn.equations.sew import join_backward, join_forward
from refsnn.equations.shape_search import ShapeSearch, choose_shape
from refsnn.equations.shortcut import METHODS, ObjectiveCache, Pullback
from refsnn.equations.surrogate import EDGES, SURROGATES, Array, Surrogate, make_surrogate
from refsnn.equations.surrogate import slopes as slopes_at
from refsnn.equations.tet import TET

__all__ = [
    "BNTT",
    "CONV_METHODS",
    "CROSS_ENTROPY",
    "EDGES",
    "LOSSES",
    "GLIF",
    "METHODS",
    "MPBN",
    "MPBN_NORM",
    "NEURONS",
    "NORMS",
    "NUMPY",
    "PLIF",
    "PSPBN",
    "POTENTIAL_LOSSES",
    "Distillation",
    "DistributionLoss",
    "IMLoss",
    "PotentialLoss",
    "ShapeSearch",
    "along_steps",
    "as_images",
    "choose_shape",
    "RESETS",
    "RealSpike",
    "RESET_GRADIENTS",
    "SURROGATES",
    "TEBN",
    "TET",
    "Array",
    "AvgPool",
    "AvgPoolCache",
    "BatchNorm",
    "BatchNormCache",
    "Conv",
    "Constants",
    "ConvCache",
    "Diet",
    "Folded",
    "FoldedByStep",
    "FusedCache",
    "Gated",
    "GatedCache",
    "LIF",
    "LIFCache",
    "LIFGrads",
    "LinearCache",
    "Loss",
    "MPBNCache",
    "Neuron",
    "Norm",
    "NormGrads",
    "NormInput",
    "ObjectiveCache",
    "Ops",
    "PSPCache",
    "Precompile",
    "Pullback",
    "Running",
    "Surrogate",
    "Thresholds",
    "feature_loss",
    "get_ops",
    "is_gated",
    "is_per_step",
    "is_still",
    "loss_value",
    "make_surrogate",
    "psp_backward",
    "psp_forward",
    "reset",
    "reset_slopes",
    "sigmoid",
    "slopes_at",
    "threshold_of_mpbn",
    "validate",
]


LOSSES = ("cross_entropy", "tet")  # by name
CONV_METHODS = ("auto", "direct", "dense", "event", "lookup", "winograd")


class LIFForward(Protocol):
    """c_seq (T, ...) and u0 (...), or None for zeros -> o_seq (T, ...)."""

    def __call__(self, c_seq: Array, u0: Array | None, p: LIF, /) -> tuple[Array, LIFCache]: ...


class LIFBackward(Protocol):
    """do_seq (T, ...) -> dL/dc_seq (T, ...), dL/du0 (...), dL/dtau and dL/dv_th."""

    def __call__(
        self,
        do_seq: Array,
        cache: LIFCache,
        /,
        constants: bool = True,
        source_seq: Array | None = None,
    ) -> LIFGrads: ...


class NeuronForward(Protocol):
    """c_seq (T, N, ..., C), parameters and statistics of a layer -> y_seq (T, N, ..., C)."""

    def __call__(
        self,
        neuron: Neuron,
        c_seq: Array,
        params: dict[str, Array],
        running: Running | None,
        p: LIF,
        training: bool,
        /,
    ) -> tuple[Array, Running | None, Any]: ...


class NeuronBackward(Protocol):
    """dy_seq (T, N, ..., C) -> dL/dc_seq (T, N, ..., C), and the parameters' gradients."""

    def __call__(
        self, neuron: Neuron, dy_seq: Array, cache: Any, /
    ) -> tuple[Array, dict[str, Array]]: ...


class ConvForward(Protocol):
    """x (N, H, W, C_in) and w (kh, kw, C_in, C_out) -> y (N, H', W', C_out)."""

    def __call__(self, x: Array, w: Array, p: Conv, /) -> tuple[Array, ConvCache]: ...


class ConvGradient(Protocol):
    """dy (N, H', W', C_out) -> dx (N, H, W, C_in), or dw (kh, kw, C_in, C_out)."""

    def __call__(self, dy: Array, cache: ConvCache, /) -> Array: ...


class ConvAddInputGradient(Protocol):
    """total (N, H, W, C_in) += dx, from dy (N, H', W', C_out)."""

    def __call__(self, dy: Array, cache: ConvCache, total: Array, /) -> None: ...


class ConvChoice(Protocol):
    """A direction, x (N, H, W, C_in) and w (kh, kw, C_in, C_out) -> one of CONV_METHODS."""

    def __call__(self, direction: str, x: Array, w: Array, p: Conv, /) -> str: ...


class BatchNormForward(Protocol):
    """x_seq (T, N, H, W, C), gamma and beta (C,) -> y_seq (T, N, H, W, C), statistics after it."""

    def __call__(
        self,
        x_seq: Array,
        gamma: Array,
        beta: Array,
        running: Running,
        p: BatchNorm,
        training: bool,
        /,
    ) -> tuple[Array, Running, Any]: ...


class BatchNormBackward(Protocol):
    """dy_seq (T, N, H, W, C) -> dx_seq (T, N, H, W, C), dgamma and dbeta (C,)."""

    def __call__(self, dy_seq: Array, cache: Any, /) -> NormGrads: ...


class AvgPoolForward(Protocol):
    """x (N, H, W, C) -> y (N, H', W', C)."""

    def __call__(self, x: Array, p: AvgPool, /) -> tuple[Array, AvgPoolCache]: ...


class AvgPoolBackward(Protocol):
    """dy (N, H', W', C) -> dx (N, H, W, C)."""

    def __call__(self, dy: Array, cache: AvgPoolCache, /) -> Array: ...


class GlobalAvgPoolForward(Protocol):
    """x (N, H, W, C) -> y (N, C), and the shape of x."""

    def __call__(self, x: Array, /) -> tuple[Array, tuple[int, ...]]: ...


class GlobalAvgPoolBackward(Protocol):
    """dy (N, C) -> dx of the shape (N, H, W, C)."""

    def __call__(self, dy: Array, shape: tuple[int, ...], /) -> Array: ...


class JoinForward(Protocol):
    """Spikes a and s (T, N, H, W, C) of a block and its skip -> what they are joined to."""

    def __call__(self, a_seq: Array, s_seq: Array, kind: str, dtype: Any, /) -> Array: ...


class JoinBackward(Protocol):
    """dy (T, N, H, W, C) -> the gradients at both spikes."""

    def __call__(
        self, dy_seq: Array, a_seq: Array, s_seq: Array, kind: str, /
    ) -> tuple[Array, Array]: ...


class LinearForward(Protocol):
    """x (N, in), w (in, out) and b (out,) -> y (N, out)."""

    def __call__(self, x: Array, w: Array, b: Array, /) -> tuple[Array, LinearCache]: ...


class LinearBackward(Protocol):
    """dy (N, out) -> dx (N, in), dw (in, out) and db (out,)."""

    def __call__(self, dy: Array, cache: LinearCache, /) -> tuple[Array, Array, Array]: ...


class SideCoefficient(Protocol):
    """The weight of the side branches at iteration i of `total` (Eq. 10)."""

    def __call__(
        self, method: str, i: int, total: int, lam: float, shortcut: float = 1.0
    ) -> float: ...


class ObjectiveForward(Protocol):
    """The branches' logits, (N, K) each, the main one's last, and labels (N,) -> the loss."""

    def __call__(
        self,
        branches: list[Array],
        labels: Array,
        side: float,
        branch_sum: str = "logits",
        loss: Loss = CROSS_ENTROPY,
        /,
    ) -> tuple[float, ObjectiveCache]: ...


class ObjectiveBackward(Protocol):
    """-> dL/db_l (N, K) of every branch."""

    def __call__(self, cache: ObjectiveCache, /) -> list[Array]: ...


class ShortcutBackward(Protocol):
    """dL/db_l (N, K) of every branch -> dL/dx and the parameters' gradients by name (Eq. 9)."""

    def __call__(
        self, db: Sequence[Array], heads: Sequence[Pullback], blocks: Sequence[Pullback], /
    ) -> tuple[Array, dict[str, Any]]: ...


class SGDUpdate(Protocol):
    """w, its gradient g and velocity v, all of one shape -> w and v after the step."""

    def __call__(
        self, w: Array, g: Array, v: Array, lr: float, momentum: float, decay: float, /
    ) -> tuple[Array, Array]: ...


class AdamWUpdate(Protocol):
    """w, its gradient and moments, all of one shape -> w and moments after iteration i = 1, …"""

    def __call__(
        self, w: Array, g: Array, mean: Array, square: Array, i: int, lr: float, decay: float, /
    ) -> tuple[Array, Array, Array]: ...


class AddInto(Protocol):
    """total += x, both of one shape."""

    def __call__(self, total: Array, x: Array, /) -> None: ...


class CountSpikes(Protocol):
    """Spikes of any shape -> their number."""

    def __call__(self, x: Array, /) -> int: ...


class Precompile(Protocol):
    """Compile what a training step calls; `watch` gets the parts done, all parts, and the next.

    The number of functions that were compiled, rather than found in the cache, is returned.
    """

    def __call__(
        self, dtype: str, optimizer: str, watch: Callable[[int, int, str], None] = ..., /
    ) -> int: ...


class FusedCache(Protocol):
    """The fields of a fused pass's cache that other modules read."""

    @property
    def o_seq(self) -> Array:
        """Return the spikes (T, N, H, W, C)."""

    @property
    def lif(self) -> Any:
        """Return the neurons' cache, a LIFCache or that of a neuron with gates."""


class NormNeuronForward(Protocol):
    """A batch norm's input and the skip, (T, N, H, W, C) or an input too -> o_seq (T, N, H, W, C),
    and each batch norm's statistics after it."""

    def __call__(
        self,
        norm_input: NormInput,
        skip: Array | NormInput | None,
        norm: BatchNorm,
        p: LIF,
        training: bool,
        /,
    ) -> tuple[Array, list[Running], FusedCache]: ...


class NormNeuronBackward(Protocol):
    """do_seq (T, N, H, W, C) -> the gradients at the batch norm's input and at the skip; with
    `overwrite` one of them is computed in place of do_seq."""

    def __call__(
        self, do_seq: Array, cache: Any, overwrite: bool = False, /
    ) -> tuple[NormGrads, Array | NormGrads | None]: ...


class NormGatedForward(Protocol):
    """As `NormNeuronForward`, for a neuron with gates and the parameters of its layer."""

    def __call__(
        self,
        norm_input: NormInput,
        skip: Array | NormInput | None,
        norm: BatchNorm,
        neuron: Gated,
        params: dict[str, Array],
        p: LIF,
        training: bool,
        /,
    ) -> tuple[Array, list[Running], FusedCache]: ...


class NormGatedBackward(Protocol):
    """As `NormNeuronBackward`; the parameters' gradients come last."""

    def __call__(
        self, dy_seq: Array, cache: Any, overwrite: bool = False, /
    ) -> tuple[NormGrads, Array | NormGrads | None, dict[str, Array]]: ...


@dataclass(frozen=True)
class Ops:
    """Each field is the function of that name in `equations`, or its twin in `kernels`.

    The arrays that a backward function returns belong to the network, which may add to them, so it
    must not keep them.
    `add_into` and `conv_add_input_gradient` are sums in place, where gradients meet,
    `count_spikes` serves the firing rates, and `neuron_forward` and `_backward` are a `Neuron`'s
    methods. The last seven fields are of the kernels alone: batch
    norm, sum and neurons in one pass over float32 (None: they are computed one after the other),
    the surrogates that this pass knows, which method a convolution takes, and what compiles them.
    """

    name: str
    lif_forward: LIFForward
    lif_backward: LIFBackward
    neuron_forward: NeuronForward
    neuron_backward: NeuronBackward
    conv_forward: ConvForward
    conv_input_gradient: ConvGradient
    conv_add_input_gradient: ConvAddInputGradient
    conv_weight_gradient: ConvGradient
    batchnorm_forward: BatchNormForward
    batchnorm_backward: BatchNormBackward
    channel_moments: Moments
    avgpool_forward: AvgPoolForward
    avgpool_backward: AvgPoolBackward
    global_avgpool_forward: GlobalAvgPoolForward
    global_avgpool_backward: GlobalAvgPoolBackward
    join_forward: JoinForward
    join_backward: JoinBackward
    linear_forward: LinearForward
    linear_backward: LinearBackward
    side_coefficient: SideCoefficient
    objective_forward: ObjectiveForward
    objective_backward: ObjectiveBackward
    shortcut_backward: ShortcutBackward
    sgd_update: SGDUpdate
    adamw_update: AdamWUpdate
    add_into: AddInto
    count_spikes: CountSpikes
    norm_neuron_forward: NormNeuronForward | None = None
    norm_neuron_backward: NormNeuronBackward | None = None
    norm_gated_forward: NormGatedForward | None = None
    norm_gated_backward: NormGatedBackward | None = None
    fused_surrogates: tuple[type[Surrogate], ...] = ()
    conv_choice: ConvChoice | None = None
    precompile: Precompile | None = None

    def fuses(self, dtype: Any, p: LIF, norm: BatchNorm, neuron: Neuron | None = None) -> bool:
        """Tell whether norm_neuron_forward, or norm_gated_forward, and their backwards serve.

        They do in float32, for the classes that they know alone, since a subclass may compute
        otherwise, and for a slope that is the same for all channels.
        """
        if neuron is not None:
            by_threshold = getattr(p.surrogate, "width", 1.0) is None
            if not is_gated(neuron) or (by_threshold and not neuron.one_threshold):
                return False
        return (
            self.norm_neuron_forward is not None
            and dtype == np.float32
            and type(p) is LIF
            and type(norm) is BatchNorm
            and type(p.surrogate) in self.fused_surrogates
            and not p.smooth
        )


def add_into(total: Array, x: Array) -> None:
    """Compute total += x, where gradients meet."""
    total += x


def conv_add_input_gradient(dy: Array, cache: ConvCache, total: Array) -> None:
    """Add a convolution's input gradient to `total`."""
    total += conv.conv_input_gradient(dy, cache)


def neuron_forward(
    neuron: Neuron,
    c_seq: Array,
    params: dict[str, Array],
    running: Running | None,
    p: LIF,
    training: bool,
) -> tuple[Array, Running | None, Any]:
    """Compute a layer of neurons with parameters."""
    return neuron.forward(c_seq, params, running, p, training)


def neuron_backward(neuron: Neuron, dy_seq: Array, cache: Any) -> tuple[Array, dict[str, Array]]:
    """Compute the gradients of a layer of neurons with parameters."""
    return neuron.backward(dy_seq, cache)


def count_spikes(x: Array) -> int:
    """Return the number of spikes, elements that are not 0."""
    return int(np.count_nonzero(x))


NUMPY = Ops(
    name="numpy",
    lif_forward=lif.lif_forward,
    lif_backward=lif.lif_backward,
    neuron_forward=neuron_forward,
    neuron_backward=neuron_backward,
    conv_forward=conv.conv_forward,
    conv_input_gradient=conv.conv_input_gradient,
    conv_add_input_gradient=conv_add_input_gradient,
    conv_weight_gradient=conv.conv_weight_gradient,
    batchnorm_forward=batchnorm.batchnorm_forward,
    batchnorm_backward=batchnorm.batchnorm_backward,
    channel_moments=potentials.channel_moments,
    avgpool_forward=pool.avgpool_forward,
    avgpool_backward=pool.avgpool_backward,
    global_avgpool_forward=pool.global_avgpool_forward,
    global_avgpool_backward=pool.global_avgpool_backward,
    join_forward=join_forward,
    join_backward=join_backward,
    linear_forward=linear.linear_forward,
    linear_backward=linear.linear_backward,
    side_coefficient=shortcut.side_coefficient,
    objective_forward=shortcut.objective_forward,
    objective_backward=shortcut.objective_backward,
    shortcut_backward=shortcut.shortcut_backward,
    sgd_update=update.sgd_update,
    adamw_update=update.adamw_update,
    add_into=add_into,
    count_spikes=count_spikes,
)


@cache
def get_ops(name: str, conv_method: str = "auto") -> Ops:
    """Return the set `numpy` or `numba`; Numba is imported only when it is asked for.

    `conv_method` forces the kernels' convolutions in float32 (see `kernels.conv`).
    """
    validate.one_of("ops", name, ("numpy", "numba"))
    validate.one_of("conv", conv_method, CONV_METHODS)
    if name == "numpy":
        return NUMPY
    from refsnn.kernels import (
        add,
        batchnorm,
        conv,
        count,
        gated,
        lif,
        linear,
        norm_gated,
        norm_neuron,
        norm_statistics,
        pool,
        precompile,
        slopes,
        update,
    )

    return replace(
        NUMPY,
        name="numba",
        lif_forward=lif.lif_forward,
        lif_backward=lif.lif_backward,
        neuron_forward=gated.neuron_forward,
        neuron_backward=gated.neuron_backward,
        conv_forward=partial(conv.conv_forward, method=conv_method),
        conv_input_gradient=partial(conv.conv_input_gradient, method=conv_method),
        conv_add_input_gradient=partial(conv.conv_add_input_gradient, method=conv_method),
        conv_weight_gradient=partial(conv.conv_weight_gradient, method=conv_method),
        batchnorm_forward=batchnorm.batchnorm_forward,
        batchnorm_backward=batchnorm.batchnorm_backward,
        channel_moments=norm_statistics.channel_moments,
        avgpool_forward=pool.avgpool_forward,
        avgpool_backward=pool.avgpool_backward,
        global_avgpool_forward=pool.global_avgpool_forward,
        linear_forward=linear.linear_forward,
        linear_backward=linear.linear_backward,
        sgd_update=update.sgd_update,
        adamw_update=update.adamw_update,
        add_into=add.add_into,
        count_spikes=count.count_spikes,
        norm_neuron_forward=norm_neuron.norm_neuron_forward,
        norm_neuron_backward=norm_neuron.norm_neuron_backward,
        norm_gated_forward=norm_gated.norm_gated_forward,
        norm_gated_backward=norm_gated.norm_gated_backward,
        fused_surrogates=slopes.SURROGATES,
        conv_choice=partial(conv.conv_choice, method=conv_method),
        precompile=precompile.precompile,
    )
