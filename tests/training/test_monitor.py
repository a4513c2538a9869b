"""Records of a step, and the place where a number first went wrong."""

import numpy as np
import pytest

from refsnn.network import backward, forward, init_buffers, init_params
from refsnn.ops import NUMPY
from refsnn.training.config import make_config
from refsnn.training.monitor import (
    Diverged,
    firing_rates,
    first_gradient_norm,
    norm,
    require_finite,
    require_finite_update,
    weight_gradient_norms,
)


@pytest.fixture
def net():
    return make_config(arch="resnet19-tet", width=1 / 32).build_network(1, 3)


@pytest.fixture
def params(net):
    return init_params(net, np.random.default_rng(0))


@pytest.fixture
def step(net):
    """A forward and a backward pass."""

    def make(params):
        x_seq = np.random.default_rng(1).normal(size=(2, 4, 8, 8, 1))
        run = forward(net, params, init_buffers(net), x_seq, NUMPY)
        return run, backward(run, [b - 1 for b in run.branches])

    return make


def test_firing_rates_are_the_share_of_spikes_of_each_layer(step, params):
    run, _ = step(params)
    rates = firing_rates(run)
    assert list(rates)[:3] == ["stem.lif0", "stage1.block0.lif1", "stage1.block0.lif2"]
    assert list(rates)[-1] == "head.lif"
    assert len(rates) == 1 + 2 * 8 + 1
    cache = run.segments[1][0].outer.neuron.cache.lif
    fired = np.count_nonzero(cache.u_pre_seq > 1) / cache.u_pre_seq.size
    assert rates["stage2.block0.lif2"] == fired > 0
    assert all(0 <= rate <= 1 for rate in rates.values())


def test_firing_rates_have_the_names_that_the_network_gives(step, params, net):
    assert list(firing_rates(step(params)[0])) == net.neurons()


def test_the_gradient_norm_is_the_first_layers(step, params):
    grads = step(params)[1]
    wanted = np.sqrt((grads["stem.conv0.weight"] ** 2).sum())
    assert first_gradient_norm(grads) == pytest.approx(wanted, rel=1e-14)
    assert wanted > 0


@pytest.mark.parametrize(("dtype", "size"), [("float32", 30), ("float64", 300)])
def test_the_norm_stays_in_range(dtype, size):
    rel = 1e-6 if dtype == "float32" else 1e-15
    for power in (size, 0, -size):
        x = np.array([3 * 10.0**power, -4 * 10.0**power], dtype)
        assert norm(x) == pytest.approx(5 * 10.0**power, rel=rel)
    assert norm(np.zeros(3, dtype)) == 0
    assert norm(np.array([np.inf, 1], dtype)) == np.inf
    assert np.isnan(norm(np.array([np.nan, 1], dtype)))


def test_norms_of_gradients_are_those_of_layers_of_weights(step, params):
    _, grads = step(params)
    found = weight_gradient_norms(grads)
    weights = [name for name in grads if name.endswith(".weight") and ".bn" not in name]
    assert list(found) == [name.removesuffix(".weight") for name in weights]
    assert list(found.values()) == [norm(grads[name]) for name in weights]


def test_finite_numbers_pass(step, params):
    assert require_finite(1, 0.5, *step(params)) is None
    assert require_finite_update(1, 0.5, params, {"square.head.fc.bias": np.ones(3)}) is None


@pytest.mark.parametrize("sign", [1, -1])
def test_finite_numbers_whose_sum_overflows_pass(step, params, sign):
    """A sum of float32 overflows before any of its terms does."""
    run, grads = step(params)
    large = np.full(4, sign * 2e38, np.float32)
    with np.errstate(over="ignore"):
        assert not np.isfinite(large.sum())
        assert require_finite(1, 0.5, run, grads | {"head.fc.bias": large}) is None
        moments = {"square.head.fc.bias": large}
        assert require_finite_update(1, 0.5, params | {"head.fc.bias": large}, moments) is None


BAD = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
FIRST = "the first NaN or infinity is in"


@BAD
@pytest.mark.parametrize(
    ("names", "layer"),
    [
        (["stem.conv0.weight"], "stem.(conv|bn)0"),
        (["stage1.block0.conv1.weight"], "stage1.block0.(conv|bn)1"),
        (["stage2.block1.conv2.weight"], "stage2.block1.(conv|bn)2"),
        (["stage3.block0.skip.conv.weight"], "stage3.block0.skip.(conv|bn)"),
        (["stem.bn0.weight"], "stem.(bn|lif)0"),
        (["stage2.block0.bn1.bias"], "stage2.block0.(bn|lif)1"),
        (["head.hidden.weight"], "head.(hidden|lif)"),
        (["head.fc.weight"], "head.fc"),
        (["branch.stage1.fc.bias"], "branch.stage1.fc"),
        (["stage3.block1.conv1.weight", "stage1.block1.conv1.weight"], "stage1.block1.(conv|bn)1"),
        (["stage2.block0.conv2.weight", "stage2.block0.conv1.weight"], "stage2.block0.(conv|bn)1"),
        (["head.fc.weight", "stem.conv0.weight"], "stem.(conv|bn)0"),
        (["head.fc.weight", "branch.stage2.fc.weight"], "branch.stage2.fc"),
    ],
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_first_layer_that_is_not_finite_is_named_with_the_iteration(
    step, params, names, layer, value
):
    for name in names:
        params[name].flat[0] = value
    run, grads = step(params)
    loss, _ = NUMPY.objective_forward(run.branches, np.array([0, 1, 2, 0]), 1.0)
    with pytest.raises(Diverged, match=rf"^iteration 41: .*{FIRST} {layer}$"):
        require_finite(41, loss, run, grads)


@BAD
def test_where_gradients_are_not_finite_the_last_layer_is_named(step, params, value):
    run, grads = step(params)
    for name in ("stage1.block0.conv1.weight", "stage2.block0.conv2.weight"):
        grads[name].flat[-1] = value
    message = rf"iteration 3: .*{FIRST} the gradient of stage2\.block0\.conv2\.weight$"
    with pytest.raises(Diverged, match=message):
        require_finite(3, 0.5, run, grads)


def test_a_running_variance_that_overflowed_names_its_layer(step, params):
    run, grads = step(params)
    for name in ("stage2.block0.bn1.running_var", "stage3.block0.bn1.running_var"):
        run.buffers[name][0] = np.inf
    with pytest.raises(Diverged, match=rf"iteration 3: .*{FIRST} stage2\.block0\.bn1$"):
        require_finite(3, 0.5, run, grads)


@BAD
def test_where_the_update_alone_is_not_finite_its_parameter_is_named(params, value):
    new = params | {"head.fc.bias": np.full(3, value)}
    with pytest.raises(Diverged, match=rf"iteration 3: .*{FIRST} the update of head\.fc\.bias$"):
        require_finite_update(3, 0.5, new, {})


@BAD
def test_where_a_moment_alone_is_not_finite_it_is_named(params, value):
    moments = {f"square.{name}": np.ones(3) for name in params}
    moments["square.head.fc.bias"][1] = value
    message = rf"iteration 3: .*{FIRST} the optimizer's square\.head\.fc\.bias$"
    with pytest.raises(Diverged, match=message):
        require_finite_update(3, 0.5, params, moments)


@BAD
def test_a_loss_that_is_not_finite_is_shown(step, params, value):
    with pytest.raises(Diverged, match=rf"^iteration 3: loss {value}; {FIRST} the loss$"):
        require_finite(3, value, *step(params))
