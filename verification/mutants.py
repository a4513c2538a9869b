"""Proof that the checks bite: each fault of mutants.json is put into a copy of the package, and
the quick verification runs on it. A survivor means a missing check.

    python -m verification mutants [--extra FILE] [--only-extra] [--json FILE]

A fault is {id, file, old, new, clause}; `old` occurs once in `file`. Exit 1 if one survives.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NamedTuple

from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
FAULTS = Path(__file__).with_name("mutants.json")
SECONDS = 300.0  # then the fault is killed as one that never ends


class Mutant(NamedTuple):
    id: str
    file: str  # from the repository's root
    old: str
    new: str
    clause: str


class FaultError(ValueError):
    """A fault that can't be put into the code."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m verification mutants", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--extra", type=Path, metavar="FILE", help="more faults, a JSON list")
    parser.add_argument("--only-extra", action="store_true", help="run those of --extra alone")
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="write {id, clause, killed_by} each"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="faults at a time (default: the number of cores)")  # fmt: skip
    options = parser.parse_args(argv)
    if options.only_extra and options.extra is None:
        parser.error("--only-extra needs --extra FILE")
    try:
        mutants = [] if options.only_extra else read(FAULTS)
        mutants += read(options.extra) if options.extra else []
        require_unique(mutants)
        for mutant in mutants:
            mutated(mutant)
    except (ValueError, OSError) as error:
        print(f"verification: error: {error}", file=sys.stderr)
        return 2
    results = run_all(mutants, max(options.jobs, 1))
    if results is None:
        return 2
    if options.json:
        rows = [
            {"id": m.id, "clause": m.clause, "killed_by": results[m.id]} for m in mutants
        ]  # fmt: skip
        options.json.write_text(json.dumps(rows, indent=2) + "\n")
    print(matrix(mutants, results))
    return 0 if all(results.values()) else 1


def read(path: Path) -> list[Mutant]:
    """The faults of a file; FaultError names the first that isn't whole."""
    try:
        found = json.loads(path.read_text())
    except ValueError as error:  # of the text's encoding too
        raise FaultError(f"{path}: no JSON ({error})") from None
    if not isinstance(found, list):
        raise FaultError(f"{path}: want a list of faults")
    mutants = []
    for index, item in enumerate(found):
        if not isinstance(item, dict) or not set(Mutant._fields) <= set(item):
            raise FaultError(f"{path}: fault {index}: want {', '.join(Mutant._fields)}")
        mutants.append(Mutant(*(str(item[name]) for name in Mutant._fields)))
    return mutants


def require_unique(mutants: list[Mutant]) -> None:
    ids = [mutant.id for mutant in mutants]
    if twice := {i for i in ids if ids.count(i) > 1}:
        raise FaultError(f"id: {min(twice)} comes twice")


def mutated(mutant: Mutant) -> str:
    """The file's text with the fault in it."""
    path = (ROOT / mutant.file).resolve()
    inside = path.is_relative_to(ROOT / "refsnn") and not Path(mutant.file).is_absolute()
    if not path.is_file() or not inside:
        raise FaultError(f"{mutant.id}: no file {mutant.file} in refsnn/")
    text = path.read_text()
    if text.count(mutant.old) != 1 or mutant.old == mutant.new:
        raise FaultError(
            f"{mutant.id}: old occurs {text.count(mutant.old)} times in {mutant.file}, "
            "want once, and another text as new"
        )
    return text.replace(mutant.old, mutant.new)


class Workshop:
    """A copy of the package to put faults into; compiled kernels of the whole files are kept."""

    def __init__(self, folder: Path) -> None:
        self.root, self.cache = folder / "copy", folder / "cache"
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("refsnn", "verification"):
            shutil.copytree(ROOT / name, self.root / name, ignore=ignore)

    def verify(self, mutant: Mutant | None) -> list[str]:
        """The checks that fail with the fault in place."""
        if mutant is None:
            return self.failing(self.cache)
        path = self.root / mutant.file
        original, times = path.read_bytes(), path.stat()
        path.write_text(mutated(mutant))
        try:
            own = self.root / "own-cache" if "kernels" in mutant.file else self.cache
            return self.failing(own)
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            shutil.rmtree(self.root / "own-cache", ignore_errors=True)

    def failing(self, cache: Path) -> list[str]:
        """Names of failing checks; `import` or `time` where they could not even run."""
        ledger = self.root / "ledger.json"
        ledger.unlink(missing_ok=True)
        options = ["--quick", "--no-shrink", "--no-peers", "--jobs=1", "--json", str(ledger)]
        command = [sys.executable, "-m", "verification", *options]
        environment = os.environ | {
            "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(self.root),
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        try:
            done = subprocess.run(
                command, cwd=self.root, env=environment, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return ["time"]
        if not ledger.exists():
            return ["import"] if done.returncode else []
        rows = json.loads(ledger.read_text())
        return list(dict.fromkeys(row["check"] for row in rows if not row["passed"]))


def run_all(mutants: list[Mutant], jobs: int) -> dict[str, list[str]] | None:
    """killed_by for each id; None where the package fails before any fault is put into it."""
    with tempfile.TemporaryDirectory() as name:
        shops: SimpleQueue[Workshop] = SimpleQueue()
        for index in range(jobs):
            shops.put(Workshop(Path(name) / str(index)))

        def verify(mutant: Mutant | None) -> list[str]:
            shop = shops.get()
            try:
                return shop.verify(mutant)
            finally:
                shops.put(shop)

        with ThreadPoolExecutor(jobs) as pool:
            for failing in pool.map(verify, [None] * jobs):
                if failing:
                    print(f"verification: error: without faults these fail: {', '.join(failing)}",
                          file=sys.stderr)  # fmt: skip
                    return None
            found = pool.map(verify, mutants)
            bar: Any = tqdm(zip(mutants, found, strict=True), total=len(mutants), unit="fault",
                            disable=None)  # fmt: skip
            results = {}
            for mutant, killed_by in bar:
                results[mutant.id] = killed_by
                if not killed_by:
                    tqdm.write(f"[{mutant.clause}] {mutant.id} SURVIVED", file=sys.stderr)
            return results


def matrix(mutants: list[Mutant], results: dict[str, list[str]]) -> str:
    """A row a fault, a column a check; the columns are named below."""
    checks = list(dict.fromkeys(check for killed_by in results.values() for check in killed_by))
    width = max((len(m.id) for m in mutants), default=0)
    lines = [" " * (width + 13) + "".join(f"{i % 100:>3}" for i in range(1, len(checks) + 1))]
    for mutant in mutants:
        killed_by = results[mutant.id]
        marks = "".join("  x" if check in killed_by else "  ." for check in checks)
        lines.append(f"{mutant.id:<{width}}  {mutant.clause:<11}{marks}"
                     + ("" if killed_by else "  SURVIVED"))  # fmt: skip
    lines += [f"{i:>3} {check}" for i, check in enumerate(checks, 1)]
    killed = sum(bool(killed_by) for killed_by in results.values())
    lines.append(f"{killed} of {len(mutants)} faults killed")
    return "\n".join(lines)
