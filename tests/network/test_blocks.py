"""Blocks of other methods: SEW-ResNet's, which join spikes, and MS-ResNet's, of currents."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.equations.sew import JOINS, join_backward, join_forward
from refsnn.export.network_json import network_from_json, network_to_json
from refsnn.export.parameters import from_state_dict, state_dict
from refsnn.network import (
    BLOCKS,
    Network,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.network.layers import Context
from refsnn.network.membrane import membrane_backward, membrane_forward
from refsnn.network.model import recomputed_neurons
from refsnn.network.sew import sew_backward, sew_forward
from refsnn.ops import CROSS_ENTROPY, LIF, NEURONS, NUMPY, get_ops
from refsnn.training.config import make_config

OTHERS = BLOCKS[1:]
KIND = pytest.mark.parametrize("kind", OTHERS)
P = LIF(0.4, 0.7)


def step(net, params, buffers, x_seq, labels, ops, **options):
    run = forward(net, params, buffers, x_seq, ops, **options)
    loss, cache = ops.objective_forward(run.branches, labels, 0.25, "logits", CROSS_ENTROPY)
    return run, loss, backward(run, ops.objective_backward(cache))


@KIND
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"downsample": "avgpool", "branches": "block"}, {"neuron_model": NEURONS["mpbn"]()}],
    ids=["conv", "avgpool", "mpbn"],
)
@pytest.mark.slow_after(4)
def test_gradients_of_a_smooth_network_equal_differences(kind, training, options, build, sequence):
    net, params, buffers = build("2-1:3-4", block=kind, lif=replace(P, smooth=True), **options)
    x_seq, labels = sequence(2, 3, 6)

    def at(values):
        return step(net, values, buffers, x_seq, labels, NUMPY, training=training)

    grads, rng = at(params)[2], np.random.default_rng(0)
    assert list(grads) == list(net.shapes())
    for name, x in params.items():
        v, h = rng.normal(size=x.shape), 1e-5
        above, below = (at(params | {name: x + s * v})[1] for s in (h, -h))
        got = float((grads[name] * v).sum())
        assert got == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-8), name


@KIND
@pytest.mark.parametrize("model", [None, "plif", "real_spike", "mpbn"])
def test_kernels_and_low_memory(kind, model, build, sequence):
    """The same spikes as NumPy's, gradients near them, and the same bits where memory is low."""
    neuron = NEURONS[model]() if model else None
    net, params, buffers = build("2-1:5-16", block=kind, lif=P, neuron_model=neuron)
    x_seq, labels = sequence(3, 4, 8)
    groups = [{n: x.astype(np.float32) for n, x in g.items()} for g in (params, buffers)]
    given = net, *groups, x_seq.astype(np.float32), labels
    run, loss, grads = step(*given, NUMPY)
    other, other_loss, other_grads = step(*given, get_ops("numba"))
    low, low_loss, low_grads = step(*given, get_ops("numba"), keep="spikes")
    assert [n.name for n in recomputed_neurons(run)] == net.neurons()
    for a, b in zip(recomputed_neurons(run), recomputed_neurons(other), strict=True):
        assert np.array_equal(a.o_seq, b.o_seq), a.name
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert other_loss == low_loss
    for name, g in grads.items():
        assert other_grads[name].tobytes() == low_grads[name].tobytes(), name
        atol = 1e-3 * max(float(np.abs(g).max()), 1e-3)
        np.testing.assert_allclose(other_grads[name], g, rtol=0, atol=atol, err_msg=name)
    for name, x in other.buffers.items():
        assert x.tobytes() == low.buffers[name].tobytes(), name


def test_joins_worked_by_hand():
    a, s = np.array([0.0, 0, 1, 1]), np.array([0.0, 2, 0, 3])
    wanted = {"add": [0, 2, 1, 4], "and": [0, 0, 0, 3], "iand": [0, 2, 0, 0]}
    dy = np.array([1.0, 10, 100, 1000])
    by_a = {"add": dy, "and": dy * s, "iand": -dy * s}
    by_s = {"add": dy, "and": dy * a, "iand": dy * (1 - a)}
    assert set(wanted) == set(JOINS)
    for kind, want in wanted.items():
        assert join_forward(a, s, kind, np.float64).tolist() == want
        da, ds = join_backward(dy, a, s, kind)
        assert da.tolist() == by_a[kind].tolist()
        assert ds.tolist() == by_s[kind].tolist()


