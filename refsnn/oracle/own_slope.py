"""Surrogate slopes that a user gives: a function of x = u_pre - v_th, or a table of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files import npy
from refsnn.files.reading import read_bytes, read_text
from refsnn.ops import Array, validate
from refsnn.oracle.slopes import FAMILIES, add, is_own
from refsnn.references import load_object

FILES = (".csv", ".npy")
#: where a slope must be finite: cases reach a thousand thresholds
GRID = np.concatenate(
    [np.arange(-1024, 1025) / 128, [s * 2.0**k for k in range(15) for s in (-1, 1)]]
)
WANT = "want finite numbers of x's shape"


def resolved(value: Any) -> Any:
    """Return the convention `surrogate` as text: a user's slope is added, and named.

    Such a slope is "module:function", a file .csv or .npy with two columns x and h, a function of
    an array x, or an array (n, 2). Any other text stays. ValueError for a slope that is not finite
    numbers.
    """
    if not isinstance(value, str):
        return from_object(None, value)
    if is_own(value):  # a name that was given before, or comes from elsewhere: nothing is loaded
        return value
    if value.endswith(FILES):
        return from_table(value, read_table(Path(value)))
    return from_object(value, load_object("surrogate", value)) if ":" in value else value


def from_object(name: str | None, found: Any) -> str:
    """Add a function or a table under its name, and return that among the conventions."""
    if callable(found):
        owner = getattr(found, "__module__", type(found).__module__)
        own = f"{owner}:{getattr(found, '__qualname__', type(found).__qualname__)}"
        return from_function(name or own, found)
    if isinstance(found, np.ndarray | list | tuple):
        try:
            table = np.array(found, dtype=float)
        except (TypeError, ValueError):
            raise unlike_a_table(validate.shown(found)) from None
        return from_table(name or f"a table of shape {table.shape}", table)
    raise ValueError(
        f"surrogate: got {validate.shown(found)}, want one of {', '.join(FAMILIES)}, "
        "module:function, a file .csv or .npy, a function, or an array of two columns x and h"
    )


def from_function(name: str, function: Callable[[Array], Any]) -> str:
    """Add a function of an array x."""

    def slope(x: Array) -> Array:
        flat = np.array(x, dtype=float).ravel()  # a copy, which the function may write into
        with np.errstate(all="ignore"):
            return np.asarray(function(flat), dtype=float).reshape(np.shape(x))

    with np.errstate(all="ignore"):
        try:
            h = np.asarray(function(GRID.copy()))
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"surrogate: {name} raised {text}, {WANT}") from None
    if h.shape != GRID.shape:
        raise ValueError(f"surrogate: {name} gives shape {h.shape} for {GRID.shape}, {WANT}")
    if h.dtype.kind not in "fiub":
        raise ValueError(f"surrogate: {name} gives dtype {h.dtype}, {WANT}")
    if not np.isfinite(h).all():
        worst = int(np.argmin(np.isfinite(h)))
        raise ValueError(f"surrogate: {name} gives {h[worst]} at x = {GRID[worst]:g}, {WANT}")
    return add(name, slope, function)


def from_table(name: str, table: Array) -> str:
    """Add a table, between whose rows h is linear, and constant beyond its ends."""
    if table.ndim != 2 or table.shape[1] != 2 or len(table) < 2:
        raise unlike_a_table(f"shape {table.shape}")
    if not np.isfinite(table).all():
        raise unlike_a_table("numbers that are not finite")
    x, h = table.T
    if not (np.diff(x) > 0).all():
        raise unlike_a_table("x that does not increase")
    return add(name, lambda at: np.asarray(np.interp(at, x, h)), table)


def unlike_a_table(got: str) -> ValueError:
    """Return the error for something that is not a table of a slope."""
    return ValueError(
        f"surrogate: got {got}, want two columns of finite numbers: x, which increases, and h"
    )


def read_table(path: Path) -> Array:
    """Read a table of numbers, .npy or .csv, whose first line may be the columns' names."""
    try:
        if path.suffix == ".npy":
            return npy.parse(read_bytes(path)).astype(float)
        lines = [line.split(",") for line in read_text(path).splitlines() if line.strip()]
        if lines and not is_number(lines[0][0]):
            lines = lines[1:]
        return np.array([[float(part) for part in line] for line in lines])
    except ValueError as error:
        raise ValueError(f"surrogate: {path}: {error}") from None


def is_number(text: str) -> bool:
    """Tell whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
