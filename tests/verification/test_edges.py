"""A quick run draws sizes on both sides of every block size of the kernels."""

import ast
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from refsnn import kernels
from verification.edges import CRITICAL, EDGES, SHORT
from verification.poison import modules
from verification.registry import run_check
from verification.suite import checks

#: Whole numbers that are no sizes, or follow from others
OTHERS = {
    "fused_forward.NONE": "a sort of skip",
    "fused_forward.SPIKES": "a sort of skip",
    "fused_forward.PLAIN": "a sort of skip",
    **{
        f"slopes.{name}": "a kind of slope"
        for name in (
            *("TANH", "LITERAL", "RECTANGLE", "TRIANGLE", "SUPPORTED"),
            *("SQUARE", "DISTANCE", "RATIONAL", "INVERSE"),
        )
    },
    "precompile.STEPS": "of the arrays for which kernels are compiled",
    "precompile.IMAGES": "of the arrays for which kernels are compiled",
    "precompile.CHANNELS": "of the arrays for which kernels are compiled",
    "precompile.SIDE": "of the arrays for which kernels are compiled",
    "precompile.PROCESSES": "how many compile",
    "tasks.ROUNDS": "how long threads wait without sleep",
    "tasks.OFTEN": "how often waiting threads give way",
    **{
        f"tasks.{name}": "a place in memory that threads share"
        for name in (
            *("TAKEN", "ALL", "DESK", "ARGUMENTS", "ROOM", "OPEN", "JOINED"),
            *("WORD", "KERNEL", "TASKS", "HELPERS", "LEFT", "FAILED", "ENTRIES"),
        )
    },
    "fused_forward.NORMED": "a sort of skip",
    "fused_gated.BY_STEP": "a number of sums",
    "fused_gated.OVERALL": "a number of sums",
    "dense.LINE": "of the cache",
    "count.BLOCK": "of a count by which the method is chosen",
    "count.WORD": "of a count by which the method is chosen",
    "patterns.GATHER": "a factor",
    "patterns.QUARTERS": "of 16 channels",
    "patterns.PATTERNS": "of four channels",
    "patterns.SUMS": "of the quarters of a word",
    "winograd.SCRATCH": "holds what TILES and SIDE ask for",
    "winograd.MOST": "of groups that follow one another, as those at TASKS do",
}
SIZES = sorted({edge.constant for edge in EDGES})


def constants(module: ModuleType) -> dict[str, int]:
    """The whole numbers that the module itself gives a name in capitals."""
    assert module.__file__
    names = set()
    for node in ast.parse(Path(module.__file__).read_text()).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
    found = {name: vars(module)[name] for name in names if name.isupper()}
    short = module.__name__.removeprefix(f"{kernels.__name__}.")
    return {f"{short}.{name}": n for name, n in found.items() if type(n) is int}


KNOWN = {name: n for module in modules() for name, n in constants(module).items()}


def test_every_size_of_a_kernel_has_draws():
    assert set(KNOWN) == {*SIZES, *OTHERS}
    assert len(SIZES) >= 17


@pytest.mark.parametrize("edge", EDGES, ids=lambda edge: edge.constant)
def test_draws_lie_below_at_and_above_each_size(edge):
    size = KNOWN[edge.constant]
    sides = {(n > size) - (n < size) for n in map(edge.size, edge.cases)}
    assert sides == {-1, 0, 1}, [edge.size(case) for case in edge.cases]


@pytest.fixture(scope="module")
def quickly_drawn():
    """Return all cases of the quick checks of edges, with the default seed."""
    seen = []

    def note(case, record):
        seen.append(case)
        for clause in record.rows:
            record.true(clause, "seen", True)

    for one in checks(peers=False):
        if one.function.__module__ == "verification.edges":
            run_check(replace(one, function=note), 0, quick=True, shrink=False)
    return seen


def test_a_quick_run_draws_all_of_them(quickly_drawn):
    wanted = [*(case for edge in EDGES for case in edge.cases), *SHORT, *CRITICAL]
    assert not set(wanted) - set(quickly_drawn)


def test_short_convolutions_leave_taps_and_pixels_unmet():
    strides, sizes = {x.stride for x in SHORT}, {x.size for x in SHORT}
    assert any(a < b for a, b in strides)
    assert any(a > b for a, b in strides)
    assert any(min(size) == 1 < max(size) for size in sizes)
    assert (1, 1) in sizes
    for unmet in (
        lambda x, axis: x.size[axis] < x.stride[axis] and x.kernel[axis] > 1,
        lambda x, axis: x.kernel[axis] < x.stride[axis],
        lambda x, axis: x.kernel[axis] < x.stride[axis] <= max(x.stride) <= max(x.kernel),
        lambda x, axis: x.size[axis] < x.kernel[axis],
        lambda x, axis: x.out[axis] < 4 and x.channels == (16, 16),
    ):
        assert all(any(unmet(x, axis) for x in SHORT) for axis in (0, 1))


def test_no_draw_at_the_edges_of_fused_layers_is_rejected():
    (one,) = (one for one in checks(peers=False) if one.name == "fused layers at the edges")
    rows = run_check(one, 0, quick=True, shrink=False)
    assert all(row.passed and row.rejected == 0 for row in rows), rows
