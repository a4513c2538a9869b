"""What a comparison finds: divergences, flips, what could not be compared."""

from dataclasses import dataclass, field
from typing import Any

SHOWN = 3  # of what may be hundreds


@dataclass(frozen=True)
class Divergence:
    """The first element that is out of tolerance. `step` is None where there is no time axis;
    `ulps`, of a spike, is how far above the threshold the expected u_pre is, in float32's ulps."""

    case: str
    tensor: str
    step: int | None
    index: tuple[int, ...]
    expected: float
    got: float
    error: float  # in tolerances
    ulps: float | None = None

    def __str__(self) -> str:
        return f"{self.case}: {self.words()}"

    def words(self) -> str:
        unit = "iteration" if self.case.startswith("training/") else "step"
        where = [] if self.step is None else [f"{unit} {self.step}"]
        where += [f"index {list(self.index)}"] if self.index else []
        text = f"{self.tensor} at {', '.join(where)}" if where else self.tensor
        text += f": expected {self.expected:.9g}, got {self.got:.9g} ({self.error:.3g} tolerances)"
        if self.ulps is not None:
            text += f"; expected u_pre is {where_of(self.ulps)}"
        return text


@dataclass
class Comparison:
    """What became of one case."""

    case: str
    clauses: tuple[str, ...]
    precision: str
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)  # error, status
    problems: list[str] = field(default_factory=list)  # arrays that can't be compared, a line each
    unusable: list[str] = field(default_factory=list)  # their names
    omitted: list[str] = field(default_factory=list)  # outputs that need not be given, nor were
    first: Divergence | None = None
    flips: list[Divergence] = field(default_factory=list)  # spikes that rounding moved
    agreed: float = 0.0  # the share of places, in order, before the first divergence

    @property
    def agrees(self) -> bool:
        """All that can be compared."""
        return self.first is None

    @property
    def passed(self) -> bool:
        return self.agrees and not self.problems

    def faults(self) -> list[str]:
        """What is wrong, in words: some of what can't be compared, and the first divergence."""
        first = [] if self.first is None else [self.first.words()]
        swaps = [
            f"{name} is what {tensor['is']} should be"
            for name, tensor in self.tensors.items()
            if "is" in tensor
        ]
        return [*few(self.problems), *first, *few(swaps)]

    def excused(self) -> list[str]:
        """Some of the flips."""
        return few([flip.words() for flip in self.flips])

    def lines(self) -> list[str]:
        flips = [f"rounding flip, not counted: {text}" for text in self.excused()]
        return [f"{self.case}: {text}" for text in (*self.faults(), *flips)]


def few(texts: list[str]) -> list[str]:
    """The first ones, and how many more there are."""
    more = len(texts) - SHOWN
    return [*texts[:SHOWN], f"{more} more"] if more > 0 else texts


def where_of(ulps: float) -> str:
    if ulps == 0:
        return "on the threshold"
    return f"{abs(ulps):.3g} float32 ulps {'above' if ulps > 0 else 'below'} the threshold"
