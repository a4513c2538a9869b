"""Batch norm, residual sum and LIF in one pass over memory, in float32.

Forward, y = x_hat (gamma scale) + beta, the skip's addition and Eq. 1, 2 are computed
operation by operation as `equations.batchnorm` and `equations.lif` do, so that given the same
statistics the spikes are the same to the bit. What is kept is the convolutions' output
and one byte a spike; the backward pass computes the potentials again.

Sums over pixels are taken block by block and the blocks' in float64, in an order that the
number of threads does not touch. Slopes are computed here: the rational tanh differs
from the exact one by less than 4 eps, as 1 - tanh^2 in float32 does anyway.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit, prange
from numpy import empty

from refsnn.equations.batchnorm import (
    BatchNorm,
    NormGrads,
    NormInput,
    Running,
    check_input,
    update_running,
)
from refsnn.equations.lif import LIF, LIFCache
from refsnn.equations.lif import lif_forward as reference_lif
from refsnn.equations.surrogate import Array, Rectangular, Tanh, TanhLiteral, Triangular
from refsnn.equations.validate import like
from refsnn.kernels.simd import aligned

BLOCK = 1024  # elements at least, whole pixels: all steps of a block stay in the cache
SHARE = 32  # blocks of a task
NONE, PLAIN, NORMED = 0, 1, 2  # skips
#: Whose slopes are compiled here, as `slopes` counts them: a subclass may have another slope
SURROGATES = Tanh, TanhLiteral, Rectangular, Triangular
#: Numerator (odd) and denominator (even) of tanh's rational approximation, highest power first
TANH_ODD = (
    -2.76076847742355e-16,
    2.00018790482477e-13,
    -8.60467152213735e-11,
    5.12229709037114e-08,
    1.48572235717979e-05,
    6.37261928875436e-04,
    4.89352455891786e-03,
)
TANH_EVEN = (1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03)
TANH_EDGE = 7.90531110763549805  # where tanh is 1 in float32
ODD, EVEN = (tuple(np.float32(c) for c in terms) for terms in (TANH_ODD, TANH_EVEN))
EDGE = np.float32(TANH_EDGE)


class Affine(NamedTuple):
    """A batch norm with its numbers known. Statistics are (1, C), or (T, C) per step."""

    mean: Array
    inv_std: Array
    weight: Array  # (C,) gamma times the scale
    bias: Array  # (C,)


class FusedCache(NamedTuple):
    of: NormInput
    affine: Affine
    skip: Array | NormInput | None
    skip_affine: Affine | None
    o_seq: Array  # (T, N, H, W, C), uint8
    norm: BatchNorm
    p: LIF
    training: bool

    @property
    def lif(self) -> LIFCache:
        """The neurons' cache as `equations.lif` makes it, computed again."""
        y_seq = normalise(self.of.x_seq, self.affine)
        if isinstance(self.skip, NormInput):
            assert self.skip_affine is not None
            y_seq = y_seq + normalise(self.skip.x_seq, self.skip_affine)
        elif self.skip is not None:
            y_seq = y_seq + self.skip
        return reference_lif(y_seq, None, self.p)[1]


def normalise(c_seq: Array, affine: Affine) -> Array:
    mean, inv_std = (s[:, None, None, None] for s in (affine.mean, affine.inv_std))
    return (c_seq - mean) * inv_std * affine.weight + affine.bias


@njit(cache=True, error_model="numpy")
def add_moments(c, centre, total, square):  # type: ignore[no-untyped-def]
    for m in range(c.size):
        away = c[m] - centre[m]
        total[m] += away
        square[m] += away * away


