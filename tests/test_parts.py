"""The option `--part` runs each test in one part, and `slow_after` marks all but the first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def collected(*options):
    """Return how many tests each file of tests/network has with these options."""
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


@pytest.mark.processes
def test_each_test_is_in_one_part():
    whole, parts = collected(), [collected("--part", f"{k}/3") for k in range(3)]
    for name, count in whole.items():
        assert sum(part.get(name, 0) for part in parts) == count
    total = sum(whole.values())
    assert all(total / 6 < sum(part.values()) < total / 2 for part in parts)


@pytest.mark.processes
def test_the_first_parameters_alone_are_quick():
    end_to_end = "-k", "a_run_is_trained_resumed_evaluated_and_exported"
    every, quick, slow = (collected(*end_to_end, "-m", m) for m in ("", "not slow", "slow"))
    assert quick == dict.fromkeys(every, 1)
    assert slow == {name: count - 1 for name, count in every.items()}
