"""The campaign: damaged files for every reader, in processes that are watched.

    python tests/attack/campaign.py replay READER SEED INDEX

reads one input again and shows what happens.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from attacker import END, HERE, ROOT, Attack, Failure, begin, readers_of

STUCK = 60.0  # seconds without a sign, after which a process is killed
POLL = 0.1


class Process:
    """One of `jobs`, which goes on after the input that killed the one before."""

    def __init__(
        self, folder: Path, table: str, seed: int, total: int, part: int, jobs: int
    ) -> None:
        self.folder, self.seed, self.part = folder, seed, part
        self.arguments = [str(folder), table, *map(str, (seed, total, part, jobs))]
        self.at, self.since, self.after = "", time.monotonic(), ""
        self.begin()

    def begin(self) -> None:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "HOME": str(self.folder / "home"),
            "MPLCONFIGDIR": str(self.folder / "matplotlib"),
            "OPENBLAS_NUM_THREADS": "1",
            "NUMBA_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
        }
        with open(self.file("found"), "a") as found, open(self.file("errors"), "a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / "attacker.py"), *self.arguments, self.after],
                env=environment,
                stdout=found,
                stderr=errors,
                stdin=subprocess.DEVNULL,
            )

    def file(self, name: str) -> Path:
        return self.folder / f"{name}-{self.part}"

    def look(self) -> list[Failure] | None:
        """Failures of the process itself since the last look; None when it is through."""
        sign = self.file("sign")
        now = sign.read_text().strip() if sign.exists() else ""
        if now != self.at:
            self.at, self.since = now, time.monotonic()
        stuck = time.monotonic() - self.since > STUCK
        if stuck:
            self.process.kill()
        elif self.process.poll() is None:
            return []
        code = self.process.wait()
        if code == 0 and now == END:
            return None
        errors = self.file("errors").read_text()[-400:]
        if now == self.after:  # it did not get anywhere
            raise RuntimeError(errors)
        self.after, self.since = now, time.monotonic()
        self.begin()
        name, _, index = now.rpartition("/")
        what = f"no answer in {STUCK:g} s" if stuck else f"the process ends with {code}"
        return [Failure(name, self.seed, int(index), what, errors)]


def campaign(
    folder: Path, seed: int, total: int, jobs: int, table: str = "readers"
) -> list[Failure]:
    """Read so many damaged files, by the readers of a module, and return all failures."""
    failures = []
    running = [Process(folder, table, seed, total, part, jobs) for part in range(jobs)]
    try:
        while running:
            time.sleep(POLL)
            for process in list(running):
                found = process.look()
                failures += found or []
                if found is None:
                    running.remove(process)
    finally:
        for process in running:
            process.process.kill()
            process.process.wait()
    for part in range(jobs):
        lines = (folder / f"found-{part}").read_text().splitlines()
        failures += [Failure(*json.loads(line)) for line in lines]
    return failures


def grouped(failures: list[Failure]) -> str:
    """One example of each kind, and how many there are."""
    groups: dict[tuple[str, str], list[Failure]] = {}
    for failure in failures:
        groups.setdefault((failure.reader, failure.what), []).append(failure)
    lines = []
    for group in groups.values():
        name, seed, index, what, detail, saved = group[0]
        lines.append(f"[{len(group)}] {name}: {what}: {detail}\n    {saved}")
        lines.append(f"    replay: python tests/attack/campaign.py replay {name!r} {seed} {index}")
    return "\n".join(lines)


def replay(name: str, seed: int, index: int) -> int:
    with tempfile.TemporaryDirectory() as folder:
        attack = Attack(Path(folder), name, readers_of("readers")[name], seed, begin(Path(folder)))
        attack.write(index)
        try:
            answer: Any = attack.reader.read(attack.path)
            print(f"read: {str(answer)[:1000]}")
        except BaseException:
            traceback.print_exc()
        found = attack.failures(index)
    print(grouped(found) or "no failure")
    return int(bool(found))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(replay(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
