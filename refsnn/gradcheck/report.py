"""The results of the checks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    """A check of one input, or of "forward" or "backward" as a whole.

    `error` and `tolerance` are those of the worst direction, in units of <dy, y>. If the check did
    not pass, `index` is the element most at fault, and `expected` and `got` are its derivatives.
    """

    subject: str
    kind: str  # "values", "differences" or "adjoint"
    verdict: str  # "passed", "failed" or "undecided"
    error: float = 0.0
    tolerance: float = 0.0
    direction: int | None = None
    index: tuple[int, ...] | None = None
    expected: float | None = None
    got: float | None = None
    note: str = ""

    def __str__(self) -> str:
        text = f"{self.subject}: {self.kind} {self.verdict}"
        if self.direction is not None:
            text += f": error {self.error:.1e}, tolerance {self.tolerance:.1e}"
            text += f" in direction {self.direction}"
        if self.index is not None:
            place = ", ".join(map(str, self.index))
            text += f"; at [{place}] expected {self.expected:.10g}, got {self.got:.10g}"
        return text + (f"; {self.note}" if self.note else "")


@dataclass(frozen=True)
class Report:
    """The checks in the order in which they were made; `str` has a line for each."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Tell whether every check passed; an undecided one did not."""
        return all(check.verdict == "passed" for check in self.checks)

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(map(str, self.checks))
