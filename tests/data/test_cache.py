"""The cache: when arrays are made again, by several processes, and after a crash."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refsnn.data import cache
from refsnn.data.cache import cache_folder, mapped


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSNN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "source.bin"
    path.write_bytes(bytes(range(100)))
    return path


class Maker:
    """Fills two arrays, one of them piece by piece, and counts how often."""

    def __init__(self, shape=(40, 3)):
        self.calls, self.shape = 0, shape

    def __call__(self, new):
        self.calls += 1
        frames = new("frames", self.shape, np.uint8)
        for k in range(len(frames)):
            frames[k] = k
        new("labels", (7,), np.int64)[:] = np.arange(7) * 10**12


def the_folder(folder):
    (made,) = folder.iterdir()
    return made


def test_arrays_are_made_once_and_read_only_maps(folder, source):
    make = Maker()
    for _ in range(2):
        arrays = mapped("set", [source], {"steps": 10}, make)
        assert list(arrays) == ["frames", "labels"]
        assert all(isinstance(array, np.memmap) for array in arrays.values())
        assert np.array_equal(arrays["frames"], np.arange(40, dtype=np.uint8)[:, None].repeat(3, 1))
        assert arrays["labels"].tolist() == [k * 10**12 for k in range(7)]
        assert (arrays["frames"].dtype, arrays["labels"].dtype) == (np.uint8, np.int64)
        with pytest.raises(ValueError, match="read-only"):
            arrays["frames"][0] = 1
    assert make.calls == 1
    assert the_folder(folder).name.startswith("set-")


def test_an_array_starts_as_zeros_with_its_space_on_the_disk_reserved(folder, source):
    def make(new):
        array = new("a", (1000, 1000), np.float32)
        assert not array.any()
        (path,) = folder.glob("*/made/a.npy")
        assert path.stat().st_blocks * 512 >= 4_000_000

    assert not mapped("set", [source], {}, make)["a"].any()


def touch(source):
    os.utime(source, ns=(0, source.stat().st_mtime_ns + 1))


def grow(source):
    before = source.stat()
    source.write_bytes(b"more" * 100)
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [touch, grow])
def test_a_source_that_changed_is_read_again(folder, source, change):
    make = Maker()
    mapped("set", [source], {}, make)
    change(source)
    mapped("set", [source], {}, make)
    assert make.calls == 2


def test_other_paths_parameters_names_and_formats_are_kept_apart(folder, source, monkeypatch):
    make = Maker()
    other = source.with_name("other.bin")
    other.write_bytes(source.read_bytes())
    os.utime(other, ns=(0, source.stat().st_mtime_ns))
    for name, sources, made_by in (
        ("set", [source], {"steps": 10, "size": 48}),
        ("set", [other], {"steps": 10, "size": 48}),
        ("set", [source, other], {"steps": 10, "size": 48}),
        ("set", [source], {"steps": 10, "size": 49}),
        ("set", [source], {"steps": 10}),
        ("tes", [source], {"steps": 10, "size": 48}),
    ):
        mapped(name, sources, made_by, make)
    assert make.calls == 6
    mapped("set", [source], {"size": 48, "steps": 10}, make)
    assert make.calls == 6
    monkeypatch.setattr(cache, "FORMAT", cache.FORMAT + 1)
    mapped("set", [source], {"steps": 10, "size": 48}, make)
    assert make.calls == 7


def test_one_file_by_two_paths_is_one_source(folder, source, monkeypatch):
    make = Maker()
    link = source.with_name("link.bin")
    link.symlink_to(source)
    monkeypatch.chdir(source.parent)
    for path in (source, link, Path("source.bin")):
        mapped("set", [path], {}, make)
    assert make.calls == 1


def cut(path):
    os.truncate(path, path.stat().st_size - 1)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("file", ["frames.npy", "labels.npy", cache.CONTENTS])
@pytest.mark.parametrize("damage", [cut, empty, Path.unlink])
def test_a_damaged_cache_is_made_again(folder, source, file, damage):
    make = Maker()
    mapped("set", [source], {}, make)
    damage(the_folder(folder) / file)
    for _ in range(2):
        arrays = mapped("set", [source], {}, make)
        assert arrays["labels"][-1] == 6 * 10**12
        assert arrays["frames"][-1].tolist() == [39] * 3
    assert make.calls == 2
    assert the_folder(folder).is_dir()


def test_a_cache_without_a_list_of_arrays_is_made_again(folder, source):
    make = Maker()
    for count, text in enumerate(("[]", "{}", "5", '["../labels.npy"]', "[" * 10**6, "\0"), 2):
        mapped("set", [source], {}, make)
        (the_folder(folder) / cache.CONTENTS).write_text(text)
        assert len(mapped("set", [source], {}, make)) == 2
        assert make.calls == count


@pytest.mark.parametrize("file", ["frames.npy", cache.CONTENTS])
def test_a_pipe_in_the_cache_is_replaced(folder, source, file):
    make = Maker()
    mapped("set", [source], {}, make)
    path = the_folder(folder) / file
    path.unlink()
    os.mkfifo(path)
    mapped("set", [source], {}, make)
    assert make.calls == 2
    assert path.is_file()


def test_a_cache_whose_list_lacks_an_array_is_made_again(folder, source):
    make = Maker()
    mapped("set", [source], {}, make)
    (the_folder(folder) / "contents.json").write_text('["frames.npy"]')
    assert list(mapped("set", [source], {}, make)) == ["frames", "labels"]
    assert make.calls == 2


@pytest.mark.parametrize("shape", [b"(2L, 3)", b"(8589934592, 8589934592)"])
def test_a_damaged_array_is_made_again_silently(folder, source, shape, recwarn):
    make = Maker()
    mapped("set", [source], {}, make)
    path = the_folder(folder) / "frames.npy"
    content = path.read_bytes()
    was = b"(40, 3), }" + b" " * (len(shape) - 7)
    assert was in content
    path.write_bytes(content.replace(was, shape + b", }", 1)[:-1])
    assert mapped("set", [source], {}, make)["frames"].shape == (40, 3)
    assert make.calls == 2
    assert not recwarn.list


def test_a_killed_process_s_leftovers_are_removed_even_if_the_cache_is_complete(folder, source):
    """It may have been killed after its arrays had their name, and before its damaged ones were
    gone."""
    mapped("set", [source], {}, Maker())
    (folder / ".set-left.unfinished" / "damaged").mkdir(parents=True)
    (folder / ".other-left.unfinished").mkdir()
    mapped("set", [source], {}, Maker())
    assert sorted(path.name.split("-")[0] for path in folder.iterdir()) == [".other", "set"]


def test_an_error_while_making_leaves_nothing(folder, source):
    def make(new):
        Maker()(new)
        raise FileNotFoundError(errno.ENOENT, "gone", "a_source.bin")

    with pytest.raises(FileNotFoundError, match=r"gone: 'a_source\.bin'"):
        mapped("set", [source], {}, make)
    assert not list(folder.iterdir())


PROGRAM = """
import os, sys, time
from pathlib import Path
import numpy as np
from refsnn.data.cache import mapped

