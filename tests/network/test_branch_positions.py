"""Side branches attach to stages, to blocks, or to blocks by name."""

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.training.checkpoint import load

ARCH = refsnn.architecture("2-2:4-8")


def heads(branches):
    blocks = refsnn.Network(ARCH, 1, 3, branches).blocks()
    return {block.name: block.branch for block in blocks if block.branch is not None}


@pytest.mark.parametrize(
    ("branches", "names"),
    [
        ("none", []),
        ("stage", ["stage1.block1"]),
        ("block", ["stage1.block0", "stage1.block1", "stage2.block0"]),
        ("stage1.block0", ["stage1.block0"]),
        ("stage2.block0,stage1.block0", ["stage1.block0", "stage2.block0"]),
    ],
)
def test_the_blocks_that_carry_a_branch(branches, names):
    assert list(heads(branches)) == [*names, "stage2.block1"]
    assert heads(branches)["stage2.block1"] == "head"


def test_branches_by_name_compute_what_branches_after_each_block_do():
    """With the same parameters, they are the branches of those blocks, and their gradients too."""
    rng = np.random.default_rng(0)
    every = refsnn.Network(ARCH, 1, 3, "block")
    some = refsnn.Network(ARCH, 1, 3, "stage1.block0,stage2.block0")
    params, buffers = refsnn.init_params(every, rng), refsnn.init_buffers(every)
    own = {name: params[name] for name in some.shapes()}
    x_seq = rng.normal(size=(2, 4, 8, 8, 1))
    run = refsnn.forward(every, params, buffers, x_seq, refsnn.NUMPY)
    few = refsnn.forward(some, own, buffers, x_seq, refsnn.NUMPY)
    for got, want in zip(few.branches, [run.branches[i] for i in (0, 2, 3)], strict=True):
        assert np.array_equal(got, want)
    db = [rng.normal(size=(4, 3)) for _ in range(3)]
    want = refsnn.backward(run, [db[0], np.zeros((4, 3)), *db[1:]])
    got = refsnn.backward(few, db)
    assert got.keys() == own.keys()
    for name, g in got.items():
        np.testing.assert_allclose(g, want[name], rtol=0, atol=1e-12, err_msg=name)


def test_the_command_takes_names_of_blocks(tmp_path, capsys):
    out = str(tmp_path / "run")
    options = ["--arch=2-1:4-8", "--epochs=1", "--batch-size=500", f"--out={out}"]
    assert main(["train", *options, "--branches=stage1.block0"]) == 0
    params = load(tmp_path / "run" / "checkpoint.npz")[0].params
    side = [name for name in params if name.startswith("branch.")]
    assert side == ["branch.stage1.block0.fc.weight", "branch.stage1.block0.fc.bias"]
