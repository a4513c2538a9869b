"""Mutation testing of the checks: put each fault of mutants.json into a copy of the repository.

The quick verification runs on each copy, or the tests that the fault names, where it is in a part
that verification does not check. A fault that survives shows that a check is missing.

    python -m verification mutants [--whole] [--id ID] [--extra FILE] [--only-extra] [--json FILE]

A fault is {id, file, old, new, clause}, optionally with `tests`, file names separated by spaces;
`old` must occur exactly once in `file`. The exit code is 1 if a fault survives.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tqdm import tqdm

from refsnn import system
from refsnn.files.documents import read_json
from refsnn.files.schema import object_with
from refsnn.ops import validate
from refsnn.process import exit_code

ROOT = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).with_name("mutants.json")
#: a run with a fault counts as endless, and so as killed, after both this many seconds and this
#: many times the time that it takes without a fault on the same busy machine
SECONDS, PATIENCE = 300.0, 6.0
#: with fewer faults than this only the checks of their clauses run without a fault first
FEW = 20
#: tests that run first, and those that run where these do not find the fault
QUICK, SLOW = "not (slow or processes or attack)", "(slow or processes) and not attack"


class Mutant(NamedTuple):
    id: str
    file: str  # from the repository's root
    old: str
    new: str
    clause: str
    tests: str = ""  # the tests that find it; empty: verification does


class FaultError(ValueError):
    """A fault in the list that can't be put into the code, or code that fails without one."""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m verification mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--extra", type=Path, metavar="FILE", help="JSON list of more faults")
    parser.add_argument("--only-extra", action="store_true", help="run only the faults of --extra")
    parser.add_argument(
        "--id", nargs="+", default=[], metavar="ID", help="run only the faults with these ids"
    )
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write {id, clause, killed_by} of each fault"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=os.cpu_count() or 1,
        metavar="N",
        help="faults to run at a time (default: the number of cores)",
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help="run all checks for each fault, even if one of its clause has failed, to fill the "
        "whole matrix",
    )
    return parser