@njit(parallel=True, cache=True, error_model="numpy")
def moments(c, channels, block, mean, spread):  # type: ignore[no-untyped-def]
    """c (T, M) -> for each step and task, each channel's mean and sum of squares around it.

    One pass, around the mean of the task's first block: being one of the SHARE blocks, it is
    so near that the squares lose no more than SHARE times their rounding.
    """
    steps, count = c.shape
    tasks = mean.shape[1]
    size = block * SHARE
    for task in prange(steps * tasks):
        t, part = task // tasks, task % tasks
        first, last = part * size, min((part + 1) * size, count)
        lanes = min(block, last - first)
        centre = np.empty(lanes, np.float32)
        for k in range(channels):
            value = np.float32(0)
            for m in range(k, lanes, channels):
                value += c[t, first + m]
            centre[k::channels] = value / np.float32(lanes // channels)
        total, square = np.zeros(lanes, np.float32), np.zeros(lanes, np.float32)
        for at in range(first, last, block):
            add_moments(c[t, at : min(at + block, last)], centre, total, square)
        pixels = (last - first) // channels
        for k in range(channels):
            away, squares = np.float64(0), np.float64(0)
            for m in range(k, lanes, channels):
                away += total[m]
                squares += square[m]
            mean[t, part, k] = centre[k] + away / pixels
            spread[t, part, k] = max(squares - away * away / pixels, 0.0)


def statistics(c_seq: Array, p: BatchNorm) -> tuple[Array, Array]:
    """Mean and biased variance (D8), (1, C) or (T, C); the tasks' combined in float64."""
    steps, channels = len(c_seq), c_seq.shape[-1]
    c = c_seq.reshape(steps, -1)
    size = block_size(channels)
    tasks = -(-c.shape[1] // (size * SHARE))
    mean, square = (empty((steps, tasks, channels)) for _ in range(2))
    moments(c, channels, size, mean, square)
    edges = np.minimum(np.arange(tasks + 1) * size * SHARE, c.shape[1])
    weights = np.tile(np.diff(edges) // channels, steps).astype(float)
    rows = 1 if p.statistics == "pooled" else steps
    weights = weights.reshape(rows, -1, 1)
    means, squares = (x.reshape(rows, -1, channels) for x in (mean, square))
    total = weights.sum(axis=1)
    centre = (weights * means).sum(axis=1) / total
    spread = (squares + weights * (means - centre[:, None]) ** 2).sum(axis=1)
    return centre.astype(c.dtype), (spread / total).astype(c.dtype)


def block_size(channels: int) -> int:
    return channels * -(-BLOCK // channels)


@njit(cache=True, error_model="numpy")
def load_current(c, skip, kind, t, at, width, affine, skip_affine, y):  # type: ignore[no-untyped-def]
    """y = batch norm of c plus the skip, one block of one step.

    An affine holds mean, inv_std, weight and bias along the block for each step.
    """
    mean, inv_std, weight, bias = affine[0, t], affine[1, t], affine[2, t], affine[3, t]
    row = c[t, at : at + width]
    for m in range(width):
        y[m] = (row[m] - mean[m]) * inv_std[m] * weight[m] + bias[m]
    if kind == PLAIN:
        other = skip[t, at : at + width]
        for m in range(width):
            y[m] += np.float32(other[m])
    elif kind == NORMED:
        mean, inv_std = skip_affine[0, t], skip_affine[1, t]
        weight, bias = skip_affine[2, t], skip_affine[3, t]
        other = skip[t, at : at + width]
        for m in range(width):
            y[m] += (other[m] - mean[m]) * inv_std[m] * weight[m] + bias[m]


@njit(parallel=True, cache=True, error_model="numpy")
def forward_blocks(c, skip, kind, affine, skip_affine, tau, v_th, inclusive, o_seq):  # type: ignore[no-untyped-def]
    steps, count = c.shape
    block = affine.shape[2]
    zero = np.float32(0)
    size = block * SHARE
    for task in prange((count + size - 1) // size):
        y, u = np.empty(block, np.float32), np.empty(block, np.float32)
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            u[:] = 0
            for t in range(steps):
                load_current(c, skip, kind, t, at, width, affine, skip_affine, y)
                o = o_seq[t, at : at + width]
                for m in range(width):
                    u_pre = tau * u[m] + y[m]
                    fired = u_pre > v_th or (inclusive and u_pre == v_th)
                    o[m] = fired
                    u[m] = zero if fired else u_pre


@njit(cache=True, error_model="numpy")
def slopes(kind, shape, width, inclusive, v_th, u_pre, h):  # type: ignore[no-untyped-def]
    """Eq. 4 for the potentials u_pre; `kind` counts the surrogates as `surrogate_of` does."""
    one = np.float32(1)
    if kind <= 1:
        for m in range(u_pre.size):
            x = min(max(u_pre[m] - v_th, -EDGE), EDGE)
            square = x * x
            odd = ODD[0] * square + ODD[1]
            odd = (odd * square + ODD[2]) * square + ODD[3]
            odd = ((odd * square + ODD[4]) * square + ODD[5]) * square + ODD[6]
            even = EVEN[0] * square + EVEN[1]
            even = (even * square + EVEN[2]) * square + EVEN[3]
            tanh = x * odd / even
            h[m] = shape * (one - tanh * tanh) if kind == 0 else shape * (one - tanh) * (one - tanh)
    elif kind == 2:
        half, height = shape / np.float32(2), one / shape
        for m in range(u_pre.size):
            x = abs(u_pre[m] - v_th)
            h[m] = height if x < half or (inclusive and x == half) else np.float32(0)
    else:
        for m in range(u_pre.size):
            h[m] = shape * max(np.float32(0), one - abs((u_pre[m] - v_th) / width))


@njit(cache=True, error_model="numpy")
def charge(tau, v_th, inclusive, y, u, u_pre):  # type: ignore[no-untyped-def]
    """Eq. 1, 2 for one step: u_pre from u and the current y; u moves on."""
    for m in range(u.size):
        now = tau * u[m] + y[m]
        u_pre[m] = now
        u[m] = np.float32(0) if now > v_th or (inclusive and now == v_th) else now


@njit(cache=True, error_model="numpy")
def step_back(tau, v_th, inclusive, detach, do, h, u_pre, du, delta):  # type: ignore[no-untyped-def]
    """Eq. 3 for one step: delta from do and du = tau delta[t+1]; du moves on."""
    for m in range(u_pre.size):
        now = u_pre[m]
        fired = now > v_th or (inclusive and now == v_th)
        bracket = np.float32(0) if fired else np.float32(1)
        if not detach:
            bracket -= now * h[m]
        value = do[m] * h[m] + du[m] * bracket
        delta[m] = value
        du[m] = tau * value


@njit(cache=True, error_model="numpy")
def add_values(delta, total):  # type: ignore[no-untyped-def]
    for m in range(delta.size):
        total[m] += delta[m]


@njit(cache=True, error_model="numpy")
def add_products(delta, c, mean, inv_std, total):  # type: ignore[no-untyped-def]
    for m in range(delta.size):
        total[m] += delta[m] * ((c[m] - mean[m]) * inv_std[m])


@njit(parallel=True, cache=True, error_model="numpy")
def backward_blocks(  # type: ignore[no-untyped-def]
    do_seq,
    c,
    skip,
    kind,
    affine,
    skip_affine,
    tau,
    v_th,
    inclusive,
    detach,
    surrogate,
    delta_seq,
    sums,
):
    """delta (Eq. 3), and each task's sums (task, t, C) of delta, delta x_hat, delta x_hat_skip.

    Every loop is a function of few arrays: with more, the compiler gives up on vectors.
    """
    steps, count = c.shape
    block, channels = affine.shape[2], sums.shape[3]
    size = block * SHARE
    for task in prange((count + size - 1) // size):
        u_pre, h = np.empty((steps, block), np.float32), np.empty(block, np.float32)
        y, u = np.empty(block, np.float32), np.empty(block, np.float32)
        total = np.zeros((3, steps, block), np.float32)
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            u[:] = 0
            for t in range(steps):
                load_current(c, skip, kind, t, at, width, affine, skip_affine, y)
                charge(tau, v_th, inclusive, y[:width], u[:width], u_pre[t, :width])
            u[:] = 0  # holds du on the way back
            for t in range(steps - 1, -1, -1):
                row, delta = u_pre[t, :width], delta_seq[t, at : at + width]
                slopes(surrogate[0], surrogate[1], surrogate[2], surrogate[3], v_th, row, h)
                step_back(
                    tau, v_th, inclusive, detach, do_seq[t, at : at + width], h, row, u, delta
                )
                add_values(delta, total[0, t])
                add_products(delta, c[t, at : at + width], affine[0, t], affine[1, t], total[1, t])
                if kind == NORMED:
                    add_products(
                        delta,
                        skip[t, at : at + width],
                        skip_affine[0, t],
                        skip_affine[1, t],
                        total[2, t],
                    )
        for which in range(3):
            for t in range(steps):
                for k in range(channels):
                    value = np.float32(0)
                    for m in range(k, block, channels):
                        value += total[which, t, m]
                    sums[which, task, t, k] = value


@njit(parallel=True, cache=True, error_model="numpy")
def through_statistics(delta, c, affine, factor, level, tilt, dc):  # type: ignore[no-untyped-def]
    """dc = delta factor - level - x_hat tilt; the last three along the block for each step."""
    steps, count = c.shape
    block = affine.shape[2]
    size = block * SHARE
    for task in prange((count + size - 1) // size):
        for at in range(task * size, min((task + 1) * size, count), block):
            width = min(block, count - at)
            for t in range(steps):
                mean, inv_std = affine[0, t], affine[1, t]
                a, b, d = factor[t], level[t], tilt[t]
                row, given, out = (
                    c[t, at : at + width],
                    delta[t, at : at + width],
                    dc[t, at : at + width],
                )
                for m in range(width):
                    x_hat = (row[m] - mean[m]) * inv_std[m]
                    out[m] = given[m] * a[m] - b[m] - x_hat * d[m]


def along_block(values: Array, steps: int) -> Array:
    """(1 or T, C) -> (T, block), repeated along whole pixels."""
    channels = values.shape[-1]
    rows = np.broadcast_to(values, (steps, channels)).astype(np.float32, copy=False)
    return np.ascontiguousarray(np.tile(rows, block_size(channels) // channels))


def affine_blocks(affine: Affine | None, steps: int, channels: int) -> Array:
    if affine is None:
        return np.zeros((4, 0, 0), np.float32)
    return np.stack([along_block(np.atleast_2d(x), steps) for x in affine])


def make_affine(of: NormInput, p: BatchNorm, training: bool) -> tuple[Affine, Running]:
    running = of.running
    if training:
        mean, var = statistics(of.x_seq, p)
        count = of.x_seq.size // mean.size
        running = update_running(running, mean, var, count, p)
    else:
        mean, var = (x[None] for x in running)
    inv_std = 1 / np.sqrt(var + p.eps)
    return Affine(mean, inv_std, of.gamma * p.scale, of.beta), running


def skip_rows(skip: Array | NormInput | None, steps: int) -> tuple[int, Array]:
    if skip is None:
        return NONE, np.zeros((steps, 0), np.uint8)
    if isinstance(skip, NormInput):
        return NORMED, skip.x_seq.reshape(steps, -1)
    return PLAIN, np.ascontiguousarray(skip).reshape(steps, -1)


def surrogate_of(p: LIF) -> tuple[int, np.float32, np.float32, bool]:
    """(kind, shape, width of the base, does the edge count)"""
    s, one = p.surrogate, np.float32(1)
    if type(s) not in SURROGATES:
        names = ", ".join(known.__name__ for known in SURROGATES)
        raise TypeError(f"surrogate: got {type(s).__name__}, want one of {names}")
    kind = SURROGATES.index(type(s))
    if isinstance(s, Rectangular):
        return kind, np.float32(s.a), one, s.edge == "inside"
    if isinstance(s, Triangular):
        return kind, np.float32(s.gamma), np.float32(s.width or p.v_th), False
    return kind, np.float32(s.k), one, False


def check_layer(of: NormInput, skip: Any, norm: BatchNorm, p: LIF) -> None:
    """TypeError or ValueError where the loops would not compute what the equations do."""
    check_input(of)
    x_seq = of.x_seq
    if x_seq.dtype != np.float32:
        raise TypeError(f"x_seq: got dtype {x_seq.dtype}, want float32")
    if not (len(x_seq) and x_seq.shape[-1]):
        raise ValueError(f"x_seq: got shape {x_seq.shape}, want at least one step and one channel")
    for name, value, kind in (("p", p, LIF), ("norm", norm, BatchNorm)):
        if type(value) is not kind:
            raise TypeError(f"{name}: got {type(value).__name__}, want exactly {kind.__name__}")
    if p.smooth:
        raise ValueError("p: got a smooth neuron, want one that fires")
    surrogate_of(p)
    if isinstance(skip, NormInput):
        like("skip", skip.x_seq, x_seq.shape, x_seq.dtype, "x_seq")
        check_input(skip)
    elif isinstance(skip, np.ndarray) and skip.dtype == np.uint8:
        if skip.shape != x_seq.shape:
            raise ValueError(f"skip: got shape {skip.shape}, want {x_seq.shape} like x_seq")
    elif skip is not None:
        like("skip", skip, x_seq.shape, x_seq.dtype, "x_seq")


def norm_neuron_forward(
    of: NormInput, skip: Array | NormInput | None, norm: BatchNorm, p: LIF, training: bool
) -> tuple[Array, list[Running], FusedCache]:
    """Spikes (T, N, H, W, C), uint8, of LIF(batch norm of `of` + skip), and the running statistics
    after this batch; the skip is absent, an array, or a batch norm's input itself.

    All in float32 (but for spikes as a skip), and with a neuron that fires (not `smooth`) and
    whose surrogate is one of refsnn's own. A potential that is infinite is reset to 0, where
    the equations have NaN.
    """
    check_layer(of, skip, norm, p)
    c_seq = of.x_seq
    steps, channels = len(c_seq), c_seq.shape[-1]
    affine, moved = make_affine(of, norm, training)
    running, skip_affine = [moved], None
    if isinstance(skip, NormInput):
        skip_affine, moved = make_affine(skip, norm, training)
        running.append(moved)
    kind, rows = skip_rows(skip, steps)
    o_seq = empty(c_seq.shape, np.uint8)
    forward_blocks(
        c_seq.reshape(steps, -1),
        rows,
        kind,
        affine_blocks(affine, steps, channels),
        affine_blocks(skip_affine, steps, channels),
        np.float32(p.tau),
        np.float32(p.v_th),
        bool(p.fire_at_threshold),
        o_seq.reshape(steps, -1),
    )
    return o_seq, running, FusedCache(of, affine, skip, skip_affine, o_seq, norm, p, training)


def norm_neuron_backward(
    do_seq: Array, cache: FusedCache
) -> tuple[NormGrads, Array | NormGrads | None]:
    """Gradients at the batch norm's input, and at the skip as it was given."""
    of, affine, skip, skip_affine, _, norm, p, training = cache
    c_seq = of.x_seq
    like("do_seq", do_seq, c_seq.shape, c_seq.dtype, "o_seq")
    steps, channels = len(c_seq), c_seq.shape[-1]
    kind, rows = skip_rows(skip, steps)
    c, delta_seq = c_seq.reshape(steps, -1), aligned(*c_seq.shape)
    blocks = affine_blocks(affine, steps, channels)
    skip_blocks = affine_blocks(skip_affine, steps, channels)
    tasks = -(-c.shape[1] // (blocks.shape[2] * SHARE))
    sums = empty((3, tasks, steps, channels), np.float32)
    backward_blocks(
        np.ascontiguousarray(do_seq).reshape(steps, -1),
        c,
        rows,
        kind,
        blocks,
        skip_blocks,
        np.float32(p.tau),
        np.float32(p.v_th),
        bool(p.fire_at_threshold),
        p.reset_gradient == "detached",
        surrogate_of(p),
        delta_seq.reshape(steps, -1),
        sums,
    )
    totals = sums.sum(axis=1, dtype=float)  # (3, T, C)
    axes = 0 if not training else 1 if norm.statistics == "pooled" else steps
    dskip: Array | NormGrads | None = None
    if isinstance(skip, NormInput):
        assert skip_affine is not None
        out = aligned(*c_seq.shape)
        dskip = norm_gradients(
            delta_seq, skip, skip_affine, skip_blocks, totals[0], totals[2], axes, norm, out
        )
    elif skip is not None:
        dskip = delta_seq
    out = delta_seq if dskip is not delta_seq else aligned(*c_seq.shape)
    return norm_gradients(
        delta_seq, of, affine, blocks, totals[0], totals[1], axes, norm, out
    ), dskip


def norm_gradients(
    delta_seq: Array,
    of: NormInput,
    affine: Affine,
    blocks: Array,
    sums: Array,
    products: Array,
    groups: int,
    norm: BatchNorm,
    out: Array,
) -> NormGrads:
    """As `equations.batchnorm.batchnorm_backward`, from the sums (T, C) of delta and delta x_hat.

    `groups`: how many statistics were taken over the steps; 0 if they were the running ones.
    """
    steps, channels = sums.shape
    weight, inv_std = affine.weight.astype(float), affine.inv_std.astype(float)
    level = tilt = np.zeros((1, channels))
    if groups:
        count = delta_seq.size // channels // groups
        level, tilt = (
            inv_std * weight * x.reshape(groups, -1, channels).sum(axis=1) / count
            for x in (sums, products)
        )
    through_statistics(
        delta_seq.reshape(steps, -1),
        of.x_seq.reshape(steps, -1),
        blocks,
        *(along_block(x, steps) for x in (weight * inv_std, level, tilt)),
        out.reshape(steps, -1),
    )
    dtype = of.x_seq.dtype
    dgamma, dbeta = products.sum(axis=0) * norm.scale, sums.sum(axis=0)
    return NormGrads(out, dgamma.astype(dtype), dbeta.astype(dtype))
