"""Folders of unfinished work: which process they belong to, and when they are removed."""

import multiprocessing
import os
import signal

import pytest

from refsnn.files.unfinished import unfinished


def hold(parent, ready, name):
    with unfinished(parent, name) as folder:
        (folder / "part").write_bytes(bytes(1000))
        ready.send(str(folder))
        signal.pause()


@pytest.fixture
def holder(tmp_path):
    """Start a process that works in a folder; return both."""
    context = multiprocessing.get_context("spawn")
    started = []

    def begin(name):
        here, there = context.Pipe()
        process = context.Process(target=hold, args=(tmp_path, there, name))
        process.start()
        started.append(process)
        return process, here.recv()

    yield begin
    for process in started:
        process.kill()
        process.join()


def test_a_folder_is_hidden_and_removed_at_the_end(tmp_path):
    with unfinished(tmp_path, "set") as folder:
        (folder / "a").mkdir()
        assert folder.name.startswith(".set-")
        assert os.listdir(tmp_path) == [folder.name]
    assert not os.listdir(tmp_path)
    with pytest.raises(KeyError), unfinished(tmp_path, "set") as folder:
        raise KeyError
    assert not os.listdir(tmp_path)


@pytest.mark.processes
def test_only_the_remains_of_a_killed_process_are_removed(tmp_path, holder):
    killed, left = holder("set")
    _, living = holder("set")
    killed.kill()
    killed.join()
    others = [
        tmp_path / name for name in (".set-mybackup", ".other-1.unfinished", "set-1.unfinished")
    ]
    for path in others:
        path.mkdir()
    (tmp_path / ".set-file.unfinished").touch()
    (tmp_path / ".set-link.unfinished").symlink_to(others[0])
    with unfinished(tmp_path, "set"):
        assert not os.path.exists(left)
        assert os.path.exists(living)
    assert all(path.is_dir() for path in others)


def test_two_in_one_process_leave_each_other_alone(tmp_path):
    with unfinished(tmp_path, "set") as one, unfinished(tmp_path, "set") as two:
        assert one.is_dir()
        assert two.is_dir()


def test_a_folder_that_is_taken_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    real, made = os.open, []

    def slow(path, *how):
        if not made:
            made.append(path.parent)
            os.rmdir(path.parent)
        return real(path, *how)

    monkeypatch.setattr(os, "open", slow)
    with unfinished(tmp_path, "set") as folder:
        assert folder.is_dir()
    assert made
    assert made != [folder]
