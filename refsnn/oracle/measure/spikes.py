"""The threshold, and the timing of spikes: delay and refractory period."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.measure.arrays import EXACT, Deviations, Neurons, nice_within


def bounds(u_pre: Array, spikes: Array) -> tuple[float, float]:
    """Return the largest potential without a spike, and the smallest with one."""
    silent, firing = u_pre[spikes <= 0], u_pre[spikes > 0]
    return float(silent.max(initial=-np.inf)), float(firing.min(initial=np.inf))


def threshold_states(found: list[tuple[Neurons, Array, Array]]) -> Iterator[Deviations]:
    """Yield the thresholds, as asked or a number, that separate the potentials that fire."""
    limits = [(seen, *bounds(u_pre, spikes)) for seen, u_pre, spikes in found]
    slack = 1e-6 if any(seen.near > EXACT for seen, *_ in limits) else 1e-9
    asked = [float(seen.case.conventions["v_th"]) for seen, *_ in limits]
    if all(
        low - slack <= v <= high + slack for v, (_, low, high) in zip(asked, limits, strict=True)
    ):
        yield {}
        for at_threshold in (False, True):
            yield {"fire_at_threshold": at_threshold}
    low = max((low for _, low, _ in limits), default=-np.inf) - slack
    high = min((high for *_, high in limits), default=np.inf) + slack
    if low <= high and math.isfinite(low + high) and (v_th := nice_within(low, high)) > 0:
        yield {"v_th": v_th}
        for at_threshold in (False, True):
            yield {"v_th": v_th, "fire_at_threshold": at_threshold}


class Timing(NamedTuple):
    """Numbers of steps."""

    delay: int = 0  # by which spikes are passed on late
    refractory: int = 0  # without a spike after a spike
    input_delay: int = 0  # by which the input acts late
    late_reset: bool = False  # whether a reset discards the input of the next step


def timing(known: Sequence[tuple[Neurons, Array]]) -> tuple[Timing, list[Array]]:
    """Return by how many steps spikes are late, the refractory period, and the undelayed spikes.

    The spikes of the last steps, which a delay hides, follow from the threshold.
    """
    for delay, refractory in ((0, 0), (1, 0), (0, 1), (0, 2), (0, 3), (2, 0), (1, 1), (1, 2)):
        spikes = []
        for one, u_pre in known:
            assert one.o is not None
            shown = one.o[delay:]
            low, high = bounds(*free(u_pre[: len(shown)], shown, refractory))
            if low > high + 1e-6 or (delay and one.o[:delay].any()):
                break
            rest = u_pre[len(shown) :] > (low + high) / 2 if delay else u_pre[:0]
            spikes.append(np.concatenate([shown, rest.astype(float)]))
        else:
            return Timing(delay, refractory), spikes
    return Timing(), [one.o for one, _ in known if one.o is not None]


def free(u_pre: Array, spikes: Array, refractory: int) -> tuple[Array, Array]:
    """Return the potentials and spikes of the steps outside any refractory period."""
    if not refractory or not len(spikes):
        return u_pre, spikes
    is_free = np.stack([~spikes[max(t - refractory, 0) : t].any(0) for t in range(len(spikes))])
    return u_pre[is_free], spikes[is_free]
