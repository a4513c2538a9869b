"""Print the time and the accuracy of `refsnn train`; run it as `python tests/benchmark.py`.

First use is timed with an empty cache of compiled kernels, in a folder of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def train(folder: Path, cache: Path, *options: str) -> tuple[float, float]:
    """Seconds until the first progress line moved, and until the end."""
    start, first = time.monotonic(), 0.0
    process = subprocess.Popen(
        [sys.executable, "-m", "refsnn", "train", "--out", str(folder), *options],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=os.environ | {"NUMBA_CACHE_DIR": str(cache)},
    )
    assert process.stderr is not None
    while chunk := os.read(process.stderr.fileno(), 65536):
        if not first and b"loss=" in chunk:
            first = time.monotonic() - start
    if process.wait() != 0:
        raise SystemExit(f"training failed with exit code {process.returncode}")
    return first, time.monotonic() - start


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        cache = work / "cache"
        first, _ = train(work / "first", cache, "--epochs=1")
        print(f"first use: {first:.1f} s to the first moving progress line")
        first, _ = train(work / "later", cache, "--epochs=1")
        print(f"later:     {first:.1f} s")
        print(f"{'seed':<6}{'test accuracy':<15}{'images/s':<10}seconds")
        for seed in range(3):
            folder = work / f"seed{seed}"
            _, seconds = train(folder, cache, f"--seed={seed}")
            summary = json.loads((folder / "summary.json").read_text())
            print(
                f"{seed:<6}{summary['test_accuracy']:<15.4f}"
                f"{summary['images_per_second']:<10.0f}{seconds:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
