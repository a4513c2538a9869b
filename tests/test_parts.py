"""The option `--part` of the tests runs each of them in one part."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@pytest.mark.processes
def test_each_test_is_in_one_part():
    def collected(*options):
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "--collect-only", "-qq", "tests/network", *options],
            cwd=TESTS.parent,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
            env=os.environ | {"PYTEST_ADDOPTS": ""},
        )
        counts = (line.rpartition(": ") for line in done.stdout.splitlines() if ": " in line)
        return {name: int(count) for name, _, count in counts}

    whole, parts = collected(), [collected("--part", f"{k}/3") for k in range(3)]
    for name, count in whole.items():
        assert sum(part.get(name, 0) for part in parts) == count
    total = sum(whole.values())
    assert all(total / 6 < sum(part.values()) < total / 2 for part in parts)
