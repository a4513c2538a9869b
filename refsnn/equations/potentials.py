"""Losses of the membrane potentials of each layer, beside the loss of the logits.

They are functions of a layer's potentials before firing, `u_pre_seq` (T, N, ..., C), and p, its
neurons' settings. Their gradients with respect to the potentials are a source in the recursion of
Eq. 3: `lif_backward` adds them to delta[t] at every step, and carries them back in time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np

from refsnn.equations.batchnorm import grouped_sum
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import as_floats, at_least, positive

Moments = Callable[[Array], tuple[Array, Array]]


def channel_moments(x_seq: Array) -> tuple[Array, Array]:
    """Return each channel's mean and biased variance, (C,) each in float64, of (T, N, ..., C)."""
    x = x_seq.astype(np.float64, copy=False)
    count = x.size // x.shape[-1]
    mean = grouped_sum(x) / count
    return mean, grouped_sum((x - mean) ** 2) / count


class PotentialLoss(Protocol):
    """A loss of each layer's potentials, which are added up.

    `moments` computes each channel's mean and variance: NumPy's function, or a kernel.
    """

    @property
    def inside_blocks(self) -> bool:
        """Tell whether layers inside of blocks count too."""

    def value(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> float:
        """Return a layer's loss."""

    def gradient(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> Array:
        """Return its gradient with respect to each potential, like `u_pre_seq`."""


@dataclass(frozen=True)
class IMLoss:
    """The loss of IM-Loss (Guo et al., 2022), which pulls a layer's mean potential to v_th.

    Layers inside of blocks don't count. Source: IMLOSS, M10.
    """

    lam: float = 2.0  # M10
    inside_blocks: ClassVar[bool] = False  # M10

    def __post_init__(self) -> None:
        at_least("lam", self.lam, 0)
        as_floats(self, "lam")

    def value(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> float:
        """Return the loss of a layer, with the mean over its potentials at all steps.

        L = lambda (mean(u_pre) - v_th)^2
        """
        mean, _ = moments(u_pre_seq)
        return self.lam * (float(mean.mean()) - p.v_th) ** 2  # IMLOSS

    def gradient(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> Array:
        """Return 2 lambda (mean(u_pre) - v_th)/M at all M potentials."""
        mean, _ = moments(u_pre_seq)
        off = float(mean.mean()) - p.v_th
        return np.full_like(u_pre_seq, 2 * self.lam * off / u_pre_seq.size)


@dataclass(frozen=True)
class DistributionLoss:
    """A loss of each channel's distribution of potentials, as RecDis-SNN's is reconstructed here.

    With mean m and deviation s of x = (u_pre - v_th)/w over steps, images and pixels, each term is
    the mean over channels of the square of what is above 0 of

        |m| - s      all potentials on one side of the threshold
        s - 2        many beyond the reach of the surrogate, whose half-width is w
        1 - |m| - s  many close to the threshold, where step and surrogate differ most

    It is not the formula of the paper (Guo et al., 2022), which isn't public in code: only the
    three faults that it names are. w is v_th, or `half_width`. Source: MPD, M12.
    """

    lam: float = 1e-2  # M12: weight of each term
    half_width: float | None = None
    inside_blocks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        at_least("lam", self.lam, 0)
        as_floats(self, "lam")
        if self.half_width is not None:
            positive("half_width", self.half_width)
            as_floats(self, "half_width")

    def value(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> float:
        """Return the loss of a layer.

            L = lambda mean(D^2 + S^2 + R^2)

        D, S and R are what is above 0 of the three terms, one for each channel.
        """
        _, _, d, s, r = self.terms(*moments(u_pre_seq), p)
        return self.lam * float((d * d + s * s + r * r).mean())  # MPD

    def gradient(self, u_pre_seq: Array, p: LIF, moments: Moments = channel_moments) -> Array:
        """Return the gradient by way of each channel's mean and deviation.

            dL/dm = 2 lambda sign(m) (D - R)/C
            dL/ds = 2 lambda (S - D - R)/C
            dL/du_pre = (dL/dm + dL/ds (x - m)/s)/(M w)

        M is the number of potentials of a channel, C that of channels. As x - m is
        (u_pre - mean(u_pre))/w, a channel's gradient is slope (u_pre - mean(u_pre)) + level.
        """
        centre, variance = moments(u_pre_seq)
        m, deviation, d, s, r = self.terms(centre, variance, p)
        factor, width = 2 * self.lam / len(m), self.width(p)
        by_mean = factor * np.sign(m) * (d - r)
        by_deviation = factor * (s - d - r)
        each = u_pre_seq.size // len(m) * width
        slope = by_deviation / (deviation * width * each)
        level = by_mean / each
        dtype = u_pre_seq.dtype
        near = centre.astype(dtype)  # its rounding error is added to the level
        gradient = u_pre_seq - near
        gradient *= slope.astype(dtype)
        gradient += (level + slope * (near - centre)).astype(dtype)
        return gradient

    def width(self, p: LIF) -> float:
        """Return w."""
        return p.v_th if self.half_width is None else self.half_width

    def terms(
        self, centre: Array, variance: Array, p: LIF
    ) -> tuple[Array, Array, Array, Array, Array]:
        """Return m, s, D, S and R, (C,) each, from the moments of u_pre."""
        width = self.width(p)
        mean = (centre - p.v_th) / width
        deviation = np.sqrt(variance / width**2 + 1e-10)
        size = np.abs(mean)
        terms = size - deviation, deviation - 2, 1 - size - deviation  # M12
        d, s, r = (np.maximum(term, 0) for term in terms)
        return mean, deviation, d, s, r


POTENTIAL_LOSSES: dict[str, type[IMLoss] | type[DistributionLoss]] = {
    "im": IMLoss,
    "mpd_reconstructed": DistributionLoss,
}
