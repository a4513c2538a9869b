"""Checks of arguments let good values through and name bad ones."""

import re

import numpy as np
import pytest

from refsnn.equations import validate


@pytest.mark.parametrize("value", [1e-300, 1, 2.5, 1e300])
def test_positive_numbers_pass(value):
    assert validate.positive("v_th", value) is None


@pytest.mark.parametrize("value", [0, -0.0, -1, np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_positive_and_finite_are_refused_by_name(value):
    with pytest.raises(ValueError, match=rf"^v_th: got {value!r}, want a finite number above 0"):
        validate.positive("v_th", value)


@pytest.mark.parametrize("value", [2, 2.5, 10])
def test_the_least_value_itself_passes(value):
    assert validate.at_least("stride", value, 2) is None


@pytest.mark.parametrize("value", [1.99, -3, np.nan, np.inf])
def test_numbers_below_the_least_are_refused(value):
    with pytest.raises(ValueError, match=rf"^stride: got {value!r}, .* at least 2$"):
        validate.at_least("stride", value, 2)


def test_one_of_takes_what_is_listed_and_lists_it_otherwise():
    validate.one_of("ops", "numpy", ("numpy", "numba"))
    with pytest.raises(ValueError, match=r"^ops: got 'torch', want one of numpy, numba$"):
        validate.one_of("ops", "torch", ("numpy", "numba"))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_both_precisions_are_floating(dtype):
    assert validate.floating("x", np.zeros(3, dtype)) is None


@pytest.mark.parametrize("dtype", [np.float16, np.int64, np.bool_, np.complex128, np.longdouble])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=rf"^x: got dtype {np.dtype(dtype)}, want float32 or"):
        validate.floating("x", np.zeros(3, dtype))


@pytest.mark.parametrize("value", [[1.0], 1.0, np.float64(1), None])
def test_an_object_that_is_no_array_is_refused(value):
    with pytest.raises(TypeError, match=rf"^x: got {type(value).__name__}, want a numpy array"):
        validate.floating("x", value)


def test_the_number_of_axes_is_checked_after_the_dtype():
    validate.ndim("x", np.zeros((2, 3)), 2, "(N, K)")
    with pytest.raises(ValueError, match=re.escape("x: got shape (2,), want (N, K)")):
        validate.ndim("x", np.zeros(2), 2, "(N, K)")
    with pytest.raises(TypeError, match="dtype"):
        validate.ndim("x", np.zeros(2, int), 2, "(N, K)")


@pytest.mark.parametrize("values", [[0, 2, 1], np.array([0, 2, 1], np.uint8)])
def test_labels_from_zero_to_the_number_of_classes_less_one_pass(values):
    assert validate.labels("labels", values, 3, 3) is None


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([0, 3, 1], ValueError, "labels: got 3 at index 1, want 0 to 2"),
        ([0, 1, -1], ValueError, "labels: got -1 at index 2, want 0 to 2"),
        ([0, 1], ValueError, "labels: got shape (2,), want (3,)"),
        ([[0], [1], [2]], ValueError, "labels: got shape (3, 1), want (3,)"),
        ([0.0, 1.0, 2.0], TypeError, "labels: got dtype float64, want integers"),
        ([True, False, True], TypeError, "labels: got dtype bool, want integers"),
    ],
)
def test_wrong_labels_are_refused(values, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}$"):
        validate.labels("labels", values, 3, 3)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("stem.bn0 λ", "stem.bn0 λ"),
        ("a\nb", r"'a\nb'"),
        ("\0", r"'\x00'"),
        (3, "3"),
        ("x" * 81, "'" + "x" * 76 + "..."),
    ],
)
def test_a_name_stands_as_it_is_unless_it_would_break_the_line(name, shown):
    assert validate.named(name) == shown
