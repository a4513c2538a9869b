"""Measuring a neuron's numbers from the arrays that an implementation computed.

Nothing is tried from a list here. Leak and gain come from a regression of u_pre on the step before
(`steps`), the threshold lies between the potentials that fire and those that do not (`spikes`), the
reset is what follows a spike, and the slope is fitted as a function of the distance from the
threshold (`slopes`). Where the potentials are hidden, they follow from dL/dc (`hidden`).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from refsnn.ops import Array
from refsnn.oracle.conventions import CONVENTIONS, Value, make_conventions, words
from refsnn.oracle.measure.arrays import Deviations, Got, Neurons, neurons
from refsnn.oracle.measure.combine import combined, needed
from refsnn.oracle.measure.hidden import from_gradients
from refsnn.oracle.measure.slopes import (
    expected_samples,
    level_surrogate,
    samples_of,
    slope_states,
)
from refsnn.oracle.measure.spikes import Timing, bounds, free, threshold_states, timing
from refsnn.oracle.measure.steps import (
    Step,
    fit_step,
    hidden_potentials,
    input_states,
    leak_states,
    reset_states,
    start_states,
)
from refsnn.oracle.variant_neuron import gain_of
from refsnn.oracle.vectors import Case


@dataclass
class Measured:
    """What was measured: complete sets of deviations to start from, and facts in words."""

    states: list[Deviations] = field(default_factory=list)
    numbers: dict[str, list[Value]] = field(default_factory=dict)  # by convention
    facts: list[str] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)


class Potentials(NamedTuple):
    """A case with its potentials, shown or found, and its spikes before any delay."""

    seen: Neurons
    u_pre: Array
    fired: Array | None  # None where no spikes were given


def measure(cases: Sequence[Case], got: Got) -> Measured:
    """Measure the neurons of the given cases."""
    seen = list(neurons(cases, got))
    shown, times = potentials(seen)
    steps = steps_of(shown)
    parts: dict[str, list[Deviations]] = {"timing": [timing_state(times)]}
    if steps:
        parts["leak"] = list(leak_states(steps))
        parts["reset"] = list(reset_states(steps))
        parts["input"] = list(input_states(steps))
        parts["start"] = list(start_states(steps))
        times = times._replace(
            input_delay=max(step.input_delay for _, step in steps),
            late_reset=any(s.get("reset") == "zero, next step" for s in parts["reset"]),
        )
    fired = [
        (one.seen, *free(one.u_pre, one.fired, times.refractory))
        for one in shown
        if one.fired is not None
    ]
    if fired:
        parts["threshold"] = list(threshold_states(fired))
    threshold = next(iter(parts.get("threshold", [])), {})
    law = next(iter(parts.get("leak", [])), {})
    parts["slope"] = slopes_of(cases, got, shown, law | threshold, times)
    if any(one.o is not None and (one.o > 1).any() for one in seen):
        parts["spikes"] = [{"spikes": "several"}]
    parts = {name: list(filter(is_allowed, states)) for name, states in parts.items()}
    states = combined(parts, cases)
    if any(one.u_pre is None for one in seen):
        states += filter(is_allowed, from_gradients(seen))
        states += filter(is_allowed, slope_states(list(expected_samples(seen))))
    found = Measured(states, facts=facts_of(parts, cases))
    found.contradictions += list(contradictions(shown, times.delay))
    for state in found.states:
        for name, value in state.items():
            if value not in found.numbers.setdefault(name, []):
                found.numbers[name].append(value)
    return found


def is_allowed(state: Deviations) -> bool:
    """Tell whether conventions can have the measured values."""
    try:
        return make_conventions(state) is not None
    except ValueError:
        return False


def potentials(seen: Sequence[Neurons]) -> tuple[list[Potentials], Timing]:
    """Return the cases whose potentials are shown, or follow from u, and the timing of spikes."""
    found = []
    for one in seen:
        u_pre = one.u_pre if one.u_pre is not None else hidden_potentials(one)
        if u_pre is not None:
            found.append(Potentials(one, u_pre, None))
    known = [(one.seen, one.u_pre) for one in found if one.seen.o is not None]
    if not known:
        return found, Timing()
    times, spikes = timing(known)
    left = iter(spikes)
    return [one if one.seen.o is None else one._replace(fired=next(left)) for one in found], times


def steps_of(shown: Sequence[Potentials]) -> list[tuple[Neurons, Step]]:
    """Return the steps that explain the potentials, of cases long enough to tell."""
    longest = max((len(one.u_pre) for one in shown), default=0)
    steps = []
    for one in shown:
        if one.fired is None or len(one.u_pre) < min(longest, 3):
            continue  # in two steps a synapse looks like a leak
        if not one.u_pre.any():
            continue  # where the input is late, short cases show nothing
        step = fit_step(one.seen, one.u_pre, one.fired)
        steps += [] if step is None else [(one.seen, step)]
    # without a spike, a synapse and a leak can change places
    return [(seen, s) for seen, s in steps if math.isfinite(s.leak + s.leak_fired)] or steps


def timing_state(times: Timing) -> Deviations:
    """Return the timing of spikes as conventions."""
    output = "one step late" if times.delay == 1 else times.delay
    state: Deviations = {"refractory": times.refractory} if times.refractory else {}
    return state | ({"output": output} if times.delay else {})


def slopes_of(
    cases: Sequence[Case],
    got: Got,
    shown: Sequence[Potentials],
    law: Deviations,
    times: Timing,
) -> list[Deviations]:
    """Return the surrogates that have the measured slopes, wherever they are taken.

    `law` holds what was measured of leak and threshold.
    """
    for at in CONVENTIONS["surrogate_at"].values:
        samples = [] if at == "u" else list(level_surrogate(cases, got, law, str(at)))
        for one in shown:
            conventions = one.seen.case.conventions | law
            potential = one.seen.u if at == "u" else one.u_pre
            if potential is not None:
                x_seq = potential - (0.0 if at == "u_pre" else float(conventions["v_th"]))
                gain = gain_of(conventions)
                sample = samples_of(one.seen, x_seq, one.fired, gain, times)
                samples += [] if sample is None else [sample]
        states = list(slope_states(samples))
        if states:
            return [state | {"surrogate_at": at} for state in states]
    return []


def facts_of(parts: Mapping[str, Sequence[Deviations]], cases: Sequence[Case]) -> list[str]:
    """Describe in words what was measured and differs from what the cases ask for."""
    states = [needed(states[0], cases) for states in parts.values() if states]
    return [words(state) for state in states if state]


def contradictions(shown: Sequence[Potentials], delay: int) -> Iterator[str]:
    """Describe in words where o contradicts u_pre, or u contradicts both.

    Spikes are passed on `delay` steps late, so that those of the last steps are not known.
    """
    for one in shown:
        seen = one.seen
        if seen.u_pre is None or seen.o is None:
            continue
        low, high = bounds(seen.u_pre, seen.o)
        if timing([(seen, seen.u_pre)])[0] == Timing() and low > high:
            yield (
                f"{seen.case.id}: o contradicts u_pre: no threshold separates the potentials that "
                f"fire, from {high:.6g}, from those that do not, up to {low:.6g}"
            )
            return
        if seen.u is None:
            continue
        fired = seen.o[delay:]
        u, u_pre = seen.u[: len(fired)], seen.u_pre[: len(fired)]
        kept = (u - u_pre)[fired <= 0]
        if kept.size and np.ptp(kept) > seen.near * np.abs(seen.u_pre).max():
            yield f"{seen.case.id}: u contradicts u_pre and o: without a spike it is not u_pre"
            return
        after, before = u[fired > 0], u_pre[fired > 0]
        spread = min(np.ptp(after), np.ptp(after - before)) if after.size else 0.0
        if not (seen.o > 1).any() and spread > seen.near * np.abs(seen.u_pre).max():
            yield (
                f"{seen.case.id}: u contradicts u_pre and o: after a spike it is neither a fixed "
                "potential nor u_pre less a fixed amount"
            )
            return
