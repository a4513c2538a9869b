"""Normalisation of what a convolution takes (PSP-BN; Ikegawa et al., 2022), without its mean."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from refsnn.equations.batchnorm import BatchNorm, Running
from refsnn.equations.norms.base import Arrays, Norm
from refsnn.equations.sequence import is_still
from refsnn.equations.surrogate import Array


@dataclass(frozen=True)
class PSPBN(Norm):
    """A norm by the second moment, in front of the weights; there is no batch norm after them.

        y = gamma s x
        s = 1/sqrt(mean(x^2) + eps)

    The mean is over T, N, H and W. For spikes it is the firing rate, and where x is 0, so is y. As
    y is x times a number for each channel, the weights take this factor instead of x, and
    convolutions still get spikes. gamma starts at 1. Source: PSPBN, M15.
    """

    by_step: ClassVar[bool] = False
    of_inputs: ClassVar[bool] = True
    root: bool = True  # M15: s is 1/sqrt(mean(x^2) + eps), or 1/(mean(x^2) + eps)

    def check(self, p: BatchNorm) -> None:
        """Raise ValueError for constants of a batch norm that this one does not have."""
        for name, only in (("statistics", "pooled"), ("scale", 1.0)):
            if (got := getattr(p, name)) != only:
                raise ValueError(f"norm_{name}: got {got}, but PSP-BN has {only} alone")

    def shapes(self, channels: int, steps: int) -> dict[str, tuple[int, ...]]:
        """Return the shape of gamma, (C,)."""
        return {"weight": (channels,)}

    def initial(self, channels: int, steps: int) -> Arrays:
        """Return gamma = 1."""
        return {"weight": np.ones(channels)}


class PSPCache(NamedTuple):
    """The values that the backward pass needs."""

    x_seq: Array  # (T, N, H, W, C)
    gamma: Array  # (C,)
    s: Array  # (C,)
    running: Running  # after this batch
    moves: bool  # s moved with x_seq
    root: bool


def psp_forward(
    x_seq: Array, gamma: Array, running: Running, model: PSPBN, p: BatchNorm, training: bool
) -> tuple[Array, PSPCache]:
    """Return the factor a = gamma s of each channel (C,), and the cache.

        y = gamma s x
        s = 1/sqrt(mean(x^2) + eps)

    x_seq is (T, N, H, W, C). If not `training`, the running moment is used, and stays unchanged; it
    is where a batch norm has its running variance, and its mean stays 0. Source: PSPBN.
    """
    moment = running.var
    if training:
        moment = second_moment(x_seq[:1] if is_still(x_seq) else x_seq, gamma.dtype)
        moved = (1 - p.momentum) * running.var + p.momentum * moment  # D25
        running = Running(running.mean, moved)
    s = 1 / (moment + p.eps)
    if model.root:
        s = np.sqrt(s)  # M15
    return gamma * s, PSPCache(x_seq, gamma, s, running, training, model.root)  # PSPBN


def psp_backward(da: Array, cache: PSPCache) -> tuple[Array, Array]:
    """Return dL/dgamma, (C,), and the slope (C,) that times x_seq is dL/dx by way of the moment.

        dL/dgamma = s dL/da
        slope = -gamma s^3 dL/da/M

    `da` is dL/da, where y = a x: the sum of dL/dy x. What reaches x at a fixed a, a dL/dy, comes
    on top. M = T N H W; without the root, the slope is -2 gamma s^2 dL/da/M.
    """
    x_seq, gamma, s, _, moves, root = cache
    if not moves:
        return s * da, np.zeros_like(s)
    ds_by_moment = -s * s * s / 2 if root else -s * s  # bits of s**3 depend on the processor
    return s * da, 2 * gamma * da * ds_by_moment / (x_seq.size // x_seq.shape[-1])


def second_moment(x_seq: Array, dtype: np.dtype) -> Array:
    """Return the mean of x^2 of each channel, (C,).

    Bytes are spikes, 0 or 1, which are their own squares. Sums of whole rows of images are many
    times as fast as those of single channels.
    """
    *_, width, channels = x_seq.shape
    rows = x_seq.reshape(-1, width * channels)
    squares = rows if rows.dtype == np.uint8 else rows * rows
    exact = np.int64 if rows.dtype == np.uint8 else np.float64
    totals = squares.sum(axis=0, dtype=exact).reshape(width, channels).sum(axis=0)
    return (totals / (x_seq.size // channels)).astype(dtype)
