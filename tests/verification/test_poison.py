"""All uninitialised memory of the kernels, outside their loops, can be poisoned for a while."""

import ast
from pathlib import Path

import numpy as np
import pytest

from refsnn.kernels import conv, dense, lif
from refsnn.ops import LIF, Conv, get_ops
from verification.poison import NAMES, modules, poisoned
from verification.record import Failed, Recorder
from verification.twins import agree


def names():
    return {m.__name__: {name: vars(m).get(name) for name in NAMES} for m in modules()}


def test_allocated_arrays_hold_the_poison_only_within_the_context():
    before = names()
    with poisoned(np.nan):
        assert np.isnan(dense.aligned(3, 4)).all()
        assert np.isnan(lif.empty((2, 5), np.float64)).all()
        assert (conv.empty(3, np.uint8) == 255).all()
    with pytest.raises(ValueError, match="negative"), poisoned(np.nan):
        conv.empty(-1)
    assert names() == before


def test_results_are_the_same_with_poison():
    ops, rng = get_ops("numba"), np.random.default_rng(0)
    x, w = rng.normal(size=(2, 5, 5, 3)), rng.normal(size=(3, 3, 3, 4))
    for dtype in (np.float32, np.float64):
        arguments = x.astype(dtype), w.astype(dtype), Conv((1, 1), (1, 1))
        want = ops.conv_forward(*arguments)[0], ops.lif_forward(arguments[0], None, LIF())[0]
        with poisoned(np.nan):
            got = ops.conv_forward(*arguments)[0], ops.lif_forward(arguments[0], None, LIF())[0]
        assert [a.tobytes() for a in got] == [a.tobytes() for a in want]


def test_an_element_that_nobody_writes_fails_the_comparison_of_threads():
    def kernel():
        y = lif.empty((3,), np.float32)
        y[:2] = 1
        return (y,)

    with pytest.raises(Failed, match="other threads"):
        agree(Recorder("made", "twin", ("EQ1",)), "EQ1", "y", kernel)


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_kernels_allocate_only_with_functions_that_can_be_poisoned(module):
    functions = [
        node
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.FunctionDef)
        and not any("njit" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    for function in functions:
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "np":
                assert not node.attr.startswith("empty"), f"{function.name}: np.{node.attr}"
