"""The command `refsnn compare EXPECTED ACTUAL`: verdicts by clause, and first divergences."""

import argparse
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from refsnn.files.arrays import SUFFIXES
from refsnn.oracle import evidence, hidden
from refsnn.oracle.actual import read_actual
from refsnn.oracle.catalogue import catalogue, check_patterns, load
from refsnn.oracle.compare import compare_case
from refsnn.oracle.comparison import Comparison
from refsnn.oracle.conventions import PRECISIONS, Conventions
from refsnn.oracle.declare import declared
from refsnn.oracle.options import add_as
from refsnn.oracle.report import by_clause
from refsnn.oracle.texts import agreement
from refsnn.output import counted, open_output


@dataclass(frozen=True)
class Outcome:
    """The result of comparing two sets of arrays."""

    compared: list[Comparison]
    problems: dict[str, str]  # cases and files that can't be compared, and why
    absent: list[str]  # expected cases that are not among the actual ones
    others: list[str]  # actual cases that are not among the expected ones

    @property
    def passed(self) -> bool:
        """Tell whether everything could be compared and agrees."""
        wrong = any(not r.agrees or r.problems for r in self.compared)
        none = self.compared and not any(r.passed for r in self.compared)
        return not (self.problems or wrong or none)


def add_options(parser: Any) -> None:
    parser.add_argument(
        "expected",
        type=Path,
        metavar="EXPECTED",
        help="a folder that `refsnn vectors generate` wrote, or one case's file in it",
    )
    parser.add_argument(
        "actual",
        type=Path,
        metavar="ACTUAL",
        help="the arrays that an implementation computed: a folder with a file LEVEL/NAME.npz for "
        "each case, or one such file",
    )
    add_as(parser)
    parser.add_argument(
        "--omit",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="outputs that may be missing from ACTUAL; * matches anything",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="whose tolerances to use (default: the lowest of the arrays' own)",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="name the missing outputs of each case"
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        help="write the result as JSON, with the error of every output; - prints the JSON alone",
    )


def run(arguments: argparse.Namespace) -> int:
    conventions = declared(arguments.declared)
    folder, one = place(arguments.expected, conventions)
    makers, file = catalogue(folder, conventions), arguments.actual
    own = f"{file.resolve().parent.name}/{file.stem}"
    if one not in (None, own) and own in makers and not file.is_dir():
        raise ValueError(f"actual: {file} is named after the case {own}, want {one}")
    wanted = [one] if one else list(makers)
    with open_output(arguments.json) as write:
        actual = read_actual(arguments.actual, makers, one)
        cases, damaged = load(makers, [name for name in wanted if name in actual.got])
        if cases:
            check_patterns(arguments.omit, cases)
        problems = actual.problems | damaged
        given = {*actual.got, *problems}
        compared = []
        for case in cases:
            got = actual.got[case.id]
            found = compare_case(case, got, arguments.precision, arguments.omit)
            found.agrees_as = hidden.agrees_as(case, got, found, arguments.omit)
            compared.append(found)
        outcome = Outcome(
            compared,
            problems,
            [name for name in wanted if name not in given],
            actual.others,
        )
        write(json.dumps(to_dict(outcome), indent=2))
    if arguments.json != "-":
        print(show(outcome, arguments.actual, arguments.verbose))
        if file.samefile(arguments.expected):
            print(f"{file} holds the expected values themselves, so nothing was checked")
    return 0 if outcome.passed else 1


def place(expected: Path, conventions: Conventions) -> tuple[Path, str | None]:
    """Return the folder with the manifest, and the case if EXPECTED is the file of one."""
    if expected.is_dir() or expected.suffix not in SUFFIXES:
        return expected, None
    folder = expected.resolve().parent.parent
    name = f"{expected.resolve().parent.name}/{expected.stem}"
    if name not in catalogue(folder, conventions):
        raise ValueError(f"expected: {expected} is not among the cases of {folder}")
    return folder, name


def show(outcome: Outcome, actual: Path, verbose: bool = False) -> str:
    """Return the result as text: a table by clause, one line per fault, a summary."""
    compared, problems = outcome.compared, outcome.problems
    passed = sum(result.passed for result in compared)
    unjudged = sum(result.agrees and not result.problems for result in compared) - passed
    failed = len(compared) - passed - unjudged
    words = [f"{counted(passed, 'case')} passed, {failed} failed"]
    words += [f"{unjudged} not judged"] if unjudged else []
    words += [f"{len(problems)} can't be compared"] if problems else []
    words += [f"{len(outcome.absent)} not given"] if outcome.absent else []
    words += [f"{len(outcome.others)} not among the expected ones"] if outcome.others else []
    flips = sum(len(result.flips) for result in compared)
    words += [f"{counted(flips, 'rounding flip')} excused"] if flips else []
    lower = hidden.common(r.agrees_as for r in compared if not r.agrees or r.problems)
    lines = [agreement(lower)] if lower else []
    lines += [f"{name}: {text}" for name, text in problems.items()]
    lines += [line for result in compared for line in result.lines(with_missing=False)]
    lines += missing(compared, verbose)
    omitted = evidence.kinds(name for result in compared for name in result.omitted)
    lines += [f"not given, so not compared: {', '.join(omitted)}"] if omitted else []
    if any(result.first for result in compared):
        lines.append(f"which conventions would explain it: refsnn diagnose {actual}")
    table = by_clause(map(evidence.judge, compared), evidence.STATUSES) if compared else ""
    used = " and ".join(dict.fromkeys(result.precision for result in compared))
    summary = ", ".join(words) + (f" (tolerances of {used})" if used else "")
    return "\n\n".join(part for part in (table, "\n".join(lines), summary) if part)


def missing(compared: list[Comparison], verbose: bool) -> list[str]:
    """Name each case's missing outputs, or in one line count the cases by kind of output."""
    if verbose:
        return [f"{r.case}: missing: {', '.join(r.missing)}" for r in compared if r.missing]
    kinds = [kind for result in compared for kind in evidence.kinds(result.missing)]
    if not kinds:
        return []
    counts = [f"{kind} in {counted(n, 'case')}" for kind, n in Counter(kinds).items()]
    return [
        f"missing outputs: {', '.join(counts)} (--verbose names them; --omit NAME if they need not "
        "be given)"
    ]


def to_dict(outcome: Outcome) -> dict[str, Any]:
    """Return the result for JSON."""
    compared = outcome.compared
    first = next((result.first for result in compared if result.first is not None), None)
    return {
        "passed": outcome.passed,
        "first_divergence": None if first is None else asdict(first),
        "tensors": {result.case: result.tensors for result in compared},
        "problems": [f"{name}: {text}" for name, text in outcome.problems.items()]
        + [f"{r.case}: {text}" for r in compared for text in r.problems],
        "not_given": outcome.absent,
        "not_expected": outcome.others,
        "cases": [
            {
                "case": result.case,
                "clauses": evidence.judge(result),
                "passed": result.passed,
                "precision": result.precision,
                "agrees_as": result.agrees_as,
                "omitted": result.omitted,
                "first_divergence": None if result.first is None else asdict(result.first),
                "flips": [asdict(flip) for flip in result.flips],
            }
            for result in compared
        ],
    }
