"""The command `refsnn conform`: options, choice of the cases, report."""

import argparse
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

from refsnn.oracle.conventions import LEVELS, PRECISIONS
from refsnn.oracle.options import add_as
from refsnn.oracle.texts import report_text
from refsnn.output import counted, open_output, say


def add_options(parser: Any) -> None:
    parser.add_argument(
        "adapter",
        nargs="?",
        metavar="MODULE:OBJECT",
        help="the implementation: an object with run(case), a class or function that makes one, "
        "a function of the case, or a PyTorch module that is a neuron; for an object Mine in "
        "mine.py of the current folder, mine:Mine",
    )
    parser.add_argument(
        "--program",
        metavar="COMMAND",
        help="the implementation: a program, called as COMMAND IN OUT with two folders; "
        "refsnn/oracle/adapters/program.py describes the files in them",
    )
    parser.add_argument(
        "--level",
        nargs="+",
        action="extend",
        choices=LEVELS,
        metavar="LEVEL",
        help=f"run only cases of these levels: {', '.join(LEVELS)} (default: the levels that the "
        "implementation declares)",
    )
    parser.add_argument(
        "--case",
        nargs="+",
        action="extend",
        metavar="ID",
        help="run only these cases; * matches anything",
    )
    parser.add_argument(
        "--expected-failures",
        type=Path,
        metavar="FILE",
        help='TOML file with a table [cases] of lines "ID or pattern" = "reason"; it is an error '
        "if a listed case passes",
    )
    parser.add_argument(
        "--omit",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="outputs that the implementation need not return; * matches anything",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="the precision in which it computes, which sets the tolerances (default: what it "
        "declares, else the dtype of its arrays)",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="time limit for one case (default: 60); on Linux and macOS the report then says in "
        "which line it hung",
    )
    parser.add_argument(
        "--memory",
        type=float,
        default=4.0,
        metavar="GIB",
        help="memory limit for the implementation's data (default: 4); not available on Windows",
    )
    add_as(parser)
    parser.add_argument(
        "--vectors",
        type=Path,
        metavar="DIR",
        help="read the cases from this folder, which `refsnn vectors generate` wrote (default: "
        "compute them)",
    )
    parser.add_argument(
        "--diagnose",
        action="store_true",
        help="if a case fails, search for the conventions that explain it, as refsnn diagnose does",
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="DIR",
        help="save the arrays that the implementation returned, as LEVEL/NAME.npz",
    )
    parser.add_argument(
        "--verbose",
        action="store_true",
        help="show what the implementation printed in each case, and why cases are unsupported",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write the report as JSON too; - prints the JSON alone"
    )
    parser.add_argument(
        "--junit",
        metavar="FILE",
        help="write the report as JUnit XML too, with a testcase for each case; unsupported cases "
        "and expected failures count as skipped",
    )


def run(arguments: argparse.Namespace) -> int:
    from refsnn.files.arrays import write_arrays
    from refsnn.oracle.catalogue import catalogue, check_patterns, choose, load
    from refsnn.oracle.conform import conform, read_expected
    from refsnn.oracle.declare import declared, meant
    from refsnn.oracle.isolate import Isolated
    from refsnn.oracle.junit import junit_text

    program = check(arguments)
    if arguments.junit == "-":
        raise ValueError("junit: got -, want a file's name")
    if arguments.save is not None and arguments.save.exists() and any(arguments.save.iterdir()):
        raise ValueError(f"save: {arguments.save} is not empty, want a new or an empty folder")
    given: list[tuple[Any, Any]] = []  # cases and arrays for the diagnosis

    def keep(case: Any, arrays: Any) -> None:
        if arguments.diagnose:
            given.append((case, arrays))
        if arguments.save is not None:
            path = arguments.save / f"{case.id}.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, {k: v for k, v in arrays.items() if k in case.outputs})

    file = arguments.expected_failures
    expected = {} if file is None else read_expected(file)
    conventions = declared(arguments.declared)
    with open_output(arguments.json) as write, open_output(arguments.junit) as write_junit:
        with Isolated(
            arguments.adapter or "",
            program,
            timeout=arguments.timeout,
            memory=int(arguments.memory * 2**30),
        ) as isolated:
            ready = isolated.start()
            if arguments.vectors is None:
                own = ready["has_own_numbers"]
                conventions = (
                    meant(conventions, own) if arguments.declared else ready["conventions"]
                )
            makers = catalogue(arguments.vectors, conventions)
            levels = arguments.level or (LEVELS if arguments.case else ready["levels"])
            chosen = choose(makers, levels, arguments.case)
            say(f"making {counted(len(chosen), 'case')}")
            number = itertools.count(1)
            cases, damaged = load(makers, chosen)
            check_patterns(arguments.omit, cases)
            report = conform(
                isolated,
                cases,
                expected=expected,
                known=list(makers),
                precision=arguments.precision,
                omits=arguments.omit,
                watch=lambda name: say(f"case {next(number)}: {name}"),
                keep=keep,
                declared_only=arguments.level is None and arguments.case is None,
                damaged=damaged,
                ready=ready,
                conventions=conventions,
            )
        say("")
        parts, content = [report_text(report, arguments.verbose)], report.to_dict()
        if report.count("failed") and not arguments.diagnose:
            parts.append(HINT)
        if given and (report.count("failed") or report.count("expected")):
            text, content["diagnosis"] = explained(given, report.agrees_as or report.precision)
            parts.append(text)
        write(json.dumps(content, indent=2, ensure_ascii=False))
        write_junit(junit_text(report))
        if arguments.json != "-":
            print("\n\n".join(parts))
    return 0 if report.passed else 1


HINT = (
    "--diagnose says what it computes, --as declares what it is meant to compute; "
    "refsnn spec states each clause"
)


def check(arguments: argparse.Namespace) -> list[str] | None:
    """Check the options; return the program's command as a list of words, or None for an adapter.

    ValueError names the option that cannot be used.
    """
    from refsnn.oracle.adapters.program import Program

    if (arguments.adapter is None) == (arguments.program is None):
        got = "none" if arguments.adapter is None else "both"
        message = f"adapter: got {got}, want MODULE:OBJECT or --program COMMAND"
        for word in arguments.omit:
            if ":" in word:
                message += f"; {word} is taken for an output of --omit: put it first"
        raise ValueError(message)
    for name in ("timeout", "memory"):
        value = getattr(arguments, name)
        if not 0 < value < 1e6:
            raise ValueError(f"{name}: got {value:g}, want more than 0 and less than 1e6")
    if arguments.program is None:
        return None
    try:
        command = shlex.split(arguments.program)
    except ValueError as error:
        raise ValueError(f"program: got {arguments.program!r}: {error}") from None
    Program(command)
    return command


def explained(given: list[tuple[Any, Any]], precision: str | None) -> tuple[str, dict[str, Any]]:
    """Return the diagnosis in words, and for JSON."""
    from refsnn.oracle import diagnose_command
    from refsnn.oracle.actual import Actual
    from refsnn.oracle.diagnose import SECONDS, diagnose

    got = {case.id: arrays for case, arrays in given}
    try:
        found = diagnose([case for case, _ in given], got, precision, SECONDS, say)
    except ValueError as error:  # no output could be compared
        return str(error), {}
    say("")
    return str(found), diagnose_command.to_dict(found, Actual(got, {}, []))
