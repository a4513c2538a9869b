"""`refsnn conform`: options, choice of the cases, the report."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from string import ascii_letters
from typing import Any

from refsnn.oracle.conventions import LEVELS
from refsnn.output import open_output, table


def add_options(parser: Any) -> None:
    parser.add_argument(
        "adapter", nargs="?", metavar="MODULE:OBJECT",
        help="the implementation: an object with run(case), a class or function that makes one, "
        "or a function of the case; MODULE may be in the current folder",
    )  # fmt: skip
    parser.add_argument(
        "--program", metavar="COMMAND",
        help="the implementation: a program, called as COMMAND IN OUT with two folders; "
        "refsnn/oracle/adapters/program.py says what is in them",
    )  # fmt: skip
    parser.add_argument(
        "--level", nargs="+", action="extend", choices=LEVELS, metavar="LEVEL",
        help=f"only cases of these levels: {', '.join(LEVELS)}",
    )  # fmt: skip
    parser.add_argument(
        "--case", nargs="+", action="extend", metavar="ID",
        help="only these cases; * matches anything",
    )  # fmt: skip
    parser.add_argument(
        "--expected-failures", type=Path, metavar="FILE",
        help='TOML: a table [cases] of lines "ID or pattern" = "why it fails"; one that passes '
        "is an error",
    )  # fmt: skip
    parser.add_argument(
        "--omit", nargs="+", action="extend", default=[], metavar="NAME",
        help="outputs that the implementation can't show; * matches anything",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "float64"),
        help="what it computes in (default: what it declares, else float64)",
    )  # fmt: skip
    parser.add_argument(
        "--timeout", type=float, default=60.0, metavar="SECONDS",
        help="for one case, then it is stopped (default: 60)",
    )  # fmt: skip
    parser.add_argument(
        "--memory", type=float, default=4.0, metavar="GIB",
        help="data that the implementation may hold (default: 4)",
    )  # fmt: skip
    parser.add_argument(
        "--vectors", type=Path, metavar="DIR",
        help="cases from files that `refsnn vectors generate` wrote (default: built as needed)",
    )  # fmt: skip
    parser.add_argument(
        "--verbose", action="store_true",
        help="what the implementation printed, case by case, and why cases are unsupported",
    )  # fmt: skip
    parser.add_argument(
        "--json", metavar="FILE", help="write one JSON object too; - prints it, and nothing else"
    )


def run(arguments: argparse.Namespace) -> int:
    from refsnn.oracle.conform import conform, read_expected
    from refsnn.oracle.isolate import Isolated

    program = check(arguments)
    file = arguments.expected_failures
    expected = {} if file is None else read_expected(file)
    with open_output(arguments.json) as write:
        known, cases = choose(arguments.vectors, arguments.level or LEVELS, arguments.case)
        with Isolated(
            arguments.adapter or "", program, timeout=arguments.timeout,
            memory=int(arguments.memory * 2**30),
        ) as isolated:  # fmt: skip
            report = conform(
                isolated, cases, expected=expected, known=known,
                precision=arguments.precision, omits=arguments.omit, watch=say,
            )  # fmt: skip
        say("")
        write(json.dumps(report.to_dict(), indent=2))
        if arguments.json != "-":
            print(show(report, arguments.verbose))
    return 0 if report.passed else 1


def check(arguments: argparse.Namespace) -> list[str] | None:
    """The program's words, if it is one; ValueError for what can't be done."""
    from refsnn.oracle.adapters.program import Program

    if (arguments.adapter is None) == (arguments.program is None):
        both = "neither" if arguments.adapter is None else "both"
        raise ValueError(f"adapter: got {both}, want MODULE:OBJECT or --program COMMAND")
    for name in ("timeout", "memory"):
        value = getattr(arguments, name)
        if not 0 < value < 1e6:
            raise ValueError(f"{name}: got {value:g}, want more than 0 and less than 1e6")
    if arguments.program is None:
        return None
    try:
        words = shlex.split(arguments.program)
    except ValueError as error:
        raise ValueError(f"program: got {arguments.program!r}: {error}") from None
    Program(words)
    return words


def choose(
    folder: Path | None, levels: Sequence[str], patterns: Sequence[str] | None
) -> tuple[list[str], Iterator[Any]]:
    """All ids there are; the chosen cases, each made or read when its turn comes."""
    from refsnn.oracle import cases, recipes, vectors

    makers: dict[str, Callable[[], Any]] = {}
    if folder is None:
        for recipe in recipes.recipes():
            makers[recipe.id] = partial(cases.build, recipe)
    else:
        for entry in vectors.read_manifest(folder)["cases"]:
            makers[entry["id"]] = partial(vectors.read_case, folder, entry)
    for pattern in patterns or ():
        if not any(fnmatchcase(name, pattern) for name in makers):
            near = get_close_matches(pattern, makers, 1, 0)[0] if makers else "none at all"
            raise ValueError(f"case: got {pattern!r}, want a case's id or a pattern, like {near}")
    chosen = [
        name for name in makers
        if name.split("/")[0] in levels
        and (patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns))
    ]  # fmt: skip
    if not chosen:
        raise ValueError(f"case: got none of the level {', '.join(levels)}, want at least one")
    return list(makers), (makers[name]() for name in chosen)


def say(text: str) -> None:
    """What is going on, on one line of a terminal."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def show(report: Any, verbose: bool) -> str:
    """The report as text: tables, a line for each failure, a summary."""
    parts = [f"{report.adapter}, {report.precision}", by_level(report), by_clause(report)]
    lines = [
        f"{r.status.upper()} {r.case}: {r.message}" + (f" [{r.reason}]" if r.reason else "")
        for r in report.results
        if r.status == "failed" or (verbose and r.status != "passed")
    ]
    lines += [f"STALE {line}" for line in report.stale]
    if lines:
        parts.append("\n".join(lines))
    if verbose:
        parts += [f"{r.case} printed:\n{r.printed.rstrip()}" for r in report.results if r.printed]
    return "\n\n".join([*parts, summary(report)])


