"""The description of the machine."""

import platform

import numpy as np
import pytest

from refsnn.bench import machine, peaks
from refsnn.bench.worker import peak_mib
from refsnn.kernels.threads import share

PEAKS = {"gemm_gflops": 100.0, "copy_gib_s": 10.0, "threads": 2}


def test_it_names_processor_cores_and_versions():
    found = machine.describe_machine(PEAKS, 0.25)
    assert found["cpu"]
    assert found["cores"] >= 1
    assert (found["threads"], found["load"]) == (2, 0.25)
    assert found["versions"]["python"] == platform.python_version()
    assert found["versions"]["numpy"] == np.__version__
    assert "numba" in found["versions"]
    assert (found["gemm_gflops"], found["copy_gib_s"]) == (100.0, 10.0)


def test_packages_that_are_missing_are_left_out(monkeypatch):
    monkeypatch.setattr(machine, "PACKAGES", ("numpy", "no-such-package"))
    assert list(machine.versions()) == ["numpy"]


def test_a_processor_without_a_name(monkeypatch):
    monkeypatch.setattr(machine.Path, "read_text", lambda path, **how: "processor : 0\n")
    assert machine.cpu_model()


@pytest.mark.slow
def test_the_copy_that_is_timed_copies_every_element():
    x, y = np.arange(3 * peaks.CHUNK, dtype=np.float32), np.zeros(3 * peaks.CHUNK, np.float32)
    share(peaks.copy, 3, x, y)
    np.testing.assert_array_equal(x, y)


def test_memory_that_was_used_stays_counted():
    before = peak_mib()
    block = np.ones(int((before + 64) * 2**20) // 8)
    assert peak_mib() >= block.nbytes / 2**20
    del block
    assert peak_mib() > before + 32
