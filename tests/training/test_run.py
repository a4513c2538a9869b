"""Runs: resuming, killing and thread counts change no bit; what the folder holds."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from refsnn.files.writing import write_json
from refsnn.training import checkpoint, plot, trainer
from refsnn.training import run as run_module
from refsnn.training.checkpoint import CheckpointError
from refsnn.training.config import make_config
from refsnn.training.evaluate import evaluate_run
from refsnn.training.folder import read_metrics
from refsnn.training.monitor import Diverged
from refsnn.training.run import Run, resume, start
from refsnn.training.trainer import Interrupted

SMALL = {"arch": "1-1:4-8", "epochs": 3, "batch_size": 160, "ops": "numpy"}


def small(**settings):
    return make_config(**SMALL | settings)


def content(folder):
    """The checkpoint's bytes, and the records without the clock's."""
    timing = {"seconds", "images_per_second", "images"}
    rows = [{k: v for k, v in row.items() if k not in timing} for row in read_metrics(folder)]
    return (folder / "checkpoint.npz").read_bytes(), rows


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    start(folder, small()).train(quiet=True)
    return folder


def test_an_epoch_is_a_row_and_lambda_ends_at_zero(uninterrupted):
    rows = read_metrics(uninterrupted)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[-1]["lambda"] == 0.0
    assert rows[0]["lambda"] == 0.25 * (1 - 10 / 30)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert [row["images"] for row in rows] == [1442 - 160, 1442, 1442]  # the first step compiles
    for row in rows:
        assert row["first_layer_gradient_norm"] > 0
        assert len(row["firing_rate"]) == 5
        assert all(0 <= rate <= 1 for rate in row["firing_rate"].values())


def test_the_summary_which_makes_a_run_finished_comes_last(uninterrupted, tmp_path, monkeypatch):
    """An ablation does not look at a finished run again."""
    shutil.copytree(uninterrupted, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink(missing_ok=True)

    def killed(rows, config):
        raise KeyboardInterrupt

    monkeypatch.setattr(plot, "draw_curves", killed)
    with pytest.raises(KeyboardInterrupt):
        resume(tmp_path / "run").summarize()
    assert not (tmp_path / "run" / "summary.json").exists()


def test_the_summary_and_the_curves(uninterrupted):
    summary = resume(uninterrupted).summarize()
    assert summary == json.loads((uninterrupted / "summary.json").read_text())
    wanted = {
        "method": "evolutionary",
        "arch": "1-1:4-8",
        "time_steps": 2,
        "seed": 0,
        "lambda_last": 0.0,
    }
    assert summary | wanted == summary
    assert summary["test_accuracy"] == read_metrics(uninterrupted)[-1]["test_accuracy"]
    assert summary["images_per_second"] > 0
    with Image.open(uninterrupted / "curves.png") as image:
        assert image.format == "PNG"


def test_the_speed_is_that_of_compiled_steps(tmp_path, monkeypatch):
    """The first step of a process counts only where its epoch has no other."""
    now, taken, step = [0.0], [], trainer.train_step

    def slow_at_first(*arguments):
        now[0] += 1 if taken else 100
        taken.append(arguments)
        return step(*arguments)

    monkeypatch.setattr(trainer, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(trainer, "train_step", slow_at_first)
    start(tmp_path / "run", small(epochs=1)).train(quiet=True)
    (row,) = read_metrics(tmp_path / "run")
    assert (row["images"], row["seconds"]) == (1442 - 160, len(taken) - 1)
    taken.clear()
    start(tmp_path / "one", small(epochs=1, batch_size=1442)).train(quiet=True)
    (row,) = read_metrics(tmp_path / "one")
    assert (row["images"], row["seconds"]) == (1442, 100)


@pytest.mark.parametrize("after", [1, 10, 13, 29])
@pytest.mark.slow_after(2)
def test_a_run_stopped_after_any_iteration_resumes_to_the_same_bits(after, uninterrupted, tmp_path):
    run = start(tmp_path / "run", small())
    with pytest.raises(Interrupted):
        run.train(lambda: run.state.iteration >= after, quiet=True)
    again = resume(tmp_path / "run")
    assert again.state.iteration == after
    again.train(quiet=True)
    assert content(tmp_path / "run") == content(uninterrupted)


def test_resuming_a_finished_run_changes_nothing(uninterrupted):
    before = content(uninterrupted)
    resume(uninterrupted).train(quiet=True)
    assert content(uninterrupted) == before


def test_records_beyond_the_checkpoint_and_half_lines_are_dropped(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    run = start(folder, small())
    with pytest.raises(Interrupted):
        run.train(lambda: run.state.iteration >= 15, quiet=True)
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(
            json.dumps(read_metrics(folder)[0] | {"epoch": 2, "loss": 0}) + '\n{"epoch": 3, "lo'
        )
    resume(folder).train(quiet=True)
    assert content(folder) == content(uninterrupted)


def test_long_epochs_are_checkpointed_within(monkeypatch, tmp_path):
    monkeypatch.setattr(trainer, "CHECKPOINT_SECONDS", 0.0)
    seen = []
    monkeypatch.setattr(Run, "save", lambda self: seen.append(self.state.iteration))
    start(tmp_path / "run", small(epochs=1)).train(quiet=True)
    assert seen == list(range(11))  # the start, then every iteration


def test_a_run_whose_test_loss_overflows_has_diverged(tmp_path):
    """The last update leaves finite parameters whose currents overflow."""
    folder = tmp_path / "run"
    with pytest.raises(Diverged, match=r"^epoch 1: test loss (nan|inf)$"):
        start(folder, small(epochs=1, batch_size=2000, lr=1e38)).train(quiet=True)
    assert checkpoint.load(folder / "checkpoint.npz")[0].iteration == 0


def test_a_run_whose_losses_have_no_finite_sum_has_diverged(tmp_path):
    folder, given = tmp_path / "run", {"method": "shortcut", "branch_sum": "losses"}
    given |= {"dtype": "float64", "shortcut_weight": 1e305, "optimizer": "sgd", "lr": 1e-307}
    with pytest.raises(Diverged, match=r"^iteration \d: sum over the epoch: loss inf$"):
        start(folder, small(epochs=1, momentum=0.0, **given)).train(quiet=True)
    assert resume(folder).state.sums == {}


def test_methods_share_the_main_path_and_the_batches(tmp_path):
    runs = [start(tmp_path / m, small(method=m)) for m in ("vanilla", "shortcut", "evolutionary")]
    first, *others = [run.state for run in runs]
    for other in others:
        assert all((first.params[name] == other.params[name]).all() for name in first.params)
        assert first.rng.bit_generator.state == other.rng.bit_generator.state
    assert len(first.params) < len(others[0].params)


def command(folder, *options):
    """The small run as a process of its own."""
    settings = [f"--{k.replace('_', '-')}={v}" for k, v in SMALL.items()]
    return [sys.executable, "-m", "refsnn", "train", "--out", str(folder), *settings, *options]


@pytest.mark.processes
@pytest.mark.parametrize("ops", ["numba", "numpy"])
def test_the_number_of_threads_changes_no_bit(ops, tmp_path):
    for threads in ("1", "2"):
        limits = {"NUMBA_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        subprocess.run(
            command(tmp_path / threads, f"--ops={ops}", "--epochs=1"),
            env=os.environ | limits,
            check=True,
            capture_output=True,
        )
    assert content(tmp_path / "1") == content(tmp_path / "2")


@pytest.mark.slow
@pytest.mark.processes
def test_sigkill_at_random_moments_changes_no_bit(tmp_path):
    """Kill, resume, kill again … until the run gets through."""
    options = ["--epochs=6", "--batch-size=40"]
    subprocess.run(command(tmp_path / "whole", *options), check=True, capture_output=True)
    folder, rng = tmp_path / "killed", random.Random(0)
    process = subprocess.Popen(command(folder, *options), stderr=subprocess.DEVNULL)
    while not (folder / "checkpoint.npz").exists():  # from here on there is a run to resume
        time.sleep(0.01)
    kills = 0
    while True:
        try:
            process.wait(timeout=rng.uniform(0.1, 1.5) if kills < 6 else 120)
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            assert kills < 8, "the run does not get through"
            process = subprocess.Popen(
                [sys.executable, "-m", "refsnn", "train", "--resume", str(folder)],
                stderr=subprocess.DEVNULL,
            )
    assert process.returncode == 0
    assert kills > 0
    assert content(folder) == content(tmp_path / "whole")
    assert (folder / "summary.json").exists()
    assert not list(folder.glob(".*"))  # no half-written file


def test_a_checkpoint_of_a_setting_that_would_fill_the_screen_is_refused(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted, tmp_path / "run")
    path = tmp_path / "run" / "checkpoint.npz"
    state, settings = checkpoint.load(path)
    checkpoint.save(path, state, settings | {"data_dir": "x" * 9999})
    with pytest.raises(
        CheckpointError, match=r"made with data_dir 'x{76}\.\.\., config\.json says ''"
    ):
        resume(tmp_path / "run")


def test_a_checkpoint_of_another_architecture_is_refused(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    start(folder, small(arch="1-1:4-16"))
    (folder / "checkpoint.npz").write_bytes((uninterrupted / "checkpoint.npz").read_bytes())
    with pytest.raises(CheckpointError, match="made with arch '1-1:4-8'"):
        resume(folder)


def test_a_run_of_a_version_with_fewer_settings_goes_on(tmp_path):
    folder = tmp_path / "run"
    run = start(folder, small(epochs=1))
    old = {k: v for k, v in run.config.to_dict().items() if k != "any_range"}
    write_json(folder / "config.json", old)
    checkpoint.save(folder / "checkpoint.npz", run.state, old)
    run.unlock()
    assert resume(folder).config == run.config
    write_json(folder / "config.json", old | {"any_range": True})
    with pytest.raises(CheckpointError, match=r"made with any_range False, config\.json says True"):
        resume(folder)


def test_a_run_of_the_first_version_goes_on_by_the_names_of_today(tmp_path):
    folder = tmp_path / "run"
    run = start(folder, small(epochs=1, reset_gradient="detached", decay_on="weights"))
    values = run.config.to_dict()
    for name in ("reset_gradient", "surrogate_edge", "branch_sum", "decay_on"):
        del values[name]
    old = {"detach_reset": True, "surrogate_edge": False, "sum_of": "logits", "decay_all": False}
    write_json(folder / "config.json", values | old)
    checkpoint.save(folder / "checkpoint.npz", run.state, values | old)
    run.unlock()
    assert resume(folder).config == run.config
    write_json(folder / "config.json", values | old | {"detach_reset": False})
    with pytest.raises(CheckpointError, match="made with reset_gradient 'detached', config"):
        resume(folder)


def test_a_folder_with_a_run_is_not_overwritten(uninterrupted):
    before = content(uninterrupted)
    with pytest.raises(ValueError, match=r"holds a config\.json already"):
        start(uninterrupted, small())
    assert content(uninterrupted) == before


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("field", ["images", "labels"])
def test_a_run_is_not_resumed_on_other_data(part, field, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run = start(folder, small())
    with pytest.raises(Interrupted):
        run.train(lambda: True, quiet=True)
    split = getattr(run.dataset, part)
    other = replace(run.dataset, **{part: replace(split, **{field: getattr(split, field)[::-1]})})
    monkeypatch.setattr(run_module, "load", lambda *_: other)
    with pytest.raises(CheckpointError, match="digits is not the data that it began with"):
        resume(folder)


def test_a_run_whose_checkpoint_is_gone_does_not_start_again(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    start(folder, small())
    resume(folder)  # nothing was computed yet
    (folder / "metrics.jsonl").write_bytes((uninterrupted / "metrics.jsonl").read_bytes())
    with pytest.raises(CheckpointError, match=r"checkpoint\.npz is missing"):
        resume(folder)


def test_a_run_that_began_before_units_were_checked_goes_on(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    images, path = rng.random((12, 8, 8)), tmp_path / "d.npz"
    labels = np.arange(12) % 2
    np.savez(
        path, train_images=images, train_labels=labels, test_images=255 * images, test_labels=labels
    )
    config = small(dataset=str(path), arch="1:2", epochs=2, batch_size=4)
    with pytest.raises(ValueError, match="in one unit"):
        start(tmp_path / "new", config)
    monkeypatch.setattr("refsnn.data.arrays.check_same_range", lambda *_: "")
    run = start(tmp_path / "old", config)
    with pytest.raises(Interrupted):
        run.train(lambda: run.state.iteration >= 1, quiet=True)
    monkeypatch.undo()
    resume(tmp_path / "old").train(quiet=True)
    assert evaluate_run(tmp_path / "old")[0]["images"] == 12
