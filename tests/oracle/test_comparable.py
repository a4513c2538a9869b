"""Outputs that can't be compared are named, and the rest is compared."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle.comparable import axes_of, precision_of
from refsnn.oracle.compare import compare_case


def outputs_of(case):
    return {name: value.copy() for name, value in case.outputs.items()}


def first(result):
    return result.first.tensor, result.first.step, result.first.index


@pytest.fixture
def odd(doubling):
    """y of shape (2, 3), and a square z."""
    z = np.arange(9.0).reshape(3, 3)
    case = doubling()
    tolerances = {"y": case.tolerances["y"], "z": case.tolerances["y"]}
    return replace(case, outputs={**case.outputs, "z": z}, tolerances=tolerances)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (np.array([["a"] * 3] * 2), "y: got dtype <U1, want numbers"),
        (np.array([[None] * 3] * 2), "y: got dtype object, want numbers"),
        (np.ones((2, 3)) * 1j, "y: got dtype complex128, want numbers"),
        (np.ones((2, 3), "M8[s]"), "y: got dtype datetime64[s], want numbers"),
        ([[1, 2, 3], [4]], "y: got lists of different lengths, want an array"),
        (ValueError("can't be read (Bad CRC)"), "y: can't be read (Bad CRC)"),
        (np.float64(3), "y: got shape (), want (2, 3)"),
        (np.zeros((0, 3)), "y: got shape (0, 3), want (2, 3)"),
        (np.ones((2, 3, 1)), "y: got shape (2, 3, 1), want (2, 3)"),
        (np.full((2, 3), np.nan), "y: got nan at index [0, 0], want finite numbers"),
        (
            np.array([[0, 0, 0], [0, -np.inf, 0]]),
            "y: got -inf at index [1, 1], want finite numbers",
        ),
    ],
    ids=lambda x: str(x)[:20],
)
def test_outputs_that_are_no_numbers_are_named_and_the_rest_is_compared(odd, value, problem):
    got = outputs_of(odd) | {"y": value}
    got["z"][1, 1] += 1
    result = compare_case(odd, got)
    assert result.problems == [problem]
    assert first(result) == ("z", None, (1, 1))
    assert not result.passed


def test_a_problem_alone_fails(odd):
    got = outputs_of(odd) | {"y": np.full((2, 3), np.inf)}
    result = compare_case(odd, got)
    assert result.first is None
    assert not result.passed


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", ">f8", "g"])
def test_any_numbers_will_do(odd, dtype):
    y = np.array([[0, 1, 1], [1, 0, 1]])
    case = replace(odd, outputs=odd.outputs | {"y": y.astype(float)})
    assert compare_case(case, outputs_of(case) | {"y": y.astype(dtype)}).passed
    assert compare_case(case, outputs_of(case) | {"y": y.tolist()}).passed


def test_missing_and_surplus_arrays_are_named(odd):
    got = {"z": odd.outputs["z"], "yy": odd.outputs["y"]}
    result = compare_case(odd, got)
    assert result.lines() == ["neuron/a: yy is not among the outputs", "neuron/a: y is missing"]
    assert result.tensors["z"]["status"] == "ok"


def test_omitted_outputs_may_be_missing_but_not_wrong(odd):
    assert compare_case(odd, {"z": odd.outputs["z"]}, omits=["y*"]).passed
    assert compare_case(odd, {"z": odd.outputs["z"]}, omits=["z"]).problems == ["y is missing"]
    assert not compare_case(odd, outputs_of(odd) | {"y": 3 * odd.outputs["y"]}, omits=["y"]).passed


def test_swapped_axes_are_recognised(odd, cases):
    got = outputs_of(odd)
    result = compare_case(odd, got | {"y": got["y"].T})
    assert result.problems == [
        "y: got shape (3, 2), want (2, 3); its axes are those of the expected array in the order "
        "[1, 0]"
    ]
    result = compare_case(odd, got | {"z": got["z"].T})
    assert result.problems == ["z: its axes are those of the expected array in the order [1, 0]"]
    assert not result.passed
    assert result.first is None  # it is set aside, so that what else differs comes to light
    case = cases["layer/plain"]
    channels_last = case.outputs["u_pre"].transpose(0, 1, 3, 4, 2)
    (problem,) = compare_case(case, outputs_of(case) | {"u_pre": channels_last}).problems
    assert problem.endswith("in the order [0, 1, 3, 4, 2]")


def test_other_numbers_are_not_taken_for_swapped_axes(odd):
    wrong = odd.outputs["z"] + np.eye(3)
    assert compare_case(odd, outputs_of(odd) | {"z": wrong}).problems == []
    assert compare_case(odd, outputs_of(odd) | {"z": wrong.T}).problems == []
    slightly = odd.outputs["z"] + np.eye(3) / 20
    assert compare_case(odd, outputs_of(odd) | {"z": slightly.T}).problems == []
    assert axes_of(np.zeros((2, 2)), np.zeros((2, 2))) == [0, 1]
    large = np.zeros((1001, 1000))
    assert axes_of(large.T, large) is None  # sorting them takes its time


def test_symmetric_arrays_within_tolerance_are_no_swap(odd):
    z = np.ones((3, 3))
    z[0, 1] = 1.01
    loose = {"z": {"float64": 0.02, "float32": 0.02}}
    case = replace(odd, outputs=odd.outputs | {"z": z}, tolerances=odd.tolerances | loose)
    assert compare_case(case, outputs_of(case) | {"z": z.T}).passed


def test_expected_that_is_no_number_never_agrees(odd):
    for bad in (np.nan, np.inf):
        z = odd.outputs["z"].copy()
        z[2, 0] = bad
        case = replace(odd, outputs=odd.outputs | {"z": z})
        result = compare_case(case, outputs_of(odd))
        assert first(result) == ("z", None, (2, 0))
        assert not compare_case(case, outputs_of(case)).passed
        assert np.isfinite(result.tensors["z"]["error"])
        assert np.isfinite(result.first.error)


def test_enormous_numbers_are_compared_in_silence(odd):
    got = outputs_of(odd)
    got["z"][0, 0] = 1e308
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = compare_case(odd, got)
        assert first(result) == ("z", None, (0, 0))
        not_finite = replace(odd, outputs=odd.outputs | {"z": np.full((3, 3), np.inf)})
        assert not compare_case(not_finite, got).passed
    assert np.isfinite(result.first.error)


def test_nothing_given_is_nothing_compared(odd):
    result = compare_case(odd, {})
    assert result.problems == ["y is missing", "z is missing"]
    result = compare_case(odd, {}, omits=["*"])
    assert result.problems == ["no output that could be compared"]
    assert not result.passed


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["f8"], "float64"),
        (["f8", "f4"], "float32"),
        (["f8", "f4", "f2"], "float16"),
        (["u1", "i4"], "float64"),
        ([], "float64"),
    ],
)
def test_precision_is_the_lowest_that_was_given(dtypes, expected):
    arrays = {dtype: np.array([1.5, 2]).astype(dtype) for dtype in dtypes}
    assert precision_of({**arrays, "broken": ValueError("no")}) == expected
    assert precision_of({**arrays, "spikes": np.ones(2, "f4")}) == expected
