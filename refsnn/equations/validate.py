"""Checks of arguments; each error names the argument, what it got and what it wants."""

import difflib
import math
from collections.abc import Iterable
from typing import Any

import numpy as np


def finite(value: Any) -> bool:
    """Tell whether a number is finite as a float."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def number(name: str, value: Any) -> Any:
    """Return the value if it is a real number of Python or NumPy; TypeError if not."""
    if not isinstance(value, int | float | np.number) or isinstance(value, np.complexfloating):
        raise TypeError(f"{name}: got {shown(value)}, want a number")
    return value


def flag(name: str, value: Any) -> None:
    """Check that the value is True or False; TypeError if not."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}: got {shown(value)}, want True or False")


def positive(name: str, value: float) -> None:
    """Check that a number is finite and above 0."""
    if not (finite(number(name, value)) and value > 0):
        raise ValueError(f"{name}: got {shown(value)}, want a finite number above 0")


def at_least(name: str, value: float, least: float) -> None:
    """Check that a number is finite and not below `least`."""
    if not (finite(number(name, value)) and value >= least):
        raise ValueError(f"{name}: got {shown(value)}, want a finite number of at least {least}")


def whole(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Check that a value is an integer from `least` to `most`, and not a boolean."""
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        limits = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name}: got {shown(value)}, want a whole number {limits}")


def shown(value: Any) -> str:
    """Return a value as text, shortened to fit into a line."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return "an integer of more than 60 digits"
    if isinstance(value, str | bytes):
        value = value[:200]
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def named(name: Any) -> str:
    """Return a name from a file as it is, or as `shown` if it is long or unprintable."""
    short = isinstance(name, str) and name.isprintable() and len(name) <= 80
    return str(name) if short else shown(name)


def as_floats(record: Any, *names: str) -> None:
    """Convert fields of a frozen dataclass to Python floats, which keep float32 arrays float32."""
    for name in names:
        object.__setattr__(record, name, float(getattr(record, name)))


def as_ints(record: Any, *names: str) -> None:
    """Convert fields of a frozen dataclass, integers or tuples of them, to Python ints.

    A NumPy integer of few bits would overflow in the arithmetic of sizes.
    """
    for name in names:
        value = getattr(record, name)
        made = tuple(map(int, value)) if isinstance(value, tuple) else int(value)
        object.__setattr__(record, name, made)


def one_of(name: str, value: Any, allowed: Iterable[Any]) -> None:
    """Check that a value is one of the allowed values."""
    allowed = list(allowed)
    if value not in allowed:
        raise ValueError(f"{name}: got {shown(value)}, want one of {', '.join(map(str, allowed))}")


def nearest(name: Any, known: Iterable[str]) -> str:
    """Return ", did you mean NAME?" with the most similar known name, or ", want one of" with all.

    The latter is returned if none is similar.
    """
    known = list(known)
    like_it = difflib.get_close_matches(str(name)[:200], known, 1)
    return f", did you mean {like_it[0]}?" if like_it else f", want one of {', '.join(known)}"


def floating(name: str, array: Any) -> None:
    """Check that a value is a NumPy array of float32 or float64; TypeError if not."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: got {type(array).__name__}, want a numpy array")
    if array.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: got dtype {array.dtype}, want float32 or float64")


def ndim(name: str, array: Any, dims: int, axes: str) -> None:
    """Check that a value is an array of floats with `dims` axes; `axes` names them in errors."""
    floating(name, array)
    if array.ndim != dims:
        raise ValueError(f"{name}: got shape {array.shape}, want {axes}")


def like(name: str, array: Any, shape: tuple[int, ...], dtype: Any, model: str) -> None:
    """Check that an array of floats has this shape and dtype, which are those of `model`."""
    floating(name, array)
    if array.shape != shape or array.dtype != dtype:
        raise ValueError(
            f"{name}: got {array.dtype} {array.shape}, want {dtype} {shape} like {model}"
        )


def labels(name: str, values: Any, count: int, num_classes: int) -> None:
    """Check that `values` are `count` integers in [0, num_classes)."""
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise TypeError(f"{name}: got dtype {values.dtype}, want integers")
    if values.shape != (count,):
        raise ValueError(f"{name}: got shape {values.shape}, want ({count},)")
    wrong = (values < 0) | (values >= num_classes)
    if wrong.any():
        where = int(np.argmax(wrong))
        raise ValueError(
            f"{name}: got {values[where]} at index {where}, want 0 to {num_classes - 1}"
        )
