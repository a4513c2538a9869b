"""Batch norm by hand and against one channel at a time; its gradient by differences."""

import numpy as np
import pytest

from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward

MODES = [
    pytest.param(BatchNorm(), True, id="pooled"),
    pytest.param(BatchNorm(scale=0.5), True, id="pooled-scaled"),
    pytest.param(BatchNorm("per_step"), True, id="per_step"),
    pytest.param(BatchNorm("per_step", scale=2.0, eps=0.3), True, id="per_step-scaled"),
    pytest.param(BatchNorm(eps=0.3), False, id="inference"),
    pytest.param(BatchNorm("per_step", scale=0.5), False, id="inference-scaled"),
]
SHAPE = (2, 3, 2, 1, 4)


def drawn(shape=SHAPE, dtype=float):
    """x of unlike steps and channels, gamma, beta, running statistics, dy: none writeable."""
    rng = np.random.default_rng(0)
    steps, channels = shape[0], shape[-1]
    x = rng.normal(size=shape) * np.arange(1, 1 + channels) + 3
    x += 5 * np.arange(steps).reshape(-1, 1, 1, 1, 1)
    gamma, beta, mean = rng.normal(size=(3, channels))
    var = rng.uniform(0.5, 2, channels)
    arrays = [a.astype(dtype) for a in (x, gamma, beta, mean, var, rng.normal(size=shape))]
    for a in arrays:
        a.flags.writeable = False
    x, gamma, beta, mean, var, dy = arrays
    return x, gamma, beta, Running(mean, var), dy


def column(*values):
    """(T, N, 1, 1, 1), two images a step"""
    return np.array(values, float).reshape(-1, 2, 1, 1, 1)


ONE, TWO, THREE = (np.array([float(n)]) for n in (1, 2, 3))
FRESH = Running(np.zeros(1), np.ones(1))


def test_pooled_statistics_worked_by_hand():
    # mean 3; squares of distances 4 + 1 + 0 + 9, over 4 in the normaliser, over 3 as kept
    p = BatchNorm(eps=0.5)
    y, running, _ = batchnorm_forward(column(1, 2, 3, 6), TWO, THREE, FRESH, p, True)
    assert y.ravel().tolist() == [1, 2, 3, 6]  # sqrt(3.5 + 0.5) = 2 = gamma, and beta = mean
    np.testing.assert_allclose(running.mean, [0.1 * 3], rtol=1e-15)
    np.testing.assert_allclose(running.var, [0.9 + 0.1 * 14 / 3], rtol=1e-15)


def test_statistics_per_step_worked_by_hand():
    # step 1: mean 1.5, biased variance 0.25, unbiased 0.5; step 2: 4.5, 2.25 and 4.5
    p = BatchNorm("per_step", eps=1e-12)
    y, running, _ = batchnorm_forward(column(1, 2, 3, 6), TWO, THREE, FRESH, p, True)
    np.testing.assert_allclose(y.ravel(), [1, 5, 1, 5], rtol=1e-10)
    # two updates, each with momentum 0.1
    np.testing.assert_allclose(running.mean, [0.9 * (0.1 * 1.5) + 0.1 * 4.5], rtol=1e-15)
    np.testing.assert_allclose(running.var, [0.9 * (0.9 + 0.1 * 0.5) + 0.1 * 4.5], rtol=1e-15)


def test_inference_uses_the_running_statistics_and_leaves_them():
    running = Running(np.array([1.0]), np.array([3.5]))
    p = BatchNorm(scale=0.25, eps=0.5)
    y, after, _ = batchnorm_forward(column(1, 3, -1, 9), TWO, THREE, running, p, False)
    assert y.ravel().tolist() == [3, 3.5, 2.5, 5]  # 3 + 2 * 0.25 * (x - 1) / sqrt(3.5 + 0.5)
    assert np.array_equal(after, running)


@pytest.mark.parametrize(
    ("momentum", "mean", "var"), [(0.0, 0, 1), (1.0, 3, 14 / 3), (0.5, 1.5, 17 / 6)]
)
def test_momentum_is_the_weight_of_the_new_batch(momentum, mean, var):
    p = BatchNorm(momentum=momentum)
    _, running, _ = batchnorm_forward(column(1, 2, 3, 6), ONE, ONE, FRESH, p, True)
    np.testing.assert_allclose([running.mean[0], running.var[0]], [mean, var], rtol=1e-15)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("statistics", ["pooled", "per_step"])
