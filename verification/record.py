"""Recording of the checks' comparisons, with one row of the ledger per clause and check."""

import math
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import numpy as np

NOT_REACHED = "not reached"


@dataclass
class Row:
    """One line of the ledger."""

    clause: str
    check: str
    evidence: str
    cases: int = 0
    rejected: int = 0  # draws that could not be judged
    worst_error: float = 0.0
    tolerance: float = 0.0
    passed: bool = True
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the row as plain JSON; an infinite error becomes null."""
        row = asdict(self)
        if not math.isfinite(self.worst_error):
            row["worst_error"] = None
        return row


class Failed(AssertionError):
    """A comparison that did not hold."""

    def __init__(self, clauses: list[str], text: str) -> None:
        super().__init__(text)
        self.clauses, self.text = clauses, text  # the first is the one to blame


class Rejected(Exception):
    """A draw that can't be judged, such as one near a threshold."""


class Recorder:
    """Records the comparisons of one check in `rows`, one for each of its clauses."""

    def __init__(self, check: str, evidence: str, clauses: tuple[str, ...]) -> None:
        self.rows = {clause: Row(clause, check, evidence) for clause in clauses}
        self.passed_values = False  # of this case: only gradients can fail from now on
        self.seen: set[str] = set()

    def start_case(self) -> None:
        self.passed_values, self.seen = False, set()

    def end_case(self) -> None:
        for clause in self.seen:
            self.rows[clause].cases += 1

    def reject(self) -> NoReturn:
        """Count this draw as one that can't be judged, and end it."""
        for row in self.rows.values():
            row.rejected += 1
        raise Rejected

    def values_ok(self) -> None:
        """Note that all values were right: what is compared from now on are gradients."""
        self.passed_values = True

    def close(
        self,
        clause: str,
        name: str,
        got: Any,
        want: Any,
        tolerance: float,
        scale: float | None = None,
        axes: str = "",
    ) -> None:
        """Check that |got - want| <= tolerance * scale everywhere, and that shapes agree.

        `scale` defaults to max |want|, or 1 where that is 0. NaN fails. `axes` names the axes with
        one letter each. `clause` may list several clauses, separated by spaces; a failure is blamed
        on the first.
        """
        got, want = np.asarray(got), np.asarray(want)
        if got.shape != want.shape:
            self.note(clause, math.inf, tolerance)
            self.fail(clause, f"{name}: got shape {got.shape}, want {want.shape}")
        if got.size == 0:
            self.note(clause, 0.0, tolerance)
            return
        if scale is None:
            scale = float(np.max(np.abs(want))) or 1.0
        with np.errstate(all="ignore"):
            errors = np.abs(got - want) / scale
        errors = np.where(np.isfinite(errors), errors, np.inf)
        worst = float(np.max(errors))
        self.note(clause, worst, tolerance)
        if not worst <= tolerance:
            index = np.unravel_index(int(np.argmax(errors)), errors.shape)
            ratio = f", err/tol {worst / tolerance:.3g}" if tolerance else ""
            self.fail(
                clause,
                f"{name}{subscript(index, axes)}: got {got[index].item()!r}, "
                f"want {want[index].item()!r}{ratio}"
                + (", values OK" if self.passed_values else ""),
            )

    def equal(self, clause: str, name: str, got: Any, want: Any, axes: str = "") -> None:
        """Check that values are equal, arrays element by element; -0 equals 0."""
        if isinstance(got, np.ndarray) or isinstance(want, np.ndarray):
            got, want = np.asarray(got), np.asarray(want)
            if got.dtype.kind in "biufc" and want.dtype.kind in "biufc":
                self.close(clause, name, got, want, 0.0, 1.0, axes)
                return
            same = got.shape == want.shape and bool((got == want).all())
        else:
            same = bool(got == want)
        self.note(clause, 0.0 if same else math.inf, 0.0)
        if not same:
            self.fail(clause, f"{name}: got {got!r}, want {want!r}")

    def true(self, clause: str, text: str, holds: Any) -> None:
        """Check that a statement holds, which `text` describes."""
        self.note(clause, 0.0 if holds else math.inf, 0.0)
        if not holds:
            self.fail(clause, f"does not hold: {text}")

    def note(self, clause: str, error: float, tolerance: float) -> None:
        """Keep the comparison with the largest error relative to its tolerance."""
        error, tolerance = float(error), float(tolerance)
        for name in clause.split():
            row = self.rows[name]
            self.seen.add(name)
            if ratio(error, tolerance) >= ratio(row.worst_error, row.tolerance):
                row.worst_error, row.tolerance = error, tolerance

    def fail(self, clause: str, text: str) -> None:
        raise Failed(clause.split(), text)


def ratio(error: float, tolerance: float) -> tuple[float, float]:
    """Return the key that orders comparisons: error relative to tolerance, then tolerance."""
    relative = error / tolerance if tolerance else (math.inf if error else 0.0)
    return (relative, tolerance)


def subscript(index: tuple[Any, ...], axes: str) -> str:
    """Format an index as `[t=3,n=0,c=2]`, or as plain numbers where the axes have no names."""
    if not index:
        return ""
    names = axes if len(axes) == len(index) else ""
    parts = [f"{a}={i}" for a, i in zip(names, index, strict=True)] if names else map(str, index)
    return f"[{','.join(parts)}]"