def test_sums_of_spikes_are_numbers_and_products_are_spikes():
    a, s = np.array([1, 1], np.uint8), np.array([1, 0], np.uint8)
    total = join_forward(a, s, "add", np.float32)
    assert total.dtype == np.float32
    assert total.tolist() == [2, 1]
    for kind in ("and", "iand"):
        assert join_forward(a, s, kind, np.float32).dtype == np.uint8


def alone(kind, zero_init, lif=P):
    """A block of equal shapes, in a context, with parameters as they start."""
    net = Network(architecture("1:4"), 2, 3, block=kind, lif=lif, zero_init=zero_init)
    params = init_params(net, np.random.default_rng(0))
    context = Context(net, params, init_buffers(net), NUMPY, training=True)
    return net.blocks()[0], context


@pytest.mark.parametrize("kind", ["sew_add", "sew_iand"])
def test_a_block_of_spikes_starts_as_its_skip(kind):
    block, context = alone(kind, zero_init=True)
    rng = np.random.default_rng(1)
    x = (rng.random((3, 2, 5, 5, 4)) < 0.4).astype(float)
    y, cache = sew_forward(x, block, context)
    assert np.array_equal(y, x)
    g = rng.normal(size=x.shape)
    dx, grads = sew_backward(g.copy(), cache, context)
    assert np.array_equal(dx, g)
    assert not np.any(grads["stage1.block0.conv1.weight"])
    y, _ = sew_forward(x, *alone(kind, zero_init=False))
    assert not np.array_equal(y, x)


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_block_that_joins_by_and_starts_as_its_skip(inclusive):
    """M4: a bias of 1.5 v_th fires at every step, under > and >=."""
    lif = LIF(0.5, 0.7, fire_at_threshold=inclusive)
    block, context = alone("sew_and", zero_init=True, lif=lif)
    x = (np.random.default_rng(1).random((5, 2, 5, 5, 4)) < 0.4).astype(float)
    y, cache = sew_forward(x, block, context)
    assert cache.joined[0].unpack().all()
    assert np.array_equal(y, x)


def test_a_block_of_currents_starts_as_its_skip_for_gradients_too():
    """Inside of it the last batch norm alone has a gradient."""
    block, context = alone("ms", zero_init=True)
    rng = np.random.default_rng(1)
    x, g = rng.normal(size=(2, 3, 2, 5, 5, 4))
    y, cache = membrane_forward(x, block, context)
    assert np.array_equal(y, x)
    given = g.copy()
    dx, grads = membrane_backward(g, cache, context)
    assert np.array_equal(dx, g)
    assert np.array_equal(g, given)
    moved = {name.removeprefix("stage1.block0.") for name, x in grads.items() if np.any(x)}
    assert moved == {"bn2.weight", "bn2.bias"}


def test_depth_changes_nothing_where_blocks_of_currents_start_as_skips():
    """The logits, and the first layer's gradient, are those of a network without these blocks."""
    images, labels = np.random.default_rng(2).normal(size=(4, 6, 6, 2)), np.array([0, 1, 2, 0])
    found = []
    for depth in (1, 4):
        net = Network(architecture(f"{depth}:4"), 2, 3, "none", P, block="ms", zero_init=True)
        params = init_params(net, np.random.default_rng(0))
        for name in params:  # the head and the stem are drawn before and after more or less
            if name.startswith(("stem", "head")):
                rng = np.random.default_rng(len(name))
                params[name] = rng.normal(0.1, 0.5, params[name].shape)
        x_seq = encode(images, 3)
        run, loss, grads = step(net, params, init_buffers(net), x_seq, labels, NUMPY)
        found.append((run.branches[-1], loss, grads["stem.conv0.weight"]))
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
    assert np.any(found[0][2])


def test_a_side_branch_takes_the_currents_of_its_block(build, sequence):
    """M5; the main head takes spikes."""
    net, params, buffers = build("1-1:3-4", block="ms", lif=P)
    x_seq, _ = sequence(3, 2, 6)
    run = forward(net, params, buffers, x_seq, NUMPY)
    context = Context(net, params, buffers, NUMPY, training=True)
    stem = run.stem.units[-1].total
    currents = stem.norm.x_hat * params["stem.bn0.weight"] + params["stem.bn0.bias"]
    z, _ = membrane_forward(currents, net.blocks()[0], context)
    features = z.mean(axis=(2, 3))
    logits = features @ params["branch.stage1.fc.weight"] + params["branch.stage1.fc.bias"]
    np.testing.assert_allclose(run.branches[0], logits.mean(axis=0), rtol=1e-12)
    assert set(np.unique(run.heads[-1].final.o_seq)) <= {0, 1}
    assert run.heads[0].final is None


