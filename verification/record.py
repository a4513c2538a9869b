"""What checks report: comparisons, each of a clause, gathered into one row a clause and check."""

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
    side: str
    cases: int = 0
    rejected: int = 0  # draws inside a guard band
    worst_error: float = 0.0
    tolerance: float = 0.0
    passed: bool = True
    failure: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON: an error that is no number is written as null."""
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
    """A draw that lies in a guard band."""


class Recorder:
    """Takes the comparisons of one check; `rows` has one for each of its clauses."""

    def __init__(self, check: str, side: str, clauses: tuple[str, ...]) -> None:
        self.rows = {clause: Row(clause, check, side) for clause in clauses}
        self.passed_values = False  # of this case: is what fails now a gradient alone?
        self.seen: set[str] = set()

    def start_case(self) -> None:
        self.passed_values, self.seen = False, set()

    def end_case(self) -> None:
        for clause in self.seen:
            self.rows[clause].cases += 1

    def reject(self) -> NoReturn:
        """This draw can't be judged; it is counted."""
        for row in self.rows.values():
            row.rejected += 1
        raise Rejected

    def values_ok(self) -> None:
        """What is compared from now on are gradients of values that were right."""
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
        """|got - want| <= tolerance * scale everywhere; `scale` by itself is max |want|, or 1
        where that is 0. Shapes must agree; NaN fails. `axes` names the axes, a letter each.

        `clause` may list several, apart by spaces, that the values depend on; the first is
        the one to blame."""
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
            at = np.unravel_index(int(np.argmax(errors)), errors.shape)
            ratio = f", err/tol {worst / tolerance:.3g}" if tolerance else ""
            self.fail(
                clause,
                f"{name}{place(at, axes)}: got {got[at].item()!r}, want {want[at].item()!r}{ratio}"
                + (", values OK" if self.passed_values else ""),
            )

    def equal(self, clause: str, name: str, got: Any, want: Any, axes: str = "") -> None:
        """The same values, arrays element by element; -0 is 0."""
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
        """A statement that must hold; `text` says it."""
        self.note(clause, 0.0 if holds else math.inf, 0.0)
        if not holds:
            self.fail(clause, f"does not hold: {text}")

    def note(self, clause: str, error: float, tolerance: float) -> None:
        """Keep the comparison that came nearest to its tolerance."""
        error, tolerance = float(error), float(tolerance)
        for name in clause.split():
            row = self.rows[name]
            self.seen.add(name)
            if ratio(error, tolerance) >= ratio(row.worst_error, row.tolerance):
                row.worst_error, row.tolerance = error, tolerance

    def fail(self, clause: str, text: str) -> None:
        raise Failed(clause.split(), text)


def ratio(error: float, tolerance: float) -> tuple[float, float]:
    """Order of comparisons: by share of the tolerance, then by tolerance."""
    share = error / tolerance if tolerance else (math.inf if error else 0.0)
    return (share, tolerance)


def place(at: tuple[Any, ...], axes: str) -> str:
    """`[t=3,n=0,c=2]`, or plain indices where the axes have no names."""
    if not at:
        return ""
    names = axes if len(axes) == len(at) else ""
    parts = [f"{a}={i}" for a, i in zip(names, at, strict=True)] if names else map(str, at)
    return f"[{','.join(parts)}]"
