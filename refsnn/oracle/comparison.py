"""The result of comparing a case: divergences, rounding flips, outputs that cannot be compared."""

from dataclasses import dataclass, field
from typing import Any

from refsnn.oracle.conventions import PRECISIONS

SHOWN = 3  # lines of one sort, of which there may be hundreds


@dataclass(frozen=True)
class Divergence:
    """An element that is out of tolerance.

    `step` is None where there is no time axis. For a spike, `ulps` is the distance of the expected
    u_pre above the threshold in float32 ulps.
    """

    case: str
    tensor: str
    step: int | None
    index: tuple[int, ...]
    expected: float
    got: float
    error: float  # in tolerances
    ulps: float | None = None
    begins: bool = True  # no step, or the one that its pass computes first

    def __str__(self) -> str:
        return f"{self.case}: {self.words()}"

    def words(self) -> str:
        unit = "iteration" if self.case.startswith("training/") else "step"
        where = [] if self.step is None else [f"{unit} {self.step}"]
        where += [f"index {list(self.index)}"] if self.index else []
        text = f"{self.tensor} at {', '.join(where)}" if where else self.tensor
        text += f": expected {self.expected:.9g}, got {self.got:.9g}"
        text += f" ({self.error:.3g} times the tolerance)"
        if self.ulps is not None:
            text += f"; expected u_pre is {where_of(self.ulps)}"
        return text


@dataclass
class Comparison:
    """The result of comparing one case."""

    case: str
    clauses: tuple[str, ...]
    precision: str
    outputs: tuple[str, ...] = ()  # all names, in the order of computing
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)  # error, status
    problems: list[str] = field(default_factory=list)  # a line for each output of `unusable`
    unusable: list[str] = field(default_factory=list)  # outputs that can't be compared
    missing: list[str] = field(default_factory=list)  # those of them that were not given
    omitted: list[str] = field(default_factory=list)  # outputs not given that need not be
    first: Divergence | None = None
    flips: list[Divergence] = field(default_factory=list)  # spikes that rounding may explain
    agrees_as: str = ""  # the lower precision whose rounding explains why it fails, or "unclear"
    unjudged: str = ""  # what a half precision cannot show, and why
    agreed: float = 0.0  # the fraction of places, in order, before the first divergence

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        return "\n".join(self.lines() or [f"{self.case}: passed"])

    @property
    def agrees(self) -> bool:
        """Tell whether everything that can be compared agrees."""
        return self.first is None

    @property
    def passed(self) -> bool:
        """Tell whether everything could be compared and agrees."""
        return self.agrees and not self.problems and not self.unjudged

    def faults(self, with_missing: bool = True) -> list[str]:
        """Describe in words the first few problems and the first divergence."""
        problems = [
            text
            for name, text in zip(self.unusable, self.problems, strict=True)
            if with_missing or name not in self.missing
        ]
        first = [] if self.first is None else [self.first.words()]
        swaps = [
            f"{name} has the values of {tensor['is']}"
            for name, tensor in self.tensors.items()
            if "is" in tensor
        ]
        return [*few(problems), *first, *few(swaps)]

    def excused(self) -> list[str]:
        """Describe in words the first few rounding flips."""
        return few([flip.words() for flip in self.flips])

    def lines(self, with_missing: bool = True) -> list[str]:
        """Return the faults and flips, each with the case's id before it."""
        flips = [f"rounding flip, not counted: {text}" for text in self.excused()]
        others = [self.unjudged] if self.unjudged else []
        others += [f"agrees as {self.agrees_as}"] if self.agrees_as in PRECISIONS else []
        texts = (*self.faults(with_missing), *others, *flips)
        return [f"{self.case}: {text}" for text in texts]


def few(texts: list[str]) -> list[str]:
    """Return the first texts, and how many more there are."""
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], f"{more} more"] if more > 0 else texts


def where_of(ulps: float) -> str:
    """Describe in words a distance from the threshold."""
    if ulps == 0:
        return "on the threshold"
    return f"{abs(ulps):.3g} float32 ulps {'above' if ulps > 0 else 'below'} the threshold"
