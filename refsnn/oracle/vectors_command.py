"""The command `refsnn vectors generate DIR`, `list [DIR]`, `check DIR`, `schema`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refsnn.files.arrays import SUFFIXES
from refsnn.oracle.conventions import LEVELS, PAPER, Conventions, make_conventions, words
from refsnn.oracle.options import add_as
from refsnn.output import counted, open_output, print_json, table


def add_options(parser: Any) -> None:
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    generate = actions.add_parser(
        "generate",
        help="write all cases, with inputs and expected outputs, into a folder",
        description="Write manifest.json, which describes the cases, and for each case a file of "
        "arrays, LEVEL/NAME.npz. Every value is computed twice, by refsnn and by a second "
        "implementation in plain Python loops, and written only if both agree. The same version "
        "writes the same bytes on the same kind of processor; on another, last bits may differ.",
    )
    generate.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="a new or an empty folder, or one of test vectors, which is overwritten",
    )
    generate.add_argument(
        "--level",
        nargs="+",
        choices=LEVELS,
        default=LEVELS,
        metavar="LEVEL",
        help=f"only cases of these levels: {', '.join(LEVELS)} (default: all)",
    )
    generate.add_argument(
        "--format",
        choices=[suffix[1:] for suffix in SUFFIXES],
        default="npz",
        help="format of the files of arrays (default: npz)",
    )
    add_as(generate)
    generate.set_defaults(run=run_generate)
    listing = actions.add_parser(
        "list",
        help="list the cases, with the clauses that each checks and the mistakes that it catches",
        description="List the cases: the clauses of the specification that each checks (refsnn "
        "spec), the classes of mistake that it catches, a summary and the conventions that are not "
        "the paper's.",
    )
    listing.add_argument(
        "folder",
        type=Path,
        nargs="?",
        metavar="DIR",
        help="list the cases of this folder (default: all)",
    )
    add_as(listing)
    listing.add_argument(
        "--json", metavar="FILE", help="write the list as JSON; - prints the JSON alone"
    )
    listing.set_defaults(run=run_list)
    check = actions.add_parser(
        "check",
        help="check that a folder's files are intact and that their values can be reproduced",
        description="Compare the checksums, and compute every value again by refsnn and by the "
        "plain loops. Exit code 1 if a case differs or a file does not belong to the set.",
    )
    check.add_argument("folder", type=Path, metavar="DIR")
    add_as(check)
    check.set_defaults(run=run_check)
    schema = actions.add_parser("schema", help="print the JSON Schema of manifest.json")
    schema.set_defaults(run=run_schema)


def progress(names: Sequence[str]) -> Any:
    """Wrap the names in a progress bar, which shows on a terminal only."""
    from tqdm import tqdm

    return tqdm(names, unit="case", leave=False, disable=not sys.stderr.isatty())


def agreed(levels: Sequence[str], conventions: Conventions) -> Iterator[Any]:
    """Yield the cases of these levels, once refsnn and the naive loops agree on them.

    ValueError at the first on which they do not.
    """
    from refsnn.oracle.agreement import disagreements
    from refsnn.oracle.catalogue import catalogue

    every = catalogue(None, conventions)
    makers = {k: make for k, make in every.items() if k.split("/")[0] in levels}
    for name in progress(list(makers)):
        case = makers[name]()
        differs = disagreements(case)
        if differs:
            raise ValueError(f"vectors: refsnn and the naive loops differ: {differs[0]}")
        yield case


def run_generate(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors
    from refsnn.oracle.declare import declared

    folder = arguments.folder
    cases = agreed(arguments.level, declared(arguments.declared))
    manifest = vectors.write(cases, folder, f".{arguments.format}")
    count = len(manifest["cases"])
    size = sum((folder / entry["file"]).stat().st_size for entry in manifest["cases"]) / 1e6
    print(f"{count} cases, {size:.1f} MB in {folder}, on which refsnn and the naive loops agree")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors
    from refsnn.oracle.declare import declared
    from refsnn.oracle.recipes import recipes

    told = declared(arguments.declared)
    if told and arguments.folder is not None:
        raise ValueError("conventions: a folder's cases have their own; give DIR or --as")
    entries: list[dict[str, Any]]
    if arguments.folder is None:
        entries = [
            {
                "id": recipe.id,
                "clauses": recipe.clauses.split(),
                "flags": recipe.flags.split(),
                "summary": recipe.summary,
                "conventions": make_conventions(recipe.given),
            }
            for recipe in recipes(declared=told)
        ]
    else:
        cases = vectors.read_manifest(arguments.folder)["cases"]
        facts = ("id", "clauses", "flags", "summary", "conventions")
        entries = [{name: case[name] for name in facts} for case in cases]
    for entry in entries:
        entry["conventions"] = {k: v for k, v in entry["conventions"].items() if v != PAPER[k]}
    with open_output(arguments.json) as write:
        write(json.dumps(entries, indent=2))
    if arguments.json != "-":
        head = ["case", "clauses", "catches", "summary"]
        rows = [
            [e["id"], " ".join(e["clauses"]), " ".join(e["flags"]), described(e)] for e in entries
        ]
        print(table(head, rows, head))
    return 0


def described(entry: dict[str, Any]) -> str:
    """Return the summary with the conventions that are not the paper's."""
    others = words(entry["conventions"], always=False) if entry["conventions"] else ""
    return f"{entry['summary']}: {others}" if others else str(entry["summary"])


def run_check(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors
    from refsnn.oracle.agreement import changes, disagreements
    from refsnn.oracle.catalogue import catalogue
    from refsnn.oracle.declare import declared

    folder = arguments.folder
    makers, failures = catalogue(folder, declared(arguments.declared)), list[str]()
    for name in progress(list(makers)):
        try:
            case = makers[name]()
        except ValueError as error:
            failures.append(str(error))
            continue
        try:
            failures += [f"refsnn computes something else: {line}" for line in changes(case)[:1]]
            failures += [f"the naive loops differ: {line}" for line in disagreements(case)[:1]]
        except ValueError as error:
            failures.append(f"{name}: {error}")
    others = vectors.strangers(folder, vectors.read_manifest(folder))
    failures += [f"vectors: {folder / name} does not belong to the set" for name in others]
    total = f"{counted(len(makers), 'case')}, {counted(len(failures), 'failure')}"
    print("\n".join([*failures, total]))
    return 1 if failures else 0


def run_schema(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import schema

    print_json(schema.text().removesuffix("\n"))
    return 0