@KIND
@pytest.mark.parametrize("zero_init", [False, True])
def test_a_file_holds_the_network(kind, zero_init, build):
    net, params, buffers = build(block=kind, lif=P, zero_init=zero_init)
    assert network_from_json(network_to_json(net), 10**6)[0] == net
    back = from_state_dict(net, state_dict(net, params, buffers))
    for group, same in zip((params, buffers), back, strict=True):
        assert all(np.array_equal(group[name], same[name]) for name in group)
        assert group.keys() == same.keys()


@KIND
@pytest.mark.slow_after(1)
def test_a_run_is_trained_resumed_evaluated_and_exported(kind, tmp_path, capsys):
    folder, file = tmp_path / "run", tmp_path / "model.npz"
    options = ["--block", kind, "--epochs", "1", "--arch", "1-1:8-16"]
    assert main(["train", *options, "--out", str(folder)]) == 0
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert main(["show", str(folder), "--out", str(tmp_path / "pictures")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["test_accuracy"]
    assert main(["energy", str(folder), "--json=-"]) == 0
    rows = json.loads(capsys.readouterr().out)["layers"]
    assert all(row["synaptic_operations"] + row["macs"] > 0 for row in rows)
    assert main(["gradients", str(folder), "--json=-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chain"][-1]["norm"] == found["first_layer"]["branches"]["head"]["norm"] > 0
    assert main(["export", str(folder), str(file)]) == 0
    test = refsnn.load_digits().test
    assert refsnn.load(file).score(test.images, test.labels) == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"block": "sew"}, "block: got 'sew', want one of basic, sew_add, sew_and, sew_iand, ms"),
        ({"zero_init": True}, "zero_init: got True, but a basic block fires its skip again"),
        (
            {"block": "sew_and", "zero_init": True, "neuron_model": "plif"},
            "zero_init: got True, but block sew_and then needs neurons that fire at every step",
        ),
        (
            {"block": "sew_and", "zero_init": True, "norm_model": "bntt"},
            "zero_init: got True, but block sew_and then needs neurons that fire at every step",
        ),
        (
            {"block": "sew_add", "norm_identity": True},
            "norm_identity: got True, but block sew_add adds no normalised terms",
        ),
        (
            {"block": "sew_and", "norm_merge_scale": 0.5},
            "merge_scale: got 0.5, but block sew_and adds no normalised terms",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make_config(**given)


@pytest.mark.parametrize("name", ["merge_scale", "norm_identity", "zero_init"])
def test_constants_of_another_type_are_refused(name):
    with pytest.raises(TypeError, match=name):
        Network(architecture("1:2"), 1, 2, **{name: "no"})


def test_the_two_batch_norms_of_a_sum_are_scaled(build, sequence):
    """M2: each term has the scale of tdBN over sqrt(2), so that their sum has the threshold's."""
    net, params, buffers = build(
        "2:4", lif=P, norm=refsnn.BatchNorm(scale=0.7), merge_scale=2**-0.5, norm_identity=True
    )
    assert "stage1.block0.skip.bn.weight" in net.shapes()
    assert "stage1.block0.skip.conv.weight" not in net.shapes()
    x_seq, labels = sequence(1, 40, 8)
    rng = np.random.default_rng(0)
    start = {n: x for n, x in init_params(net, rng).items() if ".bn" in n}
    run, _, grads = step(net, params | start, buffers, x_seq, labels, NUMPY)
    caches = {n.name: n.cache for n in recomputed_neurons(run)}
    both = caches["stage1.block0.lif2"]
    for term in (both.norm, both.skip):
        spread = (term.x_hat * term.p.scale).std(axis=(0, 1, 2, 3))
        np.testing.assert_allclose(spread, 0.7 / 2**0.5, rtol=1e-2)
    assert caches["stage1.block0.lif1"].norm.p.scale == 0.7
    assert np.any(grads["stage1.block0.skip.bn.weight"])
