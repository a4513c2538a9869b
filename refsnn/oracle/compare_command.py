"""`refsnn compare EXPECTED ACTUAL`: clause by clause, and the first divergence of each case."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refsnn.oracle.actual import precision_of, read_actual
from refsnn.oracle.catalogue import catalogue
from refsnn.oracle.compare import Comparison, compare_case
from refsnn.oracle.report import by_clause
from refsnn.oracle.vectors import PRECISIONS
from refsnn.output import open_output

STATUSES = ("passed", "failed", "missing")


@dataclass(frozen=True)
class Row:
    case: str
    clauses: tuple[str, ...]
    status: str  # one of STATUSES


def add_options(parser: Any) -> None:
    parser.add_argument(
        "expected", type=Path, metavar="EXPECTED",
        help="a folder that `refsnn vectors generate` wrote, or one case's .npz in it",
    )  # fmt: skip
    parser.add_argument(
        "actual", type=Path, metavar="ACTUAL",
        help="what an implementation gave: LEVEL/NAME.npz for each case, or one such file",
    )  # fmt: skip
    parser.add_argument(
        "--omit", nargs="+", action="extend", default=[], metavar="NAME",
        help="outputs that may be missing; * matches anything",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=PRECISIONS,
        help="which tolerances (default: float32 where an array is of it)",
    )  # fmt: skip
    parser.add_argument(
        "--json", metavar="FILE",
        help="write passed, first_divergence, tensors and more; - prints it, and nothing else",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> int:
    folder, one = place(arguments.expected)
    makers = catalogue(folder)
    wanted = [one] if one else list(makers)
    with open_output(arguments.json) as write:
        actual = read_actual(arguments.actual, wanted if one else makers, one)
        precision = arguments.precision or precision_of(actual.got)
        problems = [f"{name}: {text}" for name, text in actual.problems.items()]
        compared = [
            compare_case(makers[name](), actual.got[name], precision, arguments.omit)
            for name in wanted if name in actual.got
        ]  # fmt: skip
        write(json.dumps(to_dict(compared, problems, precision), indent=2))
    if arguments.json != "-":
        print(show(compared, problems, len(wanted), precision))
    return 0 if not problems and all(result.passed for result in compared) else 1


def place(expected: Path) -> tuple[Path, str | None]:
    """The folder with the manifest, and the case where a single one is meant."""
    if expected.suffix != ".npz":
        return expected, None
    folder = expected.resolve().parent.parent
    name = f"{expected.resolve().parent.name}/{expected.stem}"
    if name not in catalogue(folder):
        raise ValueError(f"expected: {expected} is not among the cases of {folder}")
    return folder, name


def show(compared: list[Comparison], problems: list[str], cases: int, precision: str) -> str:
    rows = [Row(c.case, c.clauses, "passed" if c.passed else "failed") for c in compared]
    failures = sum(row.status == "failed" for row in rows)
    lines = [line for result in compared for line in result.lines()]
    summary = f"{len(rows) - failures} cases passed, {failures} failed"
    if len(rows) < cases:
        summary += f", {cases - len(rows)} not given"
    flips = sum(len(result.flips) for result in compared)
    if flips:
        summary += f", {flips} with spikes that rounding moved"
    table = by_clause(rows, STATUSES[:2]) if rows else ""
    parts = [table, "\n".join([*problems, *lines]), f"{summary} (tolerances of {precision})"]
    return "\n\n".join(part for part in parts if part)


def to_dict(compared: list[Comparison], problems: list[str], precision: str) -> dict[str, Any]:
    first = next((result.first for result in compared if result.first is not None), None)
    return {
        "passed": not problems and all(result.passed for result in compared),
        "precision": precision,
        "first_divergence": None if first is None else asdict(first),
        "tensors": {result.case: result.tensors for result in compared},
        "problems": problems + [f"{r.case}: {text}" for r in compared for text in r.problems],
        "cases": [
            {
                "case": result.case, "clauses": result.clauses, "passed": result.passed,
                "first_divergence": None if result.first is None else asdict(result.first),
                "flips": [asdict(flip) for flip in result.flips],
            }
            for result in compared
        ],
    }  # fmt: skip
