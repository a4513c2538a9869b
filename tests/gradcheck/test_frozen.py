"""Stopped gradients: constants in the forward pass, for finite differences too."""

import numpy as np
import pytest

from refsnn import Tanh
from refsnn.gradcheck import gradcheck, stop_gradient

SURROGATE = Tanh()
RNG = np.random.default_rng(1)
INPUTS = {"c": RNG.normal(size=(5, 3)), "v": 0.5 * RNG.normal(size=(3, 3))}


def same(x):
    return x


def neuron(stop):
    """A layer over time with a recurrence, u_pre = u / 2 + c + o before @ v, whose reset may be
    stopped."""

    def forward(c, v):
        u, before, cache = np.zeros_like(c[0]), np.zeros_like(c[0]), []
        for c_t in c:
            u_pre = 0.5 * u + c_t + before @ v
            o = SURROGATE.primitive(u_pre - 1, 1.0)
            u = u_pre * (1 - stop(o))
            cache.append((u_pre, o, before))
            before = o
        return np.stack([o for _, o, _ in cache]), (cache, v)

    return forward


def pull(full):
    """The backward pass of that layer, with the reset's part or without."""

    def backward(do, cache):
        steps, v = cache
        dc, dv, du, later = np.empty_like(do), np.zeros_like(v), 0.0, np.zeros_like(do[0])
        for t in reversed(range(len(do))):
            u_pre, o, before = steps[t]
            h = SURROGATE.slope(u_pre - 1, 1.0)
            dc[t] = (do[t] + later) * h + du * (1 - o - full * u_pre * h)
            dv += np.outer(before, dc[t])
            du, later = 0.5 * dc[t], v @ dc[t]
        return dc, dv

    return backward


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_detached_reset_is_checked_with_a_recurrence(dtype):
    inputs = {name: x.astype(dtype) for name, x in INPUTS.items()}
    for stop, full in ((stop_gradient, False), (same, True)):
        report = gradcheck(neuron(stop), pull(full), inputs)
        assert report.passed, report


def test_the_other_backward_pass_fails(verdicts):
    for stop, full in ((stop_gradient, True), (same, False)):
        report = gradcheck(neuron(stop), pull(full), INPUTS)
        assert verdicts(report)["c", "differences"] == "failed"


def test_outside_of_gradcheck_it_is_x():
    x = np.ones(3)
    assert stop_gradient(x) is x
    assert stop_gradient(2.0) == 2.0
    gradcheck(neuron(stop_gradient), pull(False), INPUTS)
    assert stop_gradient(x) is x


def test_it_is_x_again_after_a_forward_pass_that_raised():
    def forward(x):
        stop_gradient(x)
        raise ZeroDivisionError

    x = np.ones(3)
    with pytest.raises(ZeroDivisionError):
        gradcheck(forward, lambda dy, _: dy, {"x": x})
    assert stop_gradient(x) is x


def test_a_number_can_be_stopped():
    def forward(x):
        return float(x) * stop_gradient(float(x)), float(x)

    assert gradcheck(forward, lambda dy, x: float(dy) * x, {"x": np.array(3.0)}).passed
    assert not gradcheck(forward, lambda dy, x: float(dy) * 2 * x, {"x": np.array(3.0)}).passed


def test_the_stopped_value_may_be_written_into_afterwards():
    def forward(x):
        y = x * x
        kept = stop_gradient(y)
        z = kept * x
        y[...] = 0
        kept[...] = 0
        return z, x * x

    assert gradcheck(forward, lambda dy, y: dy * y, {"x": np.linspace(1, 2, 5)}).passed


def test_an_input_may_be_affine_but_for_what_is_stopped():
    def forward(x, w):
        y = x @ w
        return y * stop_gradient(y), (x, w, y)

    def backward(dy, cache):
        x, w, y = cache
        return (dy * y) @ w.T, x.T @ (dy * y)

    inputs = {"x": RNG.normal(size=(4, 3)), "w": RNG.normal(size=(3, 2))}
    report = gradcheck(forward, backward, inputs, linear_in="w")
    assert report.passed, report
    assert [c.kind for c in report.checks if c.subject == "w"] == ["differences", "adjoint"]


def times(counts):
    """A layer y = x that stops gradients as often as `counts` says of its first element."""

    def forward(x):
        for _ in range(counts(x[0])):
            stop_gradient(x)
        return x.copy(), None

    return forward


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (lambda x: 2 + (x > 1), "number of calls depends on the inputs: got 3 or more, want 2"),
        (lambda x: 2 - (x > 1), "number of calls depends on the inputs: got 1, want 2"),
    ],
)
def test_another_number_of_calls_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        gradcheck(times(counts), lambda dy, _: dy, {"x": np.ones(3)})


def test_another_shape_is_refused():
    def forward(x):
        stop_gradient(x[x <= 1])
        return x.copy(), None

    text = r"stop_gradient: call 1 got shape \(\d,\) at moved inputs, want \(3,\) as at the inputs"
    with pytest.raises(ValueError, match=text):
        gradcheck(forward, lambda dy, _: dy, {"x": np.ones(3)})


def test_a_check_within_a_check_has_values_of_its_own():
    def forward(x):
        kept = stop_gradient(x)
        assert gradcheck(neuron(stop_gradient), pull(False), INPUTS, directions=1).passed
        return x * kept, x

    assert gradcheck(forward, lambda dy, x: dy * x, {"x": np.ones(2)}, directions=1).passed
