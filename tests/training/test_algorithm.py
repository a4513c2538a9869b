"""Algorithm 1, line by line."""

import math
import weakref

import numpy as np
import pytest

from refsnn.data import load
from refsnn.network import backward, encode, forward, init_buffers, init_params, neuron_caches
from refsnn.ops import NUMPY, get_ops
from refsnn.training import algorithm
from refsnn.training.algorithm import evaluate, gradients, main_logits, train_step
from refsnn.training.checkpoint import State
from refsnn.training.config import make_config
from refsnn.training.monitor import Diverged, firing_rates
from refsnn.training.optimizer import OPTIMIZERS, init_state

BATCHES = 3


def start(iteration=0, seed=0, **values):
    """A configuration, its network for grey images of 10 classes, and a state."""
    settings = {"arch": "1-1:3-4", "dtype": "float64", "ops": "numpy", "epochs": 2} | values
    config = make_config(**settings)
    net = config.build_network(1, 10)
    rng = np.random.default_rng(seed)
    params = init_params(net, rng, config.dtype)
    for name in params:
        if "bn" in name and name.endswith("bias"):
            params[name] += 0.7  # so that even a few channels keep firing
    buffers = init_buffers(net, config.dtype)
    return config, net, State(params, buffers, init_state(params, config.optimizer), rng, iteration)


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def softmax(logits):
    e = np.exp(logits - logits.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


SIDES = {"vanilla": 0.0, "shortcut": 1.0, "evolutionary": 0.25 * (1 - 5 / 6)}


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
@pytest.mark.parametrize("method", SIDES)
def test_an_iteration_is_algorithm_1(digits, method, branch_sum):
    """The fifth of six: forward, lambda, combination, cross-entropy, gradients and sgd by hand."""
    config, net, state = start(
        4,
        method=method,
        branch_sum=branch_sum,
        optimizer="sgd",
        lr=0.3,
        momentum=0.9,
        weight_decay=0.1,
    )
    state.optimizer = {name: np.cos(m) for name, m in state.optimizer.items()}
    params, buffers, moments = state.params, state.buffers, state.optimizer
    images, labels = digits.batch(digits.train, np.arange(20), np.float64)
    step = train_step(state, net, config, NUMPY, (images, labels), BATCHES)

    side, lr = SIDES[method], 0.3 * (1 + math.cos(math.pi * 4 / 6)) / 2
    run = forward(net, params, buffers, np.stack([images] * 2), NUMPY)
    *sides, main = run.branches
    assert len(sides) == (0 if method == "vanilla" else 1)
    y = np.eye(10)[labels]
    if branch_sum == "logits":
        p = softmax(main + side * sum(sides))
        loss = -np.log(p[np.arange(20), labels]).mean()
        db = [side * (p - y) / 20 for _ in sides] + [(p - y) / 20]
    else:
        losses = [-np.log(softmax(b)[np.arange(20), labels]).mean() for b in run.branches]
        loss = losses[-1] + side * sum(losses[:-1])
        weights = [side] * len(sides) + [1]
        db = [w * (softmax(b) - y) / 20 for w, b in zip(weights, run.branches, strict=True)]
    grads = backward(run, db)

    assert (step.side, step.lr) == (pytest.approx(side, rel=1e-14), pytest.approx(lr, rel=1e-14))
    assert step.loss == pytest.approx(loss, rel=1e-13)
    assert np.array_equal(step.logits, main)
    assert step.rates == firing_rates(run)
    assert state.iteration == 5
    for name, w in params.items():
        scale = max(np.abs(grads[name]).max(), 1e-300)
        assert np.abs(step.grads[name] - grads[name]).max() <= 1e-12 * scale
        v = 0.9 * moments[f"momentum.{name}"] + grads[name] + 0.1 * w
        np.testing.assert_allclose(state.optimizer[f"momentum.{name}"], v, rtol=1e-12)
        np.testing.assert_allclose(state.params[name], w - lr * v, rtol=1e-11, atol=1e-14)
    for name, value in state.buffers.items():
        assert np.array_equal(value, run.buffers[name])
        assert not np.array_equal(value, buffers[name])


def test_an_iteration_hands_its_number_to_the_bias_correction(digits):
    """AdamW at iteration 5 from zero moments: m = 0.1 g and s = 0.001 g^2, corrected for 5."""
    config, net, state = start(4, optimizer="adamw", lr=0.3, weight_decay=0.0)
    before = state.params["head.fc.weight"]
    batch = digits.batch(digits.train, np.arange(20), np.float64)
    step = train_step(state, net, config, NUMPY, batch, BATCHES)
    g = step.grads["head.fc.weight"]
    mean, square = 0.1 * g / (1 - 0.9**5), 0.001 * g**2 / (1 - 0.999**5)
    wanted = before - step.lr * mean / (np.sqrt(square) + 1e-8)
    np.testing.assert_allclose(state.params["head.fc.weight"], wanted, rtol=1e-9)


def test_a_whole_run_ends_on_the_main_branch_alone(digits):
    config, net, state = start(method="evolutionary")
    batch = digits.batch(digits.train, np.arange(8), np.float64)
    steps = [train_step(state, net, config, NUMPY, batch, BATCHES) for _ in range(6)]
    assert [s.side for s in steps] == pytest.approx([0.25 * k / 6 for k in range(5, -1, -1)])
    assert steps[-1].side == 0
    assert not steps[-1].grads["branch.stage1.fc.weight"].any()
    assert steps[-2].grads["branch.stage1.fc.weight"].any()
    assert steps[0].lr == config.optimizer.lr


@pytest.mark.parametrize("where", ["images", "stem.conv0.weight", "head.fc.bias"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_state_does_not_move_when_it_diverges(digits, where):
    config, net, state = start(2)
    images, labels = digits.batch(digits.train, np.arange(8), np.float64)
    (images if where == "images" else state.params[where]).flat[0] = np.nan
    parts = ("params", "buffers", "optimizer")
    before = [dict(getattr(state, part)) for part in parts]
    copies = [{name: a.copy() for name, a in part.items()} for part in before]
    with pytest.raises(Diverged, match="iteration 3: "):
        train_step(state, net, config, NUMPY, (images, labels), BATCHES)
    assert state.iteration == 2
    for part, members, copied in zip(parts, before, copies, strict=True):
        now = getattr(state, part)
        assert all(now[name] is members[name] for name in members)
        assert all(np.array_equal(now[name], copied[name], equal_nan=True) for name in copied)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_state_does_not_move_when_the_update_overflows(digits):
    """All of the pass is finite; 1e30 * 1e9 leaves the range of single precision."""
    config, net, state = start(dtype="float32", optimizer="sgd", lr=1e30, weight_decay=1e9)
    batch = digits.batch(digits.train, np.arange(8), np.float32)
    before = state.params, state.buffers, state.optimizer
    with pytest.raises(Diverged, match=r"iteration 1: .*the update of stem\.conv0\.weight$"):
        train_step(state, net, config, NUMPY, batch, BATCHES)
    now = state.params, state.buffers, state.optimizer
    assert all(a is b for a, b in zip(now, before, strict=True))
    assert state.iteration == 0


@pytest.mark.parametrize("keeps_all", [True, False])
def test_a_state_does_not_move_when_the_square_of_a_gradient_overflows(digits, keeps_all):
    """The gradient is finite, and so is the update: AdamW divides by an infinite square."""
    config, net, state = start(dtype="float32")
    state.params["head.fc.weight"] *= np.float32(1e25)
    batch = digits.batch(digits.train, np.arange(8), np.float32)
    before = dict(state.params), state.buffers, dict(state.optimizer)
    message = r"iteration 1: .*infinity is in the optimizer's square\.stem\.conv0\.weight$"
    with pytest.raises(Diverged, match=message), np.errstate(over="ignore"):
        train_step(state, net, config, NUMPY, batch, BATCHES, keeps_all)
    assert state.iteration == 0
    for was, now in zip(before, (state.params, state.buffers, state.optimizer), strict=True):
        assert all(now[name] is values for name, values in was.items())


def test_a_step_does_not_write_what_it_was_given(digits):
    config, net, state = start()
    images, labels = digits.batch(digits.train, np.arange(8), np.float64)
    given = [images, labels, *state.params.values(), *state.buffers.values()]
    for array in (*given, *state.optimizer.values()):
        array.flags.writeable = False  # writing raises
    train_step(state, net, config, NUMPY, (images, labels), BATCHES)


@pytest.mark.parametrize("name", ["numpy", "numba"])
@pytest.mark.parametrize("branches", ["stage", "block"])
def test_inference_is_the_main_branch_of_the_full_network_to_the_bit(digits, branches, name):
    config, net, state = start(arch="2-1:3-4", branches=branches)
    batch = digits.batch(digits.train, np.arange(40), np.float64)
    train_step(state, net, config, NUMPY, batch, BATCHES)
    images, _ = digits.batch(digits.test, np.arange(30), np.float64)
    ops = get_ops(name)
    x_seq = encode(images, 3)
    full = forward(net, state.params, state.buffers, x_seq, ops, training=False).branches
    logits = main_logits(net, state.params, state.buffers, images, 3, ops)
    assert len(full) > 1
    assert logits.tobytes() == full[-1].tobytes()
    assert len(np.unique(logits.round(9), axis=0)) > 10  # the images do differ


@pytest.mark.parametrize("batch_size", [7, 30, 128])
def test_accuracy_and_loss_are_those_of_the_main_branch_on_all_test_images(digits, batch_size):
    config, net, state = start(steps=3)
    batch = digits.batch(digits.train, np.arange(40), np.float64)
    train_step(state, net, config, NUMPY, batch, BATCHES)
    images, _ = digits.batch(digits.test, np.arange(30), np.float64)
    logits = main_logits(net, state.params, state.buffers, images, 3, NUMPY)
    labels = logits.argmax(axis=1)
    labels[19:] = (labels[19:] + 1) % 10  # 19 of 30 are right
    before = dict(state.buffers)
    cuts = range(0, 30, batch_size)
    batches = ((images[i : i + batch_size], labels[i : i + batch_size]) for i in cuts)
    result = evaluate(state, net, config, NUMPY, batches)
    assert result["accuracy"] == 19 / 30
    right = np.arange(30) < 19
    assert result["class_accuracy"] == [
        right[labels == k].mean() if (labels == k).any() else None for k in range(10)
    ]
    assert None in result["class_accuracy"]
    wanted = -np.log(softmax(logits)[np.arange(30), labels]).mean()
    assert result["loss"] == pytest.approx(wanted, rel=1e-12)
    assert all(state.buffers[name] is before[name] for name in before)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["vanilla", "evolutionary"])
def test_kernels_and_equations_train_alike(digits, method):
    """Same spikes in every layer, loss and gradients, for twenty iterations that learn."""
    values = {"arch": "1-1:8-16", "epochs": 1, "lr": 0.05, "method": method}
    config, net, _ = start(**values)
    states = {name: start(**values)[2] for name in ("numpy", "numba")}
    order, losses = np.random.default_rng(1).permutation(1442), []
    for i in range(20):
        batch = digits.batch(digits.train, order[32 * i : 32 * i + 32], np.float64)
        passes = [
            gradients(net, state.params, state.buffers, config, get_ops(name), batch, 0.1)[1]
            for name, state in states.items()
        ]
        for (name, a), (_, b) in zip(*map(neuron_caches, passes), strict=True):
            assert np.array_equal(a.o_seq, b.o_seq), (i, name)
        one, two = (
            train_step(state, net, config, get_ops(name), batch, 20)
            for name, state in states.items()
        )
        assert abs(one.loss - two.loss) <= 1e-12
        for name, g in one.grads.items():
            assert np.abs(g - two.grads[name]).max() <= 1e-11 * np.abs(g).max(), (i, name)
        losses.append(one.loss)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.15


def test_the_update_has_the_memory_of_the_activations(digits, monkeypatch):
    """Arrays that the forward pass kept are freed before the optimiser makes its new numbers."""
    config, net, state = start()
    seen = []

    def watched(*arguments):
        loss, run, grads = gradients(*arguments)
        seen.append(weakref.ref(run.stem.units[0].neuron.cache.o_seq))
        return loss, run, grads

    def update(*arguments):
        seen.append(seen[0]() is None)
        return OPTIMIZERS[config.optimizer.optimizer](*arguments)

    monkeypatch.setattr(algorithm, "gradients", watched)
    monkeypatch.setattr(algorithm, "OPTIMIZERS", {config.optimizer.optimizer: update})
    batch = digits.batch(digits.train, np.arange(8), np.float64)
    train_step(state, net, config, NUMPY, batch, BATCHES)
    assert seen[1:] == [True]
