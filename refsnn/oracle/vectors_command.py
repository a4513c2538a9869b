"""`refsnn vectors generate DIR`, `list [DIR]`, `check DIR`, `schema`."""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from refsnn.files.arrays import SUFFIXES
from refsnn.oracle.conventions import LEVELS, PAPER, make_conventions, words
from refsnn.output import counted, open_output, print_json, table


def add_options(parser: Any) -> None:
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    generate = actions.add_parser(
        "generate",
        help="write the test vectors into a folder",
        description="Writes manifest.json and a file of arrays for each case. Only values on "
        "which refsnn and the naive loops agree are written. The same version writes the same "
        "bytes on the same kind of processor; on another, last bits may differ.",
    )
    generate.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="a new or an empty folder, or one of test vectors, to be written again",
    )
    generate.add_argument(
        "--level",
        nargs="+",
        choices=LEVELS,
        default=LEVELS,
        metavar="LEVEL",
        help=f"only these levels: {', '.join(LEVELS)}",
    )
    generate.add_argument(
        "--format",
        choices=[suffix[1:] for suffix in SUFFIXES],
        default="npz",
        help="of the files of arrays (default: npz)",
    )
    generate.set_defaults(run=run_generate)
    listing = actions.add_parser("list", help="which cases there are, and what each catches")
    listing.add_argument(
        "folder", type=Path, nargs="?", metavar="DIR", help="of a folder (default: all)"
    )
    listing.add_argument("--json", metavar="FILE", help="one JSON list; - prints it alone")
    listing.set_defaults(run=run_list)
    check = actions.add_parser(
        "check",
        help="whether a folder's files are whole, and still what both sides compute",
        description="Compares checksums, and every value with what refsnn and the naive loops "
        "compute now. Exit code 1 where a case differs, or a file is no part of the set.",
    )
    check.add_argument("folder", type=Path, metavar="DIR")
    check.set_defaults(run=run_check)
    schema = actions.add_parser("schema", help="print manifest.json's JSON Schema")
    schema.set_defaults(run=run_schema)


def progress(names: Sequence[str]) -> Any:
    from tqdm import tqdm

    return tqdm(names, unit="case", leave=False, disable=not sys.stderr.isatty())


def agreed(levels: Sequence[str]) -> Iterator[Any]:
    """Cases on which refsnn and the naive loops agree; ValueError at the first where not."""
    from refsnn.oracle.agreement import disagreements
    from refsnn.oracle.catalogue import catalogue

    makers = {k: make for k, make in catalogue(None).items() if k.split("/")[0] in levels}
    for name in progress(list(makers)):
        case = makers[name]()
        differs = disagreements(case)
        if differs:
            raise ValueError(f"vectors: refsnn and the naive loops differ: {differs[0]}")
        yield case


def run_generate(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors

    folder = arguments.folder
    manifest = vectors.write(agreed(arguments.level), folder, f".{arguments.format}")
    count = len(manifest["cases"])
    size = sum((folder / entry["file"]).stat().st_size for entry in manifest["cases"]) / 1e6
    print(f"{count} cases, {size:.1f} MB in {folder}, on which refsnn and the naive loops agree")
    return 0


def run_list(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors
    from refsnn.oracle.recipes import recipes

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
            for recipe in recipes()
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
        head = ["case", "clauses", "catches", "what"]
        rows = [[e["id"], " ".join(e["clauses"]), " ".join(e["flags"]), what(e)] for e in entries]
        print(table(head, rows, head))
    return 0


def what(entry: dict[str, Any]) -> str:
    """The summary, and the conventions that are not the paper's."""
    others = words(entry["conventions"]) if entry["conventions"] else ""
    return f"{entry['summary']}: {others}" if others else str(entry["summary"])


def run_check(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import vectors
    from refsnn.oracle.agreement import changes, disagreements
    from refsnn.oracle.catalogue import catalogue

    folder = arguments.folder
    makers, failures = catalogue(folder), list[str]()
    for name in progress(list(makers)):
        try:
            case = makers[name]()
        except ValueError as error:
            failures.append(str(error))
            continue
        try:
            failures += [f"refsnn computes otherwise: {line}" for line in changes(case)[:1]]
            failures += [f"the naive loops differ: {line}" for line in disagreements(case)[:1]]
        except ValueError as error:
            failures.append(f"{name}: {error}")
    others = vectors.strangers(folder, vectors.read_manifest(folder))
    failures += [f"vectors: {folder / name} is no part of the set" for name in others]
    total = f"{counted(len(makers), 'case')}, {counted(len(failures), 'failure')}"
    print("\n".join([*failures, total]))
    return 1 if failures else 0


def run_schema(arguments: argparse.Namespace) -> int:
    from refsnn.oracle import schema

    print_json(schema.text().removesuffix("\n"))
    return 0
