"""The step from one potential to the next: leak, gain, reset, synapse and start, by regression."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize

from refsnn.ops import Array
from refsnn.oracle.measure.arrays import Deviations, Neurons, constant, nice, same
from refsnn.oracle.variant_neuron import LEAKS, delayed, filtered

LATEST = 4  # delays of the input that are tried, less than so many steps
LEAST = 6  # equations that a regression needs


class Step(NamedTuple):
    """The coefficients of one step, u_pre[t] as a function of the step before; NaN if unknown."""

    leak: float  # of u_pre[t-1] after no spike
    gain: float  # of i[t] after no spike
    constant: float  # after no spike
    leak_fired: float  # the same after a spike
    gain_fired: float
    constant_fired: float  # per spike
    start: float  # the potential before the first step
    synapse: float = 0.0
    input_delay: int = 0


def regress(columns: Sequence[Array], y: Array) -> tuple[Array, float]:
    """Return the coefficients of y on the columns, NaN where undetermined, and the residual.

    The residual is the largest, relative to the largest y.
    """
    matrix = np.stack([np.ravel(column) for column in columns], 1)
    y = np.ravel(y)
    counts = (matrix != 0).sum(0)
    used = counts >= 1
    found = np.full(len(columns), np.nan)
    if not used.any() or len(y) < LEAST:
        return found, np.inf
    norms = np.abs(matrix[:, used]).max(0)  # squares of tiny numbers would vanish
    scaled = matrix[:, used] / norms
    solution, _, rank, _ = np.linalg.lstsq(scaled, y, rcond=1e-10)
    residual = float(np.abs(scaled @ solution - y).max() / (np.abs(y).max() or 1.0))
    if rank == scaled.shape[1]:
        found[used] = solution / norms
    found[counts < 2] = np.nan
    return found, residual


def step_of(
    u_pre: Array, spikes: Array, i_seq: Array, is_known: Array | None = None
) -> tuple[Step, float]:
    """Fit the step from u_pre[t-1], the spikes and the current; return it and the residual."""
    fired = spikes[:-1] > 0
    before, i = u_pre[:-1], i_seq[1:]
    columns = [
        ~fired * before,
        ~fired * i,
        ~fired * np.ones_like(before),
        fired * before,
        fired * i,
        spikes[:-1] * np.ones_like(before),
    ]
    y = u_pre[1:]
    if is_known is not None:
        columns = [column[is_known[1:]] for column in columns]
        y = y[is_known[1:]]
    found, residual = regress(columns, y)
    leak, gain = found[:2]
    rest = u_pre[0] - gain * i_seq[0]
    start = np.nan
    if np.isfinite(leak) and abs(leak) > 1e-6 and np.isfinite(rest).all():
        start = float(np.median(rest) / leak)
        spread = float(np.abs(rest - np.median(rest)).max())
        if spread > 1e-3 * float(np.abs(u_pre[0]).max() or 1.0):
            start = np.nan
    a, b, rest_silent, a_fired, b_fired, rest_fired = map(float, found)
    return Step(a, b, rest_silent, a_fired, b_fired, rest_fired, start), residual


def fit_step(seen: Neurons, u_pre: Array, spikes: Array) -> Step | None:
    """Return the step that explains u_pre, with a synapse or a delay of the input if it needs one.

    None if no linear step does.
    """
    if len(u_pre) < 2:
        return None
    found = fit_current(seen, lambda i_seq: step_of(u_pre, spikes, i_seq)[1])
    if found is None:
        return None
    delay, alpha = found
    step, _ = step_of(u_pre, spikes, filtered(delayed(seen.c, delay), alpha))
    return step._replace(synapse=alpha, input_delay=delay)


def fit_current(seen: Neurons, residual: Callable[[Array], float]) -> tuple[int, float] | None:
    """Return the delay of the input and the synapse at which a regression leaves no residual.

    `residual` takes the current (T, N). None if there are none.
    """
    for delay in range(min(LATEST, len(seen.c) - 1)):
        if residual(delayed(seen.c, delay)) <= seen.near:
            return delay, 0.0
    for delay in (0, 1):
        c_seq = delayed(seen.c, delay)

        def of_synapse(alpha: float, c_seq: Array = c_seq) -> float:
            return residual(filtered(c_seq, float(alpha)))

        grid = np.linspace(0, 1, 41)
        best = int(np.argmin([of_synapse(alpha) for alpha in grid]))
        low, high = grid[max(best - 1, 0)], grid[min(best + 1, 40)]
        found = optimize.minimize_scalar(
            of_synapse, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
        )
        for alpha in (
            nice(float(found.x), max(seen.near, 1e-7)),
            float(grid[best]),
            float(found.x),
        ):
            if of_synapse(alpha) <= 10 * seen.near:
                return delay, alpha
    return None


def hidden_potentials(seen: Neurons) -> Array | None:
    """Return u_pre from u, which is u_pre itself where no spike follows."""
    if seen.u is None or seen.o is None or len(seen.u) < 2:
        return None
    u_seq, before, one = seen.u, delayed(seen.u, 1), np.ones_like(seen.u)
    for delay in (0, 1):
        silent = seen.o[delay:] == 0
        silent[0] = False  # the start, which may not be zero, has a constant of its own
        rows = np.nonzero(silent)

        def fit(i_seq: Array, rows: Any = rows) -> tuple[Array, float]:
            return regress([before[rows], i_seq[rows], one[rows]], u_seq[rows])

        found = fit_current(seen, partial(residual_of, fit))
        if found is None:
            continue
        i_seq = filtered(delayed(seen.c, found[0]), found[1])
        leak, gain, rest = np.nan_to_num(fit(i_seq)[0])
        u_pre = leak * before + gain * i_seq + rest
        first = seen.o[delay] == 0
        if first.any():
            u_pre[0] += float(np.median(u_seq[0][first] - u_pre[0][first]))
        return np.asarray(u_pre)
    return None


def residual_of(fit: Callable[[Array], tuple[Array, float]], i_seq: Array) -> float:
    """Return the residual of a regression."""
    return fit(i_seq)[1]


def leak_states(steps: list[tuple[Neurons, Step]]) -> Iterator[Deviations]:
    """Yield the forms of Eq. 1, with their numbers, that have the measured leak and gain."""
    near = max(seen.near for seen, _ in steps)
    taus = [float(seen.case.conventions["tau"]) for seen, _ in steps]
    leaks, gains = [step.leak for _, step in steps], [step.gain for _, step in steps]
    for leak, form in LEAKS.items():  # as the cases ask
        asked = [form(tau) for tau in taus]
        if all(same(a, want, near) for a, (want, _) in zip(leaks, asked, strict=True)):
            ratios = [b / want for b, (_, want) in zip(gains, asked, strict=True) if want]
            gain = constant(ratios, near)
            if gain is not None:
                yield {"leak": leak, "input_gain": gain}
    a, b = constant(leaks, near), constant(gains, near)
    if a is None or not 0 <= a <= 1:
        return
    if b is not None:
        for leak, form in LEAKS.items():
            for tau in (a, nice(1 - a, near)):
                if same(form(tau)[0], a, near) and same(form(tau)[1], b, near):
                    yield {"leak": leak, "tau": tau, "input_gain": 1.0}
        yield {"leak": "tau*u + c", "tau": a, "input_gain": b}
    else:  # the gain depends on what the cases ask, the leak does not
        yield {"tau": a}


def leak_or_nan(step: Step) -> float:
    """Return the leak, NaN where nothing of the potential is kept."""
    return step.leak if abs(step.leak) > 1e-6 else math.nan


def reset_states(steps: list[tuple[Neurons, Step]]) -> Iterator[Deviations]:
    """Yield the resets, with their numbers, that have the measured steps after a spike."""
    near = max(seen.near for seen, _ in steps)
    known = [(seen, s) for seen, s in steps if math.isfinite(s.leak_fired + s.constant_fired)]
    if not known:
        return
    scales = [float(seen.case.conventions["v_th"]) for seen, _ in known]

    def zero(value: float) -> bool:
        return not math.isfinite(value) or abs(value) <= 30 * near

    parts = [s for _, s in known]
    if any(not zero(s.constant) for s in parts):
        pairs = zip(parts, scales, strict=True)
        late = all(same(s.constant, v_th, near) for s, v_th in pairs)
        pairs = zip(parts, scales, strict=True)
        if late or all(same(s.constant, s.leak * v_th, near) for s, v_th in pairs):
            yield {"reset": "subtract o - v_th, next step" if late else "subtract o - v_th"}
        return
    if all(zero(s.leak_fired) for s in parts):
        late = all(zero(s.gain_fired) for s in parts) and not all(zero(s.gain) for s in parts)
        targets = [s.constant_fired / (1 if late else leak_or_nan(s)) for s in parts]
        target = constant(targets, near)
        name = "zero, next step" if late else "zero"
        if all(map(zero, targets)):
            yield {"reset": name, "reset_potential": 0.0}
        elif target is not None:
            yield {"reset": name, "reset_potential": target}
    elif all(same(s.leak_fired, s.leak, near) for s in parts):
        if all(zero(s.constant_fired) for s in parts):
            yield {"reset": "none"}
            return
        for name in ("subtract", "subtract, next step"):
            amounts = [
                -s.constant_fired / (leak_or_nan(s) if name == "subtract" else 1) for s in parts
            ]
            if all(same(x, v_th, near) for x, v_th in zip(amounts, scales, strict=True)):
                yield {"reset": name, "reset_amount": "v_th"}
            amount = constant(amounts, near)
            if amount is not None:
                yield {"reset": name, "reset_amount": amount}


def input_states(steps: list[tuple[Neurons, Step]]) -> Iterator[Deviations]:
    """Yield the synapse and the delay of the input."""
    alpha = constant([step.synapse for _, step in steps], 1e-6)
    delays = {step.input_delay for _, step in steps}
    if alpha is not None and len(delays) == 1:
        yield {"synapse": alpha, "input_delay": delays.pop()}


def start_states(steps: list[tuple[Neurons, Step]]) -> Iterator[Deviations]:
    """Yield the potential before the first step."""
    near = max(seen.near for seen, _ in steps)
    start = constant([step.start for _, step in steps], near * 100)
    if start is not None and abs(start) > 1e-4:
        yield {"initial_potential": start}
