"""Blocks, branches, the flat dict of parameters and its initial values."""

import numpy as np
import pytest

from refsnn.network import (
    ARCHITECTURES,
    Architecture,
    Block,
    Network,
    architecture,
    check_params,
    init_buffers,
    init_params,
    is_side,
    without_branches,
)


def network(name="1-1:2-3", branches="stage", **settings):
    return Network(architecture(name), 1, 10, branches, **settings)


def sides(net):
    return [b.branch for b in net.blocks() if b.branch not in (None, "head")]


def test_blocks_of_a_network_with_a_branch_after_every_stage():
    assert network("2-1-2:4-6-6").blocks() == [
        Block("stage1.block0", 4, 4, 1, None),
        Block("stage1.block1", 4, 4, 1, "branch.stage1"),
        Block("stage2.block0", 4, 6, 2, "branch.stage2"),
        Block("stage3.block0", 6, 6, 2, None),
        Block("stage3.block1", 6, 6, 1, "head"),
    ]


def test_a_skip_is_projected_where_the_shape_changes():
    net = network("2-1-2:4-6-6")
    assert [net.has_projection(b) for b in net.blocks()] == [False, False, True, True, False]
    tet = network("resnet19-tet")  # its stem is narrower than its first stage
    assert tet.has_projection(tet.blocks()[0])
    assert tet.blocks()[0].stride == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_stage_branches_follow_every_stage_but_the_last(name):
    net = network(name)
    stages = len(net.arch.depths)
    assert sides(net) == [f"branch.stage{k}" for k in range(1, stages)]
    assert len(net.segments()) == stages
    assert [len(segment) for segment in net.segments()] == list(net.arch.depths)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_block_branches_follow_every_block_but_the_last(name):
    net = network(name, "block")
    assert sides(net) == [f"branch.{b.name}" for b in net.blocks()[:-1]]
    assert [len(segment) for segment in net.segments()] == [1] * sum(net.arch.depths)


@pytest.mark.parametrize("branches", ["none", "stage", "block"])
def test_the_last_block_carries_the_main_branch(branches):
    net = network("2-2:3-4", branches)
    assert net.blocks()[-1].branch == "head"
    assert [b for segment in net.segments() for b in segment] == net.blocks()
    assert all(segment[-1].branch for segment in net.segments())


def test_without_branches_there_is_one_segment():
    assert sides(network("2-2:3-4", "none")) == []
    assert len(network("2-2:3-4", "none").segments()) == 1


def test_names_order_and_shapes_of_the_parameters():
    net = Network(Architecture((1, 1), (2, 3), 2, hidden=5), 1, 10)
    shapes = {
        "stem.conv0.weight": (3, 3, 1, 2),
        "stem.bn0.weight": (2,),
        "stem.bn0.bias": (2,),
        "stage1.block0.conv1.weight": (3, 3, 2, 2),
        "stage1.block0.bn1.weight": (2,),
        "stage1.block0.bn1.bias": (2,),
        "stage1.block0.conv2.weight": (3, 3, 2, 2),
        "stage1.block0.bn2.weight": (2,),
        "stage1.block0.bn2.bias": (2,),
        "stage2.block0.conv1.weight": (3, 3, 2, 3),
        "stage2.block0.bn1.weight": (3,),
        "stage2.block0.bn1.bias": (3,),
        "stage2.block0.conv2.weight": (3, 3, 3, 3),
        "stage2.block0.bn2.weight": (3,),
        "stage2.block0.bn2.bias": (3,),
        "stage2.block0.skip.conv.weight": (1, 1, 2, 3),
        "stage2.block0.skip.bn.weight": (3,),
        "stage2.block0.skip.bn.bias": (3,),
        "head.hidden.weight": (3, 5),
        "head.hidden.bias": (5,),
        "head.fc.weight": (5, 10),
        "head.fc.bias": (10,),
        "branch.stage1.fc.weight": (2, 10),
        "branch.stage1.fc.bias": (10,),
    }
    assert list(net.shapes().items()) == list(shapes.items())


