"""Plain text tables."""

from refsnn.bench import report


def test_ratios_stand_beside_the_other_library():
    common = {
        "arch": "resnet8",
        "phase": "train",
        "steps": 4,
        "batch_size": 2,
        "size": 32,
        "density": 0.15,
        "density_range": [0.1, 0.2],
        "first_step_seconds": 7.5,
        "baseline_mib": 50.0,
        "threads": 2,
        "memory": "normal",
    }
    ours = common | {"library": "refsnn", "images_per_second": 30.0, "peak_mib": 100.0}
    theirs = common | {"library": "torch", "images_per_second": 10.0, "peak_mib": 400.0}
    ratio = {
        "library": "torch",
        "images_per_second": 3.0,
        "images_per_second_range": [2.5, 3.25],
        "peak_mib": 0.25,
    }
    title, _, first, second = report.comparison([ours, theirs], [ratio]).splitlines()
    assert "resnet8, train: T = 4, batch 2, 32x32 pixels, 0.150 spikes" in title
    assert first.split() == ["refsnn", "30.0", "7.5", "100", "50", "2"]
    assert second.split() == [
        "torch",
        "10.0",
        "7.5",
        "400",
        "50",
        "2",
        "3.00x",
        "2.50",
        "to",
        "3.25",
        "0.25x",
    ]


def test_a_busy_machine_is_reported():
    machine = {
        "cpu": "c",
        "cores": 2,
        "threads": 2,
        "system": "s",
        "versions": {"python": "3"},
        "gemm_gflops": 1.0,
        "copy_gib_s": 2.0,
        "load": 0.1,
    }
    assert "load" not in report.machine_lines(machine)
    assert "other programs use the cores (load 1.4" in report.machine_lines(machine | {"load": 1.4})