def main(argv: list[str]) -> int:
    parser = build_parser()
    options = parser.parse_args(argv)
    if options.only_extra and options.extra is None:
        parser.error("--only-extra needs --extra FILE")
    try:
        mutants = [] if options.only_extra else read(FAULTS)
        mutants += read(options.extra) if options.extra else []
        require_unique(mutants)
        mutants = chosen(mutants, options.id)
        for mutant in mutants:
            mutated(mutant)
    except (ValueError, OSError) as error:
        print(f"verification: error: {error}", file=sys.stderr)
        return 2
    start = time.monotonic()
    rows: list[dict[str, Any]] = []

    def note(mutant: Mutant, killed_by: list[str]) -> None:
        rows.append({"id": mutant.id, "clause": mutant.clause, "killed_by": killed_by})
        if options.json:  # written after each fault, since a whole run takes long
            options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")

    try:
        results = run_all(mutants, max(options.jobs, 1), options.whole, note)
    except FaultError as error:
        print(f"verification: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        return exit_code(stop)
    print(matrix(mutants, results))
    print(f"in {(time.monotonic() - start) / 60:.0f} min, {options.jobs} at a time")
    return 0 if all(results.values()) else 1


def read(path: Path) -> list[Mutant]:
    """Read the faults of a file; FaultError names the first that is incomplete."""
    texts = {name: {"type": "string"} for name in Mutant._fields}
    optional = {name: texts.pop(name) for name in Mutant._field_defaults}
    rules = {"type": "array", "items": object_with(texts, optional)}
    try:
        found = read_json(path, rules)
    except ValueError as error:
        raise FaultError(str(error)) from None
    return [Mutant(**{n: item[n] for n in Mutant._fields if n in item}) for item in found]


def require_unique(mutants: list[Mutant]) -> None:
    ids = [mutant.id for mutant in mutants]
    if twice := {i for i in ids if ids.count(i) > 1}:
        raise FaultError(f"id: {validate.named(min(twice))} comes twice")


def chosen(mutants: list[Mutant], ids: list[str]) -> list[Mutant]:
    """Return the faults with these ids, in their order in the list, or all where there are none."""
    if unknown := set(ids) - {mutant.id for mutant in mutants}:
        raise FaultError(f"id: no fault {validate.named(min(unknown))}")
    return [mutant for mutant in mutants if not ids or mutant.id in ids]


def mutated(mutant: Mutant) -> str:
    """Return the file's text with the fault in it; FaultError if the file or tests don't fit."""
    name, file = validate.named(mutant.id), validate.named(mutant.file)
    for test in mutant.tests.split():
        if not test.isprintable() or not test.startswith("tests/") or not (ROOT / test).exists():
            raise FaultError(f"{name}: no tests {validate.named(test)} in tests/")
    if not mutant.file.isprintable():
        raise FaultError(f"{name}: no file {file} in refsnn/")
    path = (ROOT / mutant.file).resolve()
    inside = path.is_relative_to(ROOT / "refsnn") and not Path(mutant.file).is_absolute()
    if not path.is_file() or not inside:
        raise FaultError(f"{name}: no file {file} in refsnn/")
    text = path.read_text(encoding="utf-8")
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise FaultError(
            f"{name}: old occurs {text.count(mutant.old)} times in {file}, "
            "want once, and another text as new"
        )
    return text.replace(mutant.old, mutant.new)


class Workshop:
    """A copy of the repository to put faults into.

    Compiled kernels are kept where the fault can't have changed them. Workshops of one machine
    share `seconds`.
    """

    def __init__(self, folder: Path, seconds: dict[str, float] | None = None) -> None:
        self.root, self.cache = folder / "copy", folder / "cache"
        ignore = shutil.ignore_patterns("__pycache__", ".*", "*.egg-info", "runs", "build")
        shutil.copytree(ROOT, self.root, ignore=ignore)
        #: time of the checks, and of each fault's tests, without a fault
        self.seconds = {} if seconds is None else seconds
        self.process: subprocess.Popen[str] | None = None
        self.stopped = False

    def stop(self) -> None:
        """End the command that is running, with all that it has started, and run no more."""
        self.stopped = True
        if self.process is not None:
            system.kill_group(self.process.pid)

    def verify(self, mutant: Mutant, whole: bool = False) -> list[str]:
        """Put the fault into the copy, and return the names of the tests or checks that find it.

        Runs the tests that the fault names, the slow ones last, or else the checks of its clause.
        If none of these checks fails, or with `whole`, runs all checks.
        """
        if mutant.tests:
            with self.fault(mutant) as cache:
                found = self.failing_tests(mutant.tests, cache)
            if not found:
                if tests_key(mutant.tests, SLOW) not in self.seconds:
                    self.require_no_failure(mutant.tests, "", SLOW)
                with self.fault(mutant) as cache:
                    found = self.failing_tests(mutant.tests, cache, SLOW)
            return found
        if not whole:
            with self.fault(mutant) as cache:
                found = self.failing_checks(cache, mutant.clause)
            if found:
                return found
        if "checks" not in self.seconds:
            self.require_no_failure("", "")
        with self.fault(mutant) as cache:
            return self.failing_checks(cache)

    @contextmanager
    def fault(self, mutant: Mutant) -> Iterator[Path]:
        """Put the fault into the copy, and the file back; yield the cache of kernels to use."""
        path = self.root / mutant.file
        original, times = path.read_bytes(), path.stat()
        path.write_text(mutated(mutant), encoding="utf-8")
        own = self.cache
        if "kernels" in mutant.file:
            own = self.cache.with_name("own-cache")
            copy_kernels(self.cache, own, path)
        try:
            yield own
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if own != self.cache:
                shutil.rmtree(own, ignore_errors=True)

    def require_no_failure(self, tests: str, clause: str, marks: str = QUICK) -> None:
        """Run tests, or else checks, without a fault; FaultError names those that fail."""
        failing = (
            self.failing_tests(tests, self.cache, marks)
            if tests
            else self.failing_checks(self.cache, clause)
        )
        if failing:
            raise FaultError(f"without faults these fail: {', '.join(failing)}")

    def failing_checks(self, cache: Path, clause: str = "") -> list[str]:
        """Return the names of the failing checks, or `no start` or `no end`."""
        ledger = self.root / "ledger.json"
        ledger.unlink(missing_ok=True)
        options = ["--quick", "--no-shrink", "--no-peers", "--jobs=1", "--json", str(ledger)]
        options += ["--clause", clause] if clause else []
        name = f"checks of {clause}" if clause else "checks"
        code, _ = self.run(name, ["verification", *options], cache)
        if code is None:
            return ["no end"]
        if not ledger.exists():
            return ["no start"] if code else []
        rows = json.loads(ledger.read_text(encoding="utf-8"))
        return list(dict.fromkeys(row["check"] for row in rows if not row["passed"]))

    def failing_tests(self, tests: str, cache: Path, marks: str = QUICK) -> list[str]:
        """Return the first failing test of these files, or `no start` or `no end`.

        Where no test has these marks, none fails.
        """
        import pytest

        command = ["pytest", "-x", "-q", "-m", marks, "-p", "no:cacheprovider"]
        code, text = self.run(tests_key(tests, marks), command + tests.split(), cache)
        if code is None:
            return ["no end"]
        found = re.search(r"^(?:FAILED|ERROR) (\S+)", text, re.MULTILINE)
        none = code == pytest.ExitCode.NO_TESTS_COLLECTED
        return [] if code == 0 or none else [found[1] if found else "no start"]

    def run(self, name: str, command: list[str], cache: Path) -> tuple[int | None, str]:
        """Run a command; return exit code and output. The code is None if it took too long.

        `name` is the key of its time without a fault in `seconds`; where that isn't known, it is
        that of all checks.
        """
        environment = os.environ | {
            "NUMBA_CACHE_DIR": str(cache),
            "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        known = self.seconds.get(name, self.seconds.get("checks", SECONDS))
        most = max(SECONDS, PATIENCE * known)
        start = time.monotonic()
        self.process = process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **system.APART,
        )
        try:
            if self.stopped:
                return None, ""
            text, _ = process.communicate(timeout=most)
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            system.kill_group(process.pid)  # and whatever it has started
            process.wait()
            self.process = None
        self.seconds.setdefault(name, time.monotonic() - start)
        return process.returncode, text


def tests_key(tests: str, marks: str) -> str:
    """Return the name in `seconds` of the tests of these files that have these marks."""
    return f"{tests}: {marks}"


def copy_kernels(cache: Path, own: Path, changed: Path) -> None:
    """Copy the compiled kernels of all modules except the changed one and its importers."""
    sources = {path.stem: path.read_text(encoding="utf-8") for path in changed.parent.glob("*.py")}
    stale, more = set[str](), {changed.stem}
    while more:
        stale |= more
        pattern = re.compile(rf"^from refsnn\.kernels(\.| import .*\b)({'|'.join(more)})\b", re.M)
        more = {name for name, text in sources.items() if pattern.search(text)} - stale

    def left_out(folder: str, names: list[str]) -> list[str]:
        return [name for name in names if name.split(".")[0] in stale]

    if cache.exists():
        shutil.copytree(cache, own, ignore=left_out)


def run_all(
    mutants: list[Mutant], jobs: int, whole: bool, note: Callable[[Mutant, list[str]], None]
) -> dict[str, list[str]]:
    """Run all faults and return killed_by for each id; FaultError if something fails without any.

    Each result is passed to `note` at once.
    """
    jobs = min(jobs, max(len(mutants), 1))
    by_clause = len(mutants) < FEW and not whole
    before = dict.fromkeys((m.tests, m.clause * (by_clause and not m.tests)) for m in mutants)
    with tempfile.TemporaryDirectory() as name:
        shops: SimpleQueue[Workshop] = SimpleQueue()
        seconds: dict[str, float] = {}
        opened = [Workshop(Path(name) / str(index), seconds) for index in range(jobs)]

        def open_shop(shop: Workshop) -> None:
            if ("", "") in before:
                shop.failing_checks(shop.cache)  # compiles the kernels
            shops.put(shop)

        @contextmanager
        def a_shop() -> Iterator[Workshop]:
            shop = shops.get()
            try:
                yield shop
            finally:
                shops.put(shop)

        def unharmed(what: tuple[str, str]) -> None:
            with a_shop() as shop:
                shop.require_no_failure(*what)

        def verify(mutant: Mutant) -> list[str]:
            with a_shop() as shop:
                try:
                    return shop.verify(mutant, whole)
                except FaultError as error:  # of slow tests, which run without a fault only now
                    tqdm.write(f"{mutant.id} can't be judged: {error}", file=sys.stderr)
                    return []

        with ThreadPoolExecutor(jobs) as pool:
            try:
                list(pool.map(open_shop, opened))
                seconds.clear()  # those of compiling
                list(pool.map(unharmed, before))
                found = pool.map(verify, mutants)
                bar: Any = tqdm(
                    zip(mutants, found, strict=True), total=len(mutants), unit="fault", disable=None
                )
                results = {}
                for mutant, killed_by in bar:
                    results[mutant.id] = killed_by
                    note(mutant, killed_by)
                    if not killed_by:
                        tqdm.write(f"[{mutant.clause}] {mutant.id} SURVIVED", file=sys.stderr)
                return results
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                for shop in opened:
                    shop.stop()
                raise


def matrix(mutants: list[Mutant], results: dict[str, list[str]]) -> str:
    """Format a table with a row per fault and a column per check, whose names are listed below."""
    checks = list(dict.fromkeys(check for killed_by in results.values() for check in killed_by))
    width = max((len(m.id) for m in mutants), default=0)
    clauses = max((len(m.clause) for m in mutants), default=0)
    lines = [
        " " * (width + clauses + 2) + "".join(f"{i % 100:>3}" for i in range(1, len(checks) + 1))
    ]
    for mutant in mutants:
        killed_by = results[mutant.id]
        marks = "".join("  x" if check in killed_by else "  ." for check in checks)
        lines.append(
            f"{mutant.id:<{width}}  {mutant.clause:<{clauses}}{marks}"
            + ("" if killed_by else "  SURVIVED")
        )
    lines += [f"{i:>3} {check}" for i, check in enumerate(checks, 1)]
    killed = sum(bool(killed_by) for killed_by in results.values())
    lines.append(f"{killed} of {len(mutants)} faults killed")
    return "\n".join(lines)
