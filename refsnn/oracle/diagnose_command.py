"""`refsnn diagnose ACTUAL`: in words, which conventions reproduce the numbers."""

import argparse
import json
from pathlib import Path
from typing import Any

from refsnn.oracle.actual import Actual, read_actual
from refsnn.oracle.catalogue import catalogue, load
from refsnn.oracle.comparison import few
from refsnn.oracle.conventions import CONVENTIONS, PRECISIONS, words
from refsnn.oracle.diagnose import SECONDS, Diagnosis, diagnose
from refsnn.oracle.search import TRIED, Fit
from refsnn.output import counted, open_output, say


def add_options(parser: Any) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = f"conventions, the paper's first:\n{known()}"
    parser.add_argument(
        "actual",
        type=Path,
        metavar="ACTUAL",
        help="what an implementation gave: LEVEL/NAME.npz for each case, or one such file",
    )
    parser.add_argument(
        "--case", metavar="ID", help="the one of a folder, or whose file ACTUAL is, if not its name"
    )
    parser.add_argument(
        "--vectors",
        type=Path,
        metavar="DIR",
        help="cases from files that `refsnn vectors generate` wrote (default: built as needed)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="which tolerances (default: float32 where an array is of it)",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=SECONDS,
        metavar="X",
        help="search no longer, and give what was found until then (default: %(default)g)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write matches and more; - prints it, and nothing else"
    )


def known() -> str:
    """Every convention with its values, a line each."""
    lines = [f"  {name}: {' | '.join(map(str, c.values))}" for name, c in CONVENTIONS.items()]
    numbers = [f"  {name}: {', '.join(map(str, v))}" for name, (_, v) in TRIED.items()]
    return "\n".join([*lines, *numbers])


def run(arguments: argparse.Namespace) -> int:
    if not arguments.seconds > 0:
        raise ValueError(f"seconds: got {arguments.seconds:g}, want more than 0")
    makers = catalogue(arguments.vectors)
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
        print("\n".join([*unread(actual), show(found)]))
    return 0 if found.matches and not unread(actual) and not found.problems else 1


def unread(actual: Actual) -> list[str]:
    return [f"{name}: {text}" for name, text in actual.problems.items()]


def show(found: Diagnosis) -> str:
    """In words: what explains all, or what comes nearest."""
    lines = list(found.problems)
    count = counted(found.cases, "case")
    if found.matches:
        best, *others = found.matches
        if best.deviations:
            verb = "match" if found.cases > 1 else "matches"
            lines.append(f"{count} {verb} with: {words(best.deviations)}")
        else:
            what = "what could be compared" if found.problems else "everything"
            lines.append(f"{count}: {what} matches, no convention differs")
            if found.undecided:
                undecided = few([words(state) for state in found.undecided])
                lines.append(f"these cases can't tell it from: {' | '.join(undecided)}")
        lines += [f"these cases can't tell it from: {words(fit.deviations)}" for fit in others]
    else:
        tried = "known conventions" if found.stopped is None else "conventions that was tried"
        lines.append(f"no combination of {tried} reproduces the {count}")
        so_far = "nearest" if found.stopped is None else "nearest so far"
        lines += [f"{so_far}: {near(fit)} {fit.first}" for fit in found.nearest[:1]]
        right = f"right with it: {', '.join(found.agree)}; " if found.agree else ""
        lines.append(f"{right}wrong: {', '.join(found.differ)}")
    if found.stopped is not None:
        what = "not all was tried: refsnn diagnose --seconds sets the time"
        lines.append(f"stopped after {found.stopped:g} s; {what}")
    if found.absent:
        lines.append(f"not given, so not judged: {', '.join(found.absent)}")
    return "\n".join(lines)


def near(fit: Fit) -> str:
    agree = f"{counted(fit.passed, 'case')} agree" + "s" * (fit.passed == 1)
    return f"{words(fit.deviations)}; {agree}; what then diverges first:"


def to_dict(found: Diagnosis, actual: Actual) -> dict[str, Any]:
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
