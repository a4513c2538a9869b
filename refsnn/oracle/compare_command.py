"""`refsnn compare EXPECTED ACTUAL`: clause by clause, and the first divergence of each case."""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refsnn.oracle.actual import precision_of, read_actual
from refsnn.oracle.array_files import SUFFIXES
from refsnn.oracle.catalogue import catalogue, check_patterns, load
from refsnn.oracle.compare import Comparison, compare_case
from refsnn.oracle.conventions import PRECISIONS
from refsnn.oracle.report import by_clause
from refsnn.output import counted, open_output

STATUSES = ("passed", "failed")


@dataclass(frozen=True)
class Row:
    case: str
    clauses: tuple[str, ...]
    status: str  # one of STATUSES


def add_options(parser: Any) -> None:
    parser.add_argument(
        "expected", type=Path, metavar="EXPECTED",
        help="a folder that `refsnn vectors generate` wrote, or one case's file in it",
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
        actual = read_actual(within(arguments.actual, one), makers, one)
        precision = arguments.precision or precision_of(actual.got)
        cases, damaged = load(makers, [name for name in wanted if name in actual.got])
        problems = actual.problems | damaged
        if cases:
            check_patterns(arguments.omit, cases)
        compared = [compare_case(c, actual.got[c.id], precision, arguments.omit) for c in cases]
        given = {result.case for result in compared} | set(problems)
        absent = [name for name in wanted if name not in given]
        write(json.dumps(to_dict(compared, problems, absent, precision), indent=2))
    if arguments.json != "-":
        print(show(compared, problems, absent, precision))
    return 0 if not problems and all(result.passed for result in compared) else 1


def within(actual: Path, one: str | None) -> Path:
    """The file of the one case that is meant, where a folder was given."""
    if one is None or not actual.is_dir():
        return actual
    return next(
        (actual / f"{one}{s}" for s in SUFFIXES if (actual / f"{one}{s}").is_file()),
        actual / f"{one}.npz",
    )


def place(expected: Path) -> tuple[Path, str | None]:
    """The folder with the manifest, and the case where a single one is meant."""
    if expected.is_dir() or expected.suffix not in SUFFIXES:
        return expected, None
    folder = expected.resolve().parent.parent
    name = f"{expected.resolve().parent.name}/{expected.stem}"
    if name not in catalogue(folder):
        raise ValueError(f"expected: {expected} is not among the cases of {folder}")
    return folder, name


def show(
    compared: list[Comparison], problems: dict[str, str], absent: list[str], precision: str
) -> str:
    rows = [Row(c.case, c.clauses, "passed" if c.passed else "failed") for c in compared]
    failures = sum(row.status == "failed" for row in rows)
    lines = [line for result in compared for line in result.lines()]
    passed = len(rows) - failures
    summary = f"{counted(passed, 'case')} passed, {failures} failed"
    summary += f", {len(problems)} can't be compared" if problems else ""
    summary += f", {len(absent)} not given" if absent else ""
    flips = sum(len(result.flips) for result in compared)
    summary += f", {counted(flips, 'rounding flip')} excused" if flips else ""
    table = by_clause(rows, STATUSES) if rows else ""
    told = [f"{name}: {text}" for name, text in problems.items()]
    parts = [table, "\n".join([*told, *lines]), f"{summary} (tolerances of {precision})"]
    return "\n\n".join(part for part in parts if part)


def to_dict(
    compared: list[Comparison], problems: dict[str, str], absent: list[str], precision: str
) -> dict[str, Any]:
    first = next((result.first for result in compared if result.first is not None), None)
    return {
        "passed": not problems and all(result.passed for result in compared),
        "precision": precision,
        "first_divergence": None if first is None else asdict(first),
        "tensors": {result.case: result.tensors for result in compared},
        "problems": [f"{name}: {text}" for name, text in problems.items()]
        + [f"{r.case}: {text}" for r in compared for text in r.problems],
        "not_given": absent,
        "cases": [
            {
                "case": result.case, "clauses": result.clauses, "passed": result.passed,
                "first_divergence": None if result.first is None else asdict(result.first),
                "flips": [asdict(flip) for flip in result.flips],
            }
            for result in compared
        ],
    }  # fmt: skip
