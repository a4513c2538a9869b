"""Two processes never train one run."""

import os
import subprocess
import sys
import time

import pytest

from refsnn.cli import main
from refsnn.training import lock as lock_module
from refsnn.training import run as run_module
from refsnn.training.config import make_config
from refsnn.training.lock import Locked, lock, unlock
from refsnn.training.run import resume, start
from refsnn.training.trainer import Interrupted

CONFIG = make_config(arch="1-1:4-8", epochs=1, batch_size=160, ops="numpy")


@pytest.fixture
def other(tmp_path):
    """A process that trains into tmp_path / "run"."""
    options = ["--arch=1-1:4-8", "--ops=numpy", "--epochs=1000"]
    running = subprocess.Popen(
        [sys.executable, "-m", "refsnn", "train", "--out", tmp_path / "run", *options],
        stderr=subprocess.DEVNULL,
    )
    while not (tmp_path / "run" / "checkpoint.npz").exists():
        time.sleep(0.01)
    yield running
    running.kill()
    running.wait()


def test_a_second_comer_is_refused_in_a_line(other, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "--resume", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"refsnn: error: {folder}: another process is at work on this run"
    other.kill()
    other.wait()
    assert (folder / ".lock").exists()
    resume(folder)  # what the dead held is free


def test_a_run_is_held_from_start_to_end_of_training(tmp_path):
    run = start(tmp_path, CONFIG)
    with pytest.raises(Locked):
        resume(tmp_path)
    with pytest.raises(Interrupted):
        run.train(lambda: True, quiet=True)
    again = resume(tmp_path)
    with pytest.raises(Locked):
        resume(tmp_path)
    again.train(quiet=True)
    assert {path.name for path in tmp_path.iterdir()} == {
        "config.json",
        "checkpoint.npz",
        "metrics.jsonl",
    }


def test_a_run_that_cannot_be_resumed_is_not_held(tmp_path):
    start(tmp_path, CONFIG)
    (tmp_path / "checkpoint.npz").write_bytes(b"damaged")
    for _ in range(2):
        with pytest.raises(run_module.CheckpointError):
            resume(tmp_path)


def test_who_comes_between_looking_and_locking_does_not_start_it_again(tmp_path, monkeypatch):
    """Both found the folder empty; the other began and was interrupted."""
    held = []

    def other_first(folder):
        monkeypatch.setattr(run_module, "lock", lock)
        with pytest.raises(Interrupted):
            start(folder, CONFIG).train(lambda: True, quiet=True)
        held.append((folder / "checkpoint.npz").read_bytes())
        return lock(folder)

    monkeypatch.setattr(run_module, "lock", other_first)
    with pytest.raises(ValueError, match=r"holds a config\.json already"):
        start(tmp_path, CONFIG)
    assert (tmp_path / "checkpoint.npz").read_bytes() == held[0]


def test_a_lock_file_that_was_just_removed_is_no_lock(tmp_path, monkeypatch):
    """The holder removed it between our opening and our locking of it."""
    real, calls = lock_module.lock_descriptor, []

    def late(file, **how):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(file)
        return real(file, **how)

    monkeypatch.setattr(lock_module, "lock_descriptor", late)
    file = lock(tmp_path)
    assert len(calls) == 2
    assert os.path.samestat(os.fstat(file), os.stat(tmp_path / ".lock"))
    with pytest.raises(Locked):
        lock(tmp_path)
    unlock(tmp_path, file)
    assert not list(tmp_path.iterdir())
