"""Forward and backward of whole networks."""

import re

import numpy as np
import pytest

from refsnn.network import (
    ARCHITECTURES,
    backward,
    encode,
    forward,
    is_side,
    neuron_caches,
    without_branches,
)
from refsnn.network.model import moved_norms
from refsnn.ops import LIF, NUMPY, BatchNorm

SMOOTH = LIF(smooth=True)


def assert_close(got, wanted, tolerance):
    """Relative to the largest element: sums of other order differ by rounding of their terms."""
    assert np.abs(got - wanted).max() <= tolerance * max(np.abs(wanted).max(), 1e-300)


def cotangents(run):
    return [np.cos(np.arange(b.size).reshape(b.shape) + k) for k, b in enumerate(run.branches)]


@pytest.mark.parametrize("branches", ["stage", "block"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_logits_and_gradients_of_every_architecture(build, name, branches):
    net, params, buffers = build(name, width=1 / 32, branches=branches)
    params, buffers = ({k: a.astype("float32") for k, a in d.items()} for d in (params, buffers))
    x_seq = np.random.default_rng(0).normal(size=(2, 3, 32, 32, 2)).astype("float32")
    run = forward(net, params, buffers, x_seq, NUMPY)
    stages, blocks = len(net.arch.depths), sum(net.arch.depths)
    assert [b.shape for b in run.branches] == [(3, 3)] * (stages if branches == "stage" else blocks)
    grads = backward(run, [np.ones_like(b) for b in run.branches])
    assert [(k, g.shape) for k, g in grads.items()] == list(net.shapes().items())
    assert {a.dtype.name for a in [*run.branches, *grads.values()]} == {"float32"}
    assert {a.dtype.name for a in run.buffers.values()} == {"float32"}


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("resnet18", [32, 32, 16, 8, 4]),
        ("resnet18-imagenet", [16, 8, 4, 2, 1]),
        ("resnet20m", [32, 16, 8, 4, 2]),
        ("resnet20", [32, 32, 16, 8]),
    ],
)
def test_images_halve_at_every_stage_after_the_stem(build, name, sizes):
    net, params, buffers = build(name, width=1 / 32)
    run = forward(net, params, buffers, np.ones((1, 1, 32, 32, 2)), NUMPY)
    layers = {layer: cache.o_seq.shape[2:4] for layer, cache in neuron_caches(run)}
    of_stages = [layers[f"stage{k}.block0.lif2"] for k in range(1, len(sizes))]
    assert [layers["stem.lif0"], *of_stages] == [(size, size) for size in sizes]


def directional(loss, params, direction):
    """dL/de at e = 0 along e times `direction`: central differences, Richardson, error e^4."""

    def difference(e):
        up, down = (
            loss({name: p + sign * e * direction[name] for name, p in params.items()})
            for sign in (1, -1)
        )
        return (up - down) / (2 * e)

    return (4 * difference(1e-3) - difference(2e-3)) / 3


def assert_gradients(built, x_seq, labels, side, branch_sum, training=True, single=False):
    """Backward against finite differences in a random direction; `single`: for each parameter."""
    net, params, buffers = built

    def loss(at):
        run = forward(net, at, buffers, x_seq, NUMPY, training)
        return NUMPY.objective_forward(run.branches, labels, side, branch_sum)[0]

    run = forward(net, params, buffers, x_seq, NUMPY, training)
    _, cache = NUMPY.objective_forward(run.branches, labels, side, branch_sum)
    grads = backward(run, NUMPY.objective_backward(cache))
    rng = np.random.default_rng(3)
    for names in [[name] for name in params] if single else [list(params)]:
        direction = {name: rng.normal(size=p.shape) for name, p in params.items()}
        length = np.sqrt(sum((direction[name] ** 2).sum() for name in names))
        direction = {name: d * (name in names) / length for name, d in direction.items()}
        wanted = directional(loss, params, direction)
        got = sum((grads[name] * direction[name]).sum() for name in names)
        scale = max(np.linalg.norm(grads[name]) for name in names) if single else abs(wanted)
        assert abs(got - wanted) <= 1e-8 * scale, names


@pytest.mark.parametrize("branches", ["stage", "block"])
@pytest.mark.parametrize("side", [0, 0.25, 1])
@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
def test_gradients_of_every_objective_are_the_slopes(build, sequence, branches, side, branch_sum):
    assert_gradients(
        build("2-1-2:2-3-3", branches=branches, lif=SMOOTH), *sequence(), side, branch_sum
    )


