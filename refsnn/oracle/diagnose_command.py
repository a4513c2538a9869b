"""The command `refsnn diagnose ACTUAL`: which conventions reproduce the numbers, in words."""

import argparse
import json
from pathlib import Path
from typing import Any

from refsnn.oracle.actual import Actual, read_actual
from refsnn.oracle.catalogue import catalogue, load
from refsnn.oracle.conventions import CONVENTIONS, PRECISIONS, words
from refsnn.oracle.declare import declared
from refsnn.oracle.diagnose import SECONDS, Diagnosis, diagnose
from refsnn.oracle.options import add_as
from refsnn.oracle.search import Fit
from refsnn.output import open_output, say


def add_options(parser: Any) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"conventions that are tried, the paper's value first:\n{listed()}"
    parser.add_argument(
        "actual",
        type=Path,
        metavar="ACTUAL",
        help="the arrays that an implementation computed: a folder with a file LEVEL/NAME.npz for "
        "each case, or one such file",
    )
    parser.add_argument(
        "--case",
        metavar="ID",
        help="the case to which the file ACTUAL belongs, where its name is not LEVEL/NAME.npz; or "
        "the only case of the folder ACTUAL to look at",
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        metavar="DIR",
        help="read the cases from this folder, which `refsnn vectors generate` wrote (default: "
        "compute them)",
    )
    add_as(parser)
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="whose tolerances to use (default: float32 if any array is float32, else float64)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="X",
        help="limit of the search, which then reports the best found so far (default: %(default)g)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the result as JSON; - prints the JSON alone"
    )


def listed() -> str:
    """List every convention with its values, one per line."""
    lines = []
    for name, c in CONVENTIONS.items():
        values = [*map(str, c.values), *([c.numbers.wants()] if c.numbers else [])]
        lines.append(f"  {name}: {' | '.join(values)}")
    return "\n".join(lines)


def run(arguments: argparse.Namespace) -> int:
    if not arguments.seconds > 0:
        raise ValueError(f"seconds: got {arguments.seconds:g}, want more than 0")
    makers = catalogue(arguments.vectors, declared(arguments.declared))
    with open_output(arguments.json) as write:
        actual = read_actual(arguments.actual, makers, arguments.case)
        if not actual.got:
            name, text = next(iter(actual.problems.items()))
            raise ValueError(f"actual: {name}: {text}")
        cases, damaged = load(makers, [name for name in makers if name in actual.got])
        actual = actual._replace(problems=actual.problems | damaged)
        if not cases:
            raise ValueError(next(iter(damaged.values())))
        found = diagnose(cases, actual.got, arguments.precision, arguments.seconds, say)
        say("")
        write(json.dumps(to_dict(found, actual), indent=2, ensure_ascii=False))
    if arguments.json != "-":
        print("\n".join([*unread(actual), str(found)]))
    return 0 if found.matches and not unread(actual) and not found.problems else 1


def unread(actual: Actual) -> list[str]:
    """List the files that could not be read, and why."""
    return [f"{name}: {text}" for name, text in actual.problems.items()]


def to_dict(found: Diagnosis, actual: Actual) -> dict[str, Any]:
    """Return the diagnosis for JSON."""

    def fits(found_fits: list[Fit]) -> list[dict[str, Any]]:
        return [
            {
                "conventions": fit.deviations,
                "error": fit.error,
                "words": words(fit.deviations),
                "cases_passed": fit.passed,
                "first_divergence": fit.first,
            }
            for fit in found_fits
        ]

    return {
        "matches": fits(found.matches),
        "nearest": fits(found.nearest),
        "agree": found.agree,
        "differ": found.differ,
        "not_given": found.absent,
        "undecided": found.undecided,
        "stopped": found.stopped,
        "cases": list(actual.got),
        "problems": unread(actual) + found.problems,
    }