def by_level(report: Any) -> str:
    return counts("level", {r.level: None for r in report.results}, report, lambda r: (r.level,))


def by_clause(report: Any) -> str:
    names = sorted({clause for r in report.results for clause in r.clauses}, key=place)
    return counts("clause", names, report, lambda r: r.clauses)


def place(clause: str) -> tuple[int, int, bool]:
    """Of a clause in the ledger's order: equations, the algorithm, decisions by number."""
    number = clause.strip(ascii_letters)
    return "EADR".find(clause[0]), int(number) if number.isdigit() else 0, clause.endswith("INFER")


def counts(what: str, names: Any, report: Any, of: Any) -> str:
    from refsnn.oracle.conform import STATUSES

    rows = []
    for name in names:
        group = [r.status for r in report.results if name in of(r)]
        rows.append([name, str(len(group)), *(str(group.count(s)) for s in STATUSES)])
    return table([what, "cases", *STATUSES], rows, [what])


def summary(report: Any) -> str:
    words = [f"{report.count('passed')} passed"]
    for status, text in (
        ("failed", "failed"), ("unsupported", "unsupported"), ("expected", "expected to fail"),
    ):  # fmt: skip
        if report.count(status):
            words.append(f"{report.count(status)} {text}")
    if report.stale:
        words.append(f"{len(report.stale)} stale expected failures")
    flipped = [r.flips for r in report.results if r.flips]
    if flipped:
        words.append(f"{sum(flipped)} rounding flips excused in {len(flipped)} cases")
    if report.count("unsupported") == len(report.results):
        words.append("so nothing was checked")
    return f"{', '.join(words)}, in {report.seconds:.1f} s"