@pytest.mark.parametrize("readout", ["mean", "sum"])
@pytest.mark.parametrize("downsample", ["conv", "avgpool"])
@pytest.mark.parametrize("statistics", ["pooled", "per_step"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("arch", ["1-2:2-3", "resnet19-tet"])
def test_gradients_of_every_network_are_the_slopes(
    build, sequence, arch, readout, downsample, statistics, training
):
    built = build(
        arch,
        width=1 if ":" in arch else 1 / 64,
        lif=LIF(tau=0.7, v_th=0.5, smooth=True),
        norm=BatchNorm(statistics, scale=0.8),
        readout=readout,
        downsample=downsample,
    )
    assert_gradients(built, *sequence(), 0.5, "logits", training)


@pytest.mark.parametrize("arch", ["resnet18-imagenet", "resnet20m"])
def test_gradients_through_a_pooling_stem_are_the_slopes(build, sequence, arch):
    assert_gradients(build(arch, width=1 / 32, lif=SMOOTH), *sequence(size=16), 0.25, "logits")


@pytest.mark.parametrize("branches", ["none", "block"])
def test_the_gradient_of_each_parameter_is_its_slope(build, sequence, branches):
    built = build("2-1:2-3", branches=branches, lif=SMOOTH)
    assert_gradients(built, *sequence(n=3), 0.25, "logits", single=True)


@pytest.mark.parametrize("branches", ["stage", "block"])
def test_gradients_are_the_sum_over_branches_of_separate_passes(build, sequence, branches):
    net, params, buffers = build("2-2-1:3-4-5", branches=branches)
    run = forward(net, params, buffers, sequence()[0], NUMPY)
    db = cotangents(run)
    assert len(db) == (3 if branches == "stage" else 5)
    together = backward(run, db)
    apart = [
        backward(run, [g if k == only else np.zeros_like(g) for k, g in enumerate(db)])
        for only in range(len(db))
    ]
    for name in together:
        assert_close(together[name], sum(grads[name] for grads in apart), 1e-12)
    first = [np.abs(grads["stem.conv0.weight"]).max() for grads in apart]
    assert min(first) > 0  # every branch reaches the first layer


def test_a_branch_has_no_gradient_behind_it(build, sequence):
    net, params, buffers = build("1-1-1:2-3-4")
    run = forward(net, params, buffers, sequence()[0], NUMPY)
    db = [g * (k == 1) for k, g in enumerate(cotangents(run))]
    moved = {name for name, g in backward(run, db).items() if g.any()}
    before = ("stem.", "stage1.", "stage2.", "branch.stage2.")
    assert moved == {name for name in params if name.startswith(before)}


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
def test_side_heads_get_exactly_no_gradient_at_weight_zero(build, sequence, branch_sum):
    net, params, buffers = build("1-1-1:2-3-4")
    x_seq, labels = sequence()
    run = forward(net, params, buffers, x_seq, NUMPY)
    _, cache = NUMPY.objective_forward(run.branches, labels, 0.0, branch_sum)
    grads = backward(run, NUMPY.objective_backward(cache))
    assert {name for name, g in grads.items() if not g.any()} == set(filter(is_side, params))
    bare = forward(*without_branches(net, params), buffers, x_seq, NUMPY)
    _, cache = NUMPY.objective_forward(bare.branches, labels, 0.0, branch_sum)
    for name, g in backward(bare, NUMPY.objective_backward(cache)).items():
        assert np.array_equal(g, grads[name])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("branches", ["stage", "block"])
def test_the_main_branch_does_not_notice_that_the_others_are_gone(
    build, sequence, branches, training
):
    net, params, buffers = build("2-2-1:3-4-5", branches=branches)
    x_seq, _ = sequence()
    full = forward(net, params, buffers, x_seq, NUMPY, training)
    bare = forward(*without_branches(net, params), buffers, x_seq, NUMPY, training)
    assert len(bare.branches) == 1 < len(full.branches)
    assert bare.branches[0].tobytes() == full.branches[-1].tobytes()
    assert all(np.array_equal(bare.buffers[name], full.buffers[name]) for name in buffers)


@pytest.mark.parametrize("training", [True, False])
def test_the_order_of_the_batch_does_not_matter(build, sequence, training):
    net, params, buffers = build("1-1:3-4")
    x_seq, labels = sequence(n=5)
    order = np.array([3, 0, 4, 1, 2])

    def outcome(x_seq, labels):
        run = forward(net, params, buffers, x_seq, NUMPY, training)
        _, cache = NUMPY.objective_forward(run.branches, labels, 0.5)
        return run.branches, backward(run, NUMPY.objective_backward(cache))

    branches, grads = outcome(x_seq, labels)
    shuffled, same = outcome(x_seq[:, order], labels[order])
    for got, wanted in zip(shuffled, branches, strict=True):
        assert_close(got, wanted[order], 1e-13)
    for name in grads:
        assert_close(same[name], grads[name], 1e-11)


def test_in_inference_an_image_does_not_notice_the_others(build, sequence):
    net, params, buffers = build()
    x_seq, _ = sequence()
    together = forward(net, params, buffers, x_seq, NUMPY, training=False).branches[-1]
    alone = forward(net, params, buffers, x_seq[:, 2:3], NUMPY, training=False).branches[-1]
    assert_close(alone[0], together[2], 1e-13)


def test_nothing_is_kept_between_batches(build, sequence):
    net, params, buffers = build()
    x_seq, _ = sequence()
    first = forward(net, params, buffers, x_seq, NUMPY)
    forward(net, params, first.buffers, -x_seq, NUMPY)
    again = forward(net, params, buffers, x_seq, NUMPY)
    assert all(map(np.array_equal, first.branches, again.branches))


def test_running_statistics_move_by_the_batch_in_training(build, sequence):
    net, params, buffers = build()
    x_seq, _ = sequence()
    run = forward(net, params, buffers, x_seq, NUMPY)
    assert set(run.buffers) == set(buffers)
    assert not any(np.array_equal(run.buffers[name], buffers[name]) for name in buffers)
    images = x_seq.reshape(-1, 8, 8, 2)
    c, _ = NUMPY.conv_forward(images, params["stem.conv0.weight"], net.arch.stem.conv(0))
    pixels = c.reshape(-1, 2)
    for kind, value in (("mean", pixels.mean(axis=0)), ("var", pixels.var(axis=0, ddof=1))):
        name = f"stem.bn0.running_{kind}"
        np.testing.assert_allclose(run.buffers[name], 0.9 * buffers[name] + 0.1 * value, rtol=1e-12)


def test_running_statistics_serve_and_stay_in_inference(build, sequence):
    net, params, buffers = build()
    x_seq, _ = sequence()
    run = forward(net, params, buffers, x_seq, NUMPY, training=False)
    assert all(np.array_equal(run.buffers[name], buffers[name]) for name in buffers)
    other = {name: b + 1 for name, b in buffers.items()}
    moved = forward(net, params, other, x_seq, NUMPY, training=False)
    assert not np.array_equal(moved.branches[-1], run.branches[-1])


@pytest.mark.parametrize("arch", ["1-2:2-3", "resnet19-tet", "resnet20m"])
@pytest.mark.parametrize("training", [True, False])
def test_inputs_are_never_written(build, sequence, arch, training):
    net, params, buffers = build(arch, width=1 if ":" in arch else 1 / 64)
    x_seq, _ = sequence(size=16)
    for array in (x_seq, *params.values(), *buffers.values()):
        array.flags.writeable = False  # writing raises
    run = forward(net, params, buffers, x_seq, NUMPY, training)
    db = cotangents(run)
    for array in db:
        array.flags.writeable = False
    first, again = backward(run, db), backward(run, db)
    assert all(np.array_equal(first[name], again[name]) for name in first)


def test_layers_are_listed_from_input_to_output(build, sequence):
    net, params, buffers = build("resnet19-tet", width=1 / 64)
    run = forward(net, params, buffers, sequence()[0], NUMPY)
    lifs = [f"{block.name}.lif{k}" for block in net.blocks() for k in (1, 2)]
    assert [name for name, _ in neuron_caches(run)] == ["stem.lif0", *lifs, "head.lif"]
    norms = [name.removesuffix(".weight") for name in params if re.search(r"bn\d*\.weight", name)]
    assert [name for name, _ in moved_norms(run)] == norms


def test_encoding_shows_the_image_at_every_step():
    images = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
    x_seq = encode(images, 5)
    assert x_seq.shape == (5, 2, 4, 4, 3)
    assert all(np.array_equal(x, images) for x in x_seq)


def test_frames_are_shown_one_a_step():
    sequences = np.random.default_rng(0).normal(size=(2, 5, 4, 3, 2))
    x_seq = encode(sequences, 5)
    assert x_seq.shape == (5, 2, 4, 3, 2)
    assert all(np.array_equal(x_seq[t], sequences[:, t]) for t in range(5))


@pytest.mark.parametrize(
    ("images", "steps", "error", "message"),
    [
        (np.zeros((2, 3, 4, 4, 1)), 2, ValueError, "images: got sequences of 3 frames, want 2"),
        (np.zeros((2, 3, 4, 4, 1), int), 3, TypeError, "images: got dtype int64"),
        (np.zeros((2, 4, 4, 1)), 0, ValueError, "steps: got 0"),
        (np.zeros((2, 4, 4)), 1, ValueError, r"images: got shape \(2, 4, 4\)"),
        (np.zeros((2, 4, 4, 1), int), 1, TypeError, "images: got dtype int64"),
    ],
)
def test_images_that_can_not_be_encoded_are_refused(images, steps, error, message):
    with pytest.raises(error, match=message):
        encode(images, steps)


def test_inputs_that_do_not_fit_the_network_are_refused(build):
    net, params, buffers = build()
    with pytest.raises(ValueError, match=r"x_seq: got shape \(1, 8, 8, 2\), want"):
        forward(net, params, buffers, np.zeros((1, 8, 8, 2)), NUMPY)
    with pytest.raises(ValueError, match="x_seq: got 3 channels, want 2"):
        forward(net, params, buffers, np.zeros((1, 1, 8, 8, 3)), NUMPY)
    with pytest.raises(TypeError, match="dtype float64, want float32"):
        forward(net, params, buffers, np.zeros((1, 1, 8, 8, 2), "float32"), NUMPY)
    del params["head.fc.bias"]
    with pytest.raises(ValueError, match=r"head.fc.bias is missing"):
        forward(net, params, buffers, np.zeros((1, 1, 8, 8, 2)), NUMPY)