def test_side_branches_stand_last_in_every_network_and_are_counted():
    net = network("resnet18", "stage")
    names = list(net.shapes())
    assert [is_side(name) for name in names] == [False] * (len(names) - 6) + [True] * 6
    bare = network("resnet18", "none").count_parameters()
    assert net.count_parameters() == bare + (64 + 128 + 256) * 10 + 3 * 10


def moments(values, std):
    """Mean, variance and fourth moment of values / std, each in standard errors from a normal's."""
    z = np.concatenate([np.ravel(v) for v in values]) / std
    errors = np.sqrt(np.array([1, 2, 96]) / z.size)
    return (np.array([z.mean(), (z**2).mean(), (z**4).mean()]) - [0, 1, 3]) / errors


def test_initial_weights_are_normal_with_the_deviations_of_d18():
    net = Network(Architecture((1, 1), (24, 40), 24, hidden=80), 3, 50)
    params = init_params(net, np.random.default_rng(0))
    for name, w in params.items():
        if w.ndim == 1:
            constant = 1 if "bn" in name and name.endswith("weight") else 0
            assert (w == constant).all(), name
        else:
            std = 1 / w.shape[0] if w.ndim == 2 else np.sqrt(2 / (w.shape[0] ** 2 * w.shape[3]))
            assert np.abs(moments([w], std)).max() < 4.5, name


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_initial_arrays_have_the_dtype_asked_for_and_fit_the_network(dtype):
    net = network("1-1:2-3", "block")
    params, buffers = init_params(net, np.random.default_rng(0), dtype), init_buffers(net, dtype)
    assert {a.dtype.name for a in (params | buffers).values()} == {dtype}
    check_params(net, params)


def test_draws_of_the_main_path_do_not_depend_on_the_branches():
    drawn = {
        kind: init_params(network("2-2-1:3-4-5", kind), np.random.default_rng(3))
        for kind in ("none", "stage", "block")
    }
    for kind in ("stage", "block"):
        assert len(drawn[kind]) > len(drawn["none"])
        for name, w in drawn["none"].items():
            assert np.array_equal(w, drawn[kind][name]), name


def test_the_seed_decides_the_draws():
    first, again, other = (
        init_params(network(), np.random.default_rng(seed))["head.fc.weight"] for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_buffers_are_mean_zero_and_variance_one_for_every_norm():
    buffers = init_buffers(network("1-1:2-3"))
    owners = ["stem.bn0", "stage1.block0.bn1", "stage1.block0.bn2", "stage2.block0.bn1"]
    owners += ["stage2.block0.bn2", "stage2.block0.skip.bn"]
    assert set(buffers) == {f"{o}.running_{kind}" for o in owners for kind in ("mean", "var")}
    for name, value in buffers.items():
        assert (value == (1 if name.endswith("var") else 0)).all()
    assert buffers["stage2.block0.skip.bn.running_var"].shape == (3,)


def test_without_branches_keeps_what_the_main_branch_needs():
    net = network("2-2:3-4", "block", readout="sum")
    params = init_params(net, np.random.default_rng(0))
    bare, main = without_branches(net, params)
    assert bare == network("2-2:3-4", "none", readout="sum")
    check_params(bare, main)
    assert all(main[name] is params[name] for name in main)


def test_parameters_that_do_not_fit_are_named():
    net = network()
    params = init_params(net, np.random.default_rng(0))
    missing = {name: p for name, p in params.items() if name != "head.fc.bias"}
    with pytest.raises(ValueError, match=r"params: head.fc.bias is missing, .*\(10,\)"):
        check_params(net, missing)
    with pytest.raises(ValueError, match=r"params: stem.bn0.bias has shape \(3,\), want \(2,\)"):
        check_params(net, params | {"stem.bn0.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"params: extra is not part"):
        check_params(net, params | {"extra": np.zeros(3)})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("in_channels", 0),
        ("num_classes", 1),
        ("branches", "all"),
        ("downsample", "max"),
        ("readout", "last"),
    ],
)
def test_settings_that_make_no_network_are_named(field, value):
    settings = {"in_channels": 1, "num_classes": 10} | {field: value}
    with pytest.raises(ValueError, match=rf"^{field}: got {value!r}, want"):
        Network(architecture("1:2"), **settings)
