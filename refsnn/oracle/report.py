"""Tables of results by level and by clause, for the commands that check many cases."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from refsnn import spec
from refsnn.output import table

ORDER = {clause.id: number for number, clause in enumerate(spec.CLAUSES)}
STATUSES = ("passed", "failed", "unsupported", "expected")  # of a case


def by_level(results: Sequence[Any], statuses: Sequence[str]) -> str:
    """Return a table of how many results of each level have each status."""
    names = list(dict.fromkeys(level(r) for r in results))
    return counts("level", names, [(level(r), r.status) for r in results], statuses)


def level(result: Any) -> str:
    return str(result.case).partition("/")[0]


def by_clause(results: Iterable[Mapping[str, str]], statuses: Sequence[str]) -> str:
    """Return a table of how many cases of each clause have each status."""
    pairs = [pair for clauses in results for pair in clauses.items()]
    return counts("clause", sorted({name for name, _ in pairs}, key=place), pairs, statuses)


def place(clause: str) -> tuple[int, str]:
    """Return a clause's sorting key in the ledger's order; unknown ones come last, by name."""
    return ORDER.get(clause, len(ORDER)), clause


def counts(
    what: str, names: Sequence[str], pairs: Sequence[tuple[str, str]], statuses: Sequence[str]
) -> str:
    """Return a table of how many pairs (name, status) there are of each name and status."""
    rows = []
    for name in names:
        group = [status for owner, status in pairs if owner == name]
        rows.append([name, str(len(group)), *(str(group.count(s)) for s in statuses)])
    return table([what, "cases", *statuses], rows, [what])