def make(new):
    array = new("a", (100, 1000), np.int64)
    print("making", flush=True)
    sys.stdin.readline()
    array[:] = np.arange(1000)

print(mapped("set", [Path(sys.argv[1])], {}, make)["a"].sum(), flush=True)
"""


def start(source):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.processes
def test_two_processes_that_fill_the_cache_at_once_both_succeed(folder, source):
    processes = [start(source) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "making\n"
    for process in processes:
        assert process.communicate("go\n")[0] == f"{100 * 499_500}\n"
        assert process.returncode == 0
    assert the_folder(folder).is_dir()


@pytest.mark.processes
def test_a_killed_process_leaves_nothing_that_looks_complete(folder, source):
    process = start(source)
    assert process.stdout.readline() == "making\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(list(folder.iterdir())) == 1
    other = start(source)
    assert other.stdout.readline() == "making\n"
    (living,) = folder.iterdir()  # what the killed one left is removed
    arrays = mapped("set", [source], {}, lambda new: new("a", (2,), np.int64).fill(5))
    assert arrays["a"].tolist() == [5, 5]
    assert living in folder.iterdir()  # of a process at work
    assert other.communicate("go\n")[0] == f"{100 * 499_500}\n"
    assert not living.exists()
    assert the_folder(folder).name.startswith("set-")


def test_another_process_that_was_first_is_left_alone(folder, source):
    first = []

    def make(new):
        mapped("set", [source], {}, Maker())
        first.extend(path.stat().st_ino for path in folder.glob("set-*"))
        Maker()(new)

    arrays = mapped("set", [source], {}, make)
    assert arrays["labels"][-1] == 6 * 10**12
    assert [the_folder(folder).stat().st_ino] == first


def test_a_cache_that_can_not_be_written_is_named(folder, source):
    folder.write_text("a file")
    with pytest.raises(
        OSError, match=rf"^cache: {folder}/set-\w+ can't be written: .*REFSNN_CACHE"
    ):
        mapped("set", [source], {}, Maker())


def test_a_file_that_exceeds_the_size_limit_is_named(folder, source):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match=r"^cache: .*can't be written: File too large"):
            mapped("set", [source], {}, Maker(shape=(200_000, 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(folder.iterdir())


@pytest.mark.parametrize("call", ["posix_fallocate", "fsync", "rename"])
def test_a_full_disk_is_named_and_leaves_nothing(folder, source, monkeypatch, call):
    real = getattr(os, call)

    def fail(*arguments):
        if call == "rename" and not arguments[1].name.startswith("set-"):
            return real(*arguments)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match=r"^cache: .*/set-\w+ can't be written: No space left"):
        mapped("set", [source], {}, Maker())
    assert not list(folder.iterdir())


def test_files_are_on_the_disk_before_the_folder_has_its_name(folder, source, monkeypatch):
    calls = []
    for name in ("fsync", "rename"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, n=name, r=real: (calls.append(n), r(*a)))
    mapped("set", [source], {}, Maker())
    assert calls[:3] == ["fsync"] * 3  # two arrays and their list
    assert set(calls[3:]) == {"rename"}


def test_a_source_that_is_missing_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.bin"):
        mapped("set", [tmp_path / "none.bin"], {}, Maker())


@pytest.mark.parametrize(
    ("own", "xdg", "wanted"),
    [
        ("/a/b", "/c", "/a/b"),
        ("", "/c", "/c/refsnn"),
        (None, "/c", "/c/refsnn"),
        (None, "", "/home/me/.cache/refsnn"),
        (None, None, "/home/me/.cache/refsnn"),
    ],
)
def test_the_environment_determines_the_cache_folder(monkeypatch, own, xdg, wanted):
    monkeypatch.setenv("HOME", "/home/me")
    for name, value in (("REFSNN_CACHE", own), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(wanted)


def test_a_user_without_a_home_is_told_to_set_the_folder(monkeypatch):
    for name in ("REFSNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as where there is none
    with pytest.raises(
        ValueError, match=r"^cache: got a user without a home folder, .* REFSNN_CACHE$"
    ):
        cache.cache_folder()
