"""Batch normalisation over spiking sequences (D8), with running statistics (D25).

Shapes: x_seq (T, N, H, W, C); gamma, beta and the running statistics (C,), or (T, C) where each
step has its own. `pooled` statistics are taken over T, N, H, W; `per_step` ones over N, H, W at
each step, as if the layer were called once per step. `scale` multiplies the normalised value
(tdBN: v_th).
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_floats, like, ndim, one_of, positive


@dataclass(frozen=True)
class BatchNorm:
    """The constants of batch norm."""

    statistics: str = "pooled"  # D8
    scale: float = 1.0  # D8
    eps: float = 1e-5
    momentum: float = 0.1  # D25

    def __post_init__(self) -> None:
        one_of("statistics", self.statistics, ("pooled", "per_step"))
        positive("scale", self.scale)
        positive("eps", self.eps)
        as_floats(self, "scale", "eps", "momentum")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum: got {self.momentum!r}, want a number in [0, 1]")


class Running(NamedTuple):
    """Running statistics."""

    mean: Array  # (C,), or (T, C)
    var: Array  # like mean, unbiased


class NormInput(NamedTuple):
    """The arguments of a batch norm: its input, parameters and running statistics."""

    x_seq: Array  # (T, N, H, W, C)
    gamma: Array  # (C,), or (T, C)
    beta: Array  # like gamma
    running: Running


class NormGrads(NamedTuple):
    """The gradients of a batch norm."""

    dx_seq: Array  # (T, N, H, W, C)
    dgamma: Array  # (C,), or (T, C)
    dbeta: Array  # like dgamma


class BatchNormCache(NamedTuple):
    """The values that the backward pass needs."""

    x_hat: Array  # (T, N, H, W, C), normalised, before scale, gamma and beta
    inv_std: Array  # (C,), or (T, 1, 1, 1, C) for statistics per step
    gamma: Array  # (C,), or (T, C)
    axes: tuple[int, ...]  # over which statistics were taken; () if the running ones were used
    p: BatchNorm


def check_input(norm_input: NormInput) -> None:
    """Check dtypes and shapes; TypeError or ValueError names the argument that is wrong."""
    x_seq, gamma, beta, running = norm_input
    ndim("x_seq", x_seq, 5, "(T, N, H, W, C)")
    for name, value in (("gamma", gamma), ("beta", beta), *running._asdict().items()):
        by_step = getattr(value, "ndim", 1) == 2
        shape = (len(x_seq), x_seq.shape[-1]) if by_step else x_seq.shape[-1:]
        like(name, value, shape, x_seq.dtype, "x_seq's steps and channels")


def batchnorm_forward(
    x_seq: Array, gamma: Array, beta: Array, running: Running, p: BatchNorm, training: bool
) -> tuple[Array, Running, BatchNormCache]:
    """Normalise every channel; return y, the running statistics after this batch, and the cache.

        x_hat = (x - mean(x))/sqrt(mean((x - mean(x))^2) + eps)
        y = gamma scale x_hat + beta

    If not `training`, the running mean and variance are used instead of the batch's, and stay
    unchanged. y has the shape of `x_seq`, (T, N, H, W, C). Source: D8.
    """
    check_input(NormInput(x_seq, gamma, beta, running))
    axes: tuple[int, ...] = ()
    if training:
        axes = (0, 1, 2, 3) if p.statistics == "pooled" else (1, 2, 3)  # D8
        mean = grouped_mean(x_seq, axes)
        centred = x_seq - mean
        var = grouped_mean(centred * centred, axes)  # biased  # D8
        running = update_running(running, mean, var, x_seq.size // mean.size, p)
    else:
        mean, var = along_steps(running.mean), along_steps(running.var)
        centred = x_seq - mean
    inv_std = 1 / np.sqrt(var + p.eps)
    x_hat = centred * inv_std
    y = x_hat * along_steps(gamma * p.scale) + along_steps(beta)  # M1
    return y, running, BatchNormCache(x_hat, inv_std, gamma, axes, p)


def batchnorm_backward(dy_seq: Array, cache: BatchNormCache) -> NormGrads:
    """Compute dL/dx, dL/dgamma and dL/dbeta from `dy_seq` = dL/dy, (T, N, H, W, C).

        dL/dbeta = sum(dL/dy)
        dL/dgamma = scale sum(dL/dy x_hat)
        dL/dx = s (g - mean(g) - x_hat mean(g x_hat))

    with g = gamma scale dL/dy and s = 1/sqrt(variance + eps); if the forward pass used the running
    statistics, dL/dx = s g. D8 in the README of this folder has the derivation.
    """
    x_hat, inv_std, gamma, axes, p = cache
    like("dy_seq", dy_seq, x_hat.shape, x_hat.dtype, "y_seq")
    dbeta = parameter_sum(dy_seq, gamma)
    dgamma = parameter_sum(dy_seq * x_hat, gamma) * p.scale
    dx_hat = dy_seq * along_steps(gamma * p.scale)
    if not axes:  # forward: mean and variance were constants
        return NormGrads(dx_hat * inv_std, dgamma, dbeta)
    # forward: x_hat = (x - mean) inv_std, and mean and inv_std moved with x
    along = grouped_mean(dx_hat * x_hat, axes)
    dx = (dx_hat - grouped_mean(dx_hat, axes) - x_hat * along) * inv_std
    return NormGrads(dx, dgamma, dbeta)


def update_running(running: Running, mean: Array, var: Array, count: int, p: BatchNorm) -> Running:
    """Return the running statistics after a batch, by PyTorch's rule.

        new = (1 - momentum) running + momentum batch

    The variance is made unbiased, times count/(count - 1), where `count` is the number of pixels
    over which `mean` and `var` were taken. Statistics per step update once per step, or where
    each step has its own, those of this step. Source: D25.
    """
    unbiased = var * (count / max(count - 1, 1))
    if running.mean.ndim == 2:
        batch = Running(*(x.reshape(-1, x.shape[-1]) for x in (mean, unbiased)))
        pairs = zip(running, batch, strict=True)
        return Running(*((1 - p.momentum) * old + p.momentum * new for old, new in pairs))
    for m, v in zip(
        mean.reshape(-1, mean.shape[-1]), unbiased.reshape(-1, mean.shape[-1]), strict=True
    ):
        running = Running(
            (1 - p.momentum) * running.mean + p.momentum * m,  # D25
            (1 - p.momentum) * running.var + p.momentum * v,  # D25
        )
    return running


def along_steps(values: Array) -> Array:
    """Return values (C,) as they are, or (T, C) as (T, 1, 1, 1, C)."""
    return values if values.ndim == 1 else values[:, None, None, None]


def parameter_sum(x_seq: Array, model: Array) -> Array:
    """Return the sums over all that one element of a parameter (C,) or (T, C) acts on."""
    return grouped_sum(x_seq) if model.ndim == 1 else np.stack([grouped_sum(x) for x in x_seq])


def grouped_mean(x: Array, axes: tuple[int, ...]) -> Array:
    """Return the mean over `axes`, taken axis by axis, innermost first."""
    for axis in reversed(axes):
        x = x.mean(axis=axis, keepdims=True)
    return x


def grouped_sum(x: Array) -> Array:
    """Return the sum over all axes but the last, innermost first."""
    while x.ndim > 1:
        x = x.sum(axis=-2)
    return x