def test_each_channel_is_normalised_over_its_own_group(statistics, scale):
    x, gamma, beta, running, _ = drawn()
    p = BatchNorm(statistics, scale)
    y, after, _ = batchnorm_forward(x, gamma, beta, running, p, True)
    mean, var = running.mean.copy(), running.var.copy()
    for c in range(SHAPE[-1]):
        groups = x[..., c].reshape(1 if statistics == "pooled" else SHAPE[0], -1)
        for group, got in zip(groups, y[..., c].reshape(groups.shape), strict=True):
            want = (group - group.mean()) / np.sqrt(group.var() + 1e-5)
            np.testing.assert_allclose(got, gamma[c] * scale * want + beta[c], rtol=1e-12)
            mean[c] = 0.9 * mean[c] + 0.1 * group.mean()
            var[c] = 0.9 * var[c] + 0.1 * group.var(ddof=1)
    np.testing.assert_allclose(after.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(after.var, var, rtol=1e-12)


@pytest.mark.parametrize(("p", "training"), MODES)
def test_gradients_equal_differences(numeric_gradient, p, training):
    x, gamma, beta, running, dy = drawn()

    def loss(x=x, gamma=gamma, beta=beta):
        return (dy * batchnorm_forward(x, gamma, beta, running, p, training)[0]).sum()

    got = batchnorm_backward(dy, batchnorm_forward(x, gamma, beta, running, p, training)[2])
    want = (
        numeric_gradient(lambda a: loss(x=a), x),
        numeric_gradient(lambda a: loss(gamma=a), gamma),
        numeric_gradient(lambda a: loss(beta=a), beta),
    )
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("statistics", "axes"), [("pooled", (0, 1, 2, 3)), ("per_step", (1, 2, 3))]
)
def test_the_gradient_is_orthogonal_to_what_normalising_takes_out(statistics, axes):
    x, gamma, beta, running, dy = drawn()
    p = BatchNorm(statistics, eps=1e-14)
    _, _, cache = batchnorm_forward(x, gamma, beta, running, p, True)
    dx, _, _ = batchnorm_backward(dy, cache)
    assert np.abs(dx).max() > 0.1
    assert np.abs(dx.sum(axis=axes)).max() < 1e-12  # a shift of the group
    assert np.abs((dx * cache.x_hat).sum(axis=axes)).max() < 1e-12  # a stretch of it


def test_one_value_a_group_gives_beta_and_no_nan():
    x = np.array([3.0, 7.0]).reshape(2, 1, 1, 1, 1)
    p = BatchNorm("per_step")
    y, running, cache = batchnorm_forward(x, TWO, THREE, FRESH, p, True)
    assert y.ravel().tolist() == [3, 3]
    np.testing.assert_allclose(running.var, [0.81], rtol=1e-15)
    assert not batchnorm_backward(y, cache)[0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("p", "training"), MODES)
def test_dtype_is_kept_and_nothing_given_is_written(p, training, dtype):
    x, gamma, beta, running, dy = drawn(dtype=dtype)  # not writeable
    y, after, cache = batchnorm_forward(x, gamma, beta, running, p, training)
    got = [y, *after, *batchnorm_backward(dy, cache)]
    assert {a.dtype for a in got} == {np.dtype(dtype)}
    assert [a.shape for a in got] == [SHAPE, (4,), (4,), SHAPE, (4,), (4,)]


@pytest.mark.parametrize("statistics", ["pooled", "per_step"])
def test_many_pixels_in_single_precision_round_like_few(statistics):
    x, gamma, beta, running, dy = drawn((2, 16, 32, 32, 3))
    p = BatchNorm(statistics)
    double = batchnorm_forward(x, gamma, beta, running, p, True)
    want = batchnorm_backward(dy, double[2])
    x, gamma, beta, running, dy = drawn((2, 16, 32, 32, 3), np.float32)
    single = batchnorm_forward(x, gamma, beta, running, p, True)
    np.testing.assert_allclose(single[0], double[0], rtol=1e-5, atol=3e-6)
    for a, b in zip(batchnorm_backward(dy, single[2]), want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"statistics": "batch"}, "statistics: got 'batch', want one of pooled, per_step"),
        ({"scale": 0}, "scale: got 0"),
        ({"eps": 0}, "eps: got 0"),
        ({"momentum": 1.1}, r"momentum: got 1.1, want a number in \[0, 1\]"),
        ({"momentum": -0.1}, "momentum: got -0.1"),
    ],
)
def test_impossible_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        BatchNorm(**fields)


def test_a_sequence_without_time_is_refused():
    with pytest.raises(
        ValueError, match=r"^x_seq: got shape \(2, 1, 1, 1\), want \(T, N, H, W, C\)"
    ):
        batchnorm_forward(column(1, 2)[0], ONE, ONE, FRESH, BatchNorm(), True)


def test_parameters_that_do_not_fit_the_channels_are_refused():
    x, two, three = np.ones((1, 2, 2, 2, 3)), np.ones(2), np.ones(3)
    for arguments, name in (
        ((two, three, Running(three, three)), "gamma"),
        ((three, two, Running(three, three)), "beta"),
        ((three, three, Running(two, three)), "mean"),
        ((three, three, Running(three, three.astype(np.float32))), "var"),
    ):
        with pytest.raises(ValueError, match=f"^{name}: got "):
            batchnorm_forward(x, *arguments, BatchNorm(), True)
