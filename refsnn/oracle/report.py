"""Tables of cases by level and by clause, for the commands that check many."""

from collections.abc import Callable, Iterable, Sequence
from string import ascii_letters
from typing import Any

from refsnn.output import table


def by_level(results: Sequence[Any], statuses: Sequence[str]) -> str:
    """`results` have a `case`, `clauses` and a `status`, one of `statuses`."""
    names = dict.fromkeys(level(r) for r in results)
    return counts("level", names, results, statuses, lambda r: (level(r),))


def level(result: Any) -> str:
    return str(result.case).partition("/")[0]


def by_clause(results: Sequence[Any], statuses: Sequence[str]) -> str:
    names = sorted({clause for r in results for clause in r.clauses}, key=place)
    return counts("clause", names, results, statuses, lambda r: r.clauses)


def place(clause: str) -> tuple[int, int, bool]:
    """Of a clause in the ledger's order: equations, the algorithm, decisions by number."""
    number = clause.strip(ascii_letters)
    return "EADR".find(clause[0]), int(number) if number.isdigit() else 0, clause.endswith("INFER")


def counts(
    what: str, names: Iterable[str], results: Sequence[Any], statuses: Sequence[str],
    of: Callable[[Any], Sequence[str]],
) -> str:  # fmt: skip
    rows = []
    for name in names:
        group = [r.status for r in results if name in of(r)]
        rows.append([name, str(len(group)), *(str(group.count(s)) for s in statuses)])
    return table([what, "cases", *statuses], rows, [what])
