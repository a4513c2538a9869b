"""Run the checks of all clauses and print the ledger. The exit code is 1 if a check fails.

`python -m verification mutants` puts faults into a copy of the code and shows which checks find
each of them.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

# The arrays are tiny, and threads that spin between kernels would slow each other down.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from refsnn import spec
from refsnn.ops import CONV_METHODS
from refsnn.process import raise_when_stopped
from verification.record import NOT_REACHED, Row, ratio
from verification.suite import HAS_PEERS, checks, run_named


def main(argv: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["mutants"]:
        from verification.mutants import main as mutants

        raise_when_stopped()
        return mutants(arguments[1:])
    options = build_parser().parse_args(arguments)
    if options.clause and options.clause.upper() not in [c.id for c in spec.CLAUSES]:
        print(
            f"verification: error: clause: got {options.clause!r}, want one of "
            f"{', '.join(c.id for c in spec.CLAUSES)}",
            file=sys.stderr,
        )
        return 2
    rows = campaign(options) if options.hours else one_run(options, options.seed)
    rows += unchecked(rows, options.clause)
    if options.json:
        text = json.dumps([row.to_dict() for row in rows], indent=2)
        if options.json != "-":
            Path(options.json).write_text(text + "\n", encoding="utf-8")
    if options.json == "-":
        print(text)
    else:
        print(table(rows))
        if not HAS_PEERS:
            print("PyTorch's checks were left out: it is not installed")
    return 0 if all(row.passed for row in rows) else 1


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--clause", metavar="ID", help="run only the checks of one clause, such as EQ3"
    )
    parser.add_argument("--quick", action="store_true", help="make few draws: a minute")
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="checks to run at a time (default: the number of cores)",
    )
    parser.add_argument(
        "--no-shrink", action="store_true", help="report failing cases as drawn, not simplified"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out PyTorch's checks")
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of the draws (default: 0)"
    )
    parser.add_argument(
        "--conv",
        choices=CONV_METHODS,
        default="auto",
        help="algorithm of all float32 convolutions (default: auto)",
    )
    parser.add_argument(
        "--hours", type=float, metavar="H", help="repeat with new seeds for this many hours"
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the ledger as JSON to FILE, or print it as JSON if no FILE is given",
    )
    return parser


def one_run(options: argparse.Namespace, seed: int) -> list[Row]:
    wanted = options.clause and options.clause.upper()
    peers = HAS_PEERS and not options.no_peers
    chosen = [one.name for one in checks(peers) if not wanted or wanted in one.clauses]
    run = partial(
        run_named,
        peers=peers,
        seed=seed,
        quick=options.quick,
        shrink=not options.no_shrink,
        conv=options.conv,
    )
    rows = []
    with workers(min(options.jobs, len(chosen))) as in_order:
        bar = tqdm(
            in_order(run, chosen), total=len(chosen), unit="check", disable=None, leave=False
        )
        for found in bar:
            for row in found:
                if not row.passed and not row.failure.startswith(NOT_REACHED):
                    tqdm.write(failure(row, seed, options.quick, options.conv), file=sys.stderr)
            rows += [row for row in found if wanted in (None, row.clause) or not row.passed]
    return rows


@contextmanager
def workers(count: int) -> Iterator[Callable[..., Iterable[list[Row]]]]:
    """Yield a `map` that keeps the order and runs in `count` processes."""
    if count <= 1:
        yield map
        return
    with ProcessPoolExecutor(count, get_context("spawn")) as pool:
        yield pool.map


def failure(row: Row, seed: int, quick: bool, conv: str = "auto") -> str:
    """Return a line that says what failed, by how much, and the command that repeats it."""
    replay = f"python -m verification --clause {row.clause} --seed {seed}" + " --quick" * quick
    replay += f" --conv {conv}" * (conv != "auto")
    return f"[{row.clause}] {row.check}: {row.failure}, replay: {replay}"


def campaign(options: argparse.Namespace) -> list[Row]:
    """Run the checks with one seed after the other until the time is up, and add up the rows."""
    end, seed, total = time.monotonic() + 3600 * options.hours, options.seed, dict[tuple, Row]()
    while True:
        for row in one_run(options, seed):
            merge(total, row)
        failed = sum(not row.passed for row in total.values())
        cases = sum(row.cases for row in total.values())
        print(
            f"seed {seed}: {cases} cases so far, {failed} rows failed", file=sys.stderr, flush=True
        )
        seed += 1
        if time.monotonic() >= end:
            return list(total.values())


def merge(total: dict[tuple, Row], row: Row) -> None:
    known = total.setdefault((row.clause, row.check), row)
    if known is row:
        return
    known.cases += row.cases
    known.rejected += row.rejected
    if ratio(row.worst_error, row.tolerance) > ratio(known.worst_error, known.tolerance):
        known.worst_error, known.tolerance = row.worst_error, row.tolerance
    if known.passed and not row.passed:
        known.passed, known.failure = False, row.failure


def unchecked(rows: Iterable[Row], only: str | None) -> list[Row]:
    """Return a failing row for each clause that no check has covered."""
    seen = {row.clause for row in rows}
    wanted = [only.upper()] if only else [c.id for c in spec.CLAUSES]
    return [
        Row(clause, "none", "none", passed=False, failure="no check")
        for clause in wanted
        if clause not in seen
    ]


def table(rows: list[Row]) -> str:
    """Format the rows as a table, in the ledger's order of clauses."""
    order = {c.id: index for index, c in enumerate(spec.CLAUSES)}
    first = max(len("clause"), *(len(row.clause) for row in rows)) + 2
    width = max(len(row.check) for row in rows) + 2
    lines = [
        f"{'clause':<{first}}{'check':<{width}}{'evidence':<14}{'cases':>7}{'rejected':>10}"
        f"{'worst error':>13}{'tolerance':>11}  verdict"
    ]
    for row in sorted(rows, key=lambda row: order[row.clause]):
        lines.append(
            f"{row.clause:<{first}}{row.check:<{width}}{row.evidence:<14}{row.cases:>7}{row.rejected:>10}"
            f"{row.worst_error:>13.2g}{row.tolerance:>11.2g}  {'ok' if row.passed else 'FAILED'}"
        )
    failed = [row for row in rows if not row.passed]
    clauses = {row.clause for row in rows}
    lines.append(
        f"{len(clauses)} clauses, {len({row.check for row in rows})} checks, "
        f"{sum(row.cases for row in rows)} cases: "
        + (f"{len(failed)} FAILED" if failed else "all passed")
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
