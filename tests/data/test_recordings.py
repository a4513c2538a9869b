"""Recordings in each format, made byte by byte, and data sets in class folders."""

import io
import os
import pickle
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from refsnn.data import parallel
from refsnn.data.events import events_to_frames, resize_nearest
from refsnn.data.recordings import (
    CIFAR10,
    READERS,
    cifar10dvs,
    frames_of,
    make_frames,
    nmnist,
    read_recording,
    recordings_of,
)

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))
NMNIST = SHARED / "nmnist_small"

#: t, x, y, polarity, in pixels of a picture; in order, with a tie
SEEN = [(0, 3, 5, 1), (7, 0, 127, 0), (7, 127, 0, 1), (4000, 64, 1, 0)]


def rows(events):
    return list(zip(*(values.tolist() for values in events), strict=True))


def atis(events):
    """N-MNIST's 40 bits an event."""
    return b"".join(
        struct.pack(">BBBH", x, y, p << 7 | t >> 16, t & 0xFFFF) for t, x, y, p in events
    )


def aedat(events):
    """AEDAT 2.0 of the DVS128."""
    pairs = (struct.pack(">II", 127 - y << 8 | 127 - x << 1 | 1 - p, t) for t, x, y, p in events)
    return b"#!AER-DAT2.0\r\n" + b"".join(pairs)


def matrix(events, columns=6, off=-1.0):
    """Make what dat2mat.m returns: y from below, polarity 1 or -1; 2 unused columns of 6."""
    unused = [0.0, -1.0] * (columns == 6)
    return np.array([[t, *unused, x, 127 - y, 1 if p else off] for t, x, y, p in events], float)


def mat5(variables, compressed=False):
    out = io.BytesIO()
    savemat(out, variables, do_compression=compressed)
    return out.getvalue()


def npz(**arrays):
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def columns(events, dtype=np.int64):
    return dict(zip("txyp", np.array(events, dtype).T, strict=True))


@pytest.fixture
def read(tmp_path):
    def of(content, suffix):
        (tmp_path / f"a{suffix}").write_bytes(content)
        return read_recording(tmp_path / f"a{suffix}")

    return of


FORMATS = {
    "bin": (atis(SEEN), ".bin"),
    "aedat": (aedat(SEEN), ".aedat"),
    "mat": (mat5({"out1": matrix(SEEN)}), ".mat"),
    "compressed mat": (mat5({"out1": matrix(SEEN)}, compressed=True), ".mat"),
    "mat of four columns": (mat5({"out1": matrix(SEEN, 4)}), ".mat"),
    "mat of integers": (mat5({"out1": matrix(SEEN, 4, off=0).astype(np.uint32)}), ".mat"),
    "mat by another name": (mat5({"res": matrix(SEEN)}), ".mat"),
    "mat with more in it": (mat5({"a": np.ones(3), "out1": matrix(SEEN)}), ".mat"),
    "npz": (npz(**columns(SEEN)), ".npz"),
    "npz of unsigned": (npz(**columns(SEEN, np.uint16), more=np.ones(1)), ".npz"),
    "suffix in capitals": (atis(SEEN), ".BIN"),
}


@pytest.mark.parametrize(("content", "suffix"), FORMATS.values(), ids=FORMATS)
def test_one_recording_is_the_same_in_every_format(read, content, suffix):
    events = read(content, suffix)
    assert rows(events) == SEEN
    assert [values.dtype for values in events] == [np.int64, np.int16, np.int16, np.int16]


@pytest.mark.parametrize(
    "make", [atis, lambda e: npz(**columns(e)), lambda e: mat5({"out1": matrix(e)})]
)
def test_events_out_of_order_are_sorted_and_ties_keep_their_order(read, make):
    mixed = [SEEN[3], SEEN[1], SEEN[0], SEEN[2]]
    suffix = {b"P": ".npz", b"M": ".mat"}.get(make(SEEN)[:1], ".bin")
    assert rows(read(make(mixed), suffix)) == SEEN


def test_the_fields_of_forty_bits(read):
    """0xff81234f: y 255; ON; 0x01234f microseconds."""
    assert rows(read(bytes.fromhex("07ff81234f"), ".bin")) == [(0x1234F, 7, 255, 1)]
    assert rows(read(bytes.fromhex("00007fffff"), ".bin")) == [(2**23 - 1, 0, 0, 0)]


def test_a_row_of_240_is_an_overflow_of_the_counter(read):
    marker = (9, 0, 240, 1)
    events = read(atis([(5, 1, 2, 1), marker, (6, 3, 4, 0), marker, marker, (7, 5, 6, 1)]), ".bin")
    assert rows(events) == [(5, 1, 2, 1), (6 + 8192, 3, 4, 0), (7 + 3 * 8192, 5, 6, 1)]
    with pytest.raises(ValueError, match=r"a\.bin: got no events"):
        read(atis([marker]), ".bin")


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_bin_that_is_cut_is_named(read, cut):
    with pytest.raises(ValueError, match=rf"a\.bin: byte 15: .* has {5 - cut} bytes, want 5$"):
        read(atis(SEEN)[:-cut], ".bin")


BAD = {
    "no MATLAB file": (b"", "got no MATLAB header"),
    "a file that is cut": (mat5({"out1": matrix(SEEN)})[:-3], "got 237 bytes of an element, want"),
    "struct": (mat5({"out1": {"x": np.ones(3)}}), "out1: got struct, want numbers"),
    "five columns": (mat5({"out1": np.ones((3, 5))}), r"out1: got \(3, 5\), want numbers"),
    "three dimensions": (mat5({"out1": np.ones((3, 4, 4))}), r"out1: got \(3, 4, 4\)"),
    "two by other names": (mat5({"a": matrix(SEEN), "b": 1}), "got the variables a, b, want out1"),
    "a name of two lines": (
        mat5({"ab": matrix(SEEN, columns=4)[:, :3]}).replace(b"ab", b"a\n"),
        r"'a\\n': got \(4, 3\), want numbers",
    ),
    "many": (
        mat5({f"variable{k:03}": 1 for k in range(99)}),
        r"got the variables variable000, variable001, (?!.*variable009).*, want out1$",
    ),
    "none": (mat5({}), "got the variables none, want out1"),
    "no rows": (mat5({"out1": np.ones((0, 6))}), "got no events"),
    "half a pixel": (mat5({"out1": matrix(SEEN) + 0.5}), "out1: want whole numbers"),
    "half a microsecond": (
        mat5({"out1": matrix([(10**6 + 0.5, 3, 5, 1)])}),
        "out1: want whole numbers",
    ),
    "NaN": (mat5({"out1": matrix(SEEN) * np.nan}), "out1: want whole numbers"),
    "infinity": (mat5({"out1": matrix(SEEN) * 1e300}), "out1: want whole numbers"),
    "rows from 1": (mat5({"out1": matrix([(0, 0, -1, 1)])}), "y: want values from 0 to 127"),
    "polarity 2": (mat5({"out1": matrix(SEEN, off=2)}), "polarity: got 1 to 2, want 0 to 1"),
    "polarity -2": (mat5({"out1": matrix(SEEN, off=-2)}), "polarity: got -2 to 1, want 0 to 1"),
    "time below 0": (mat5({"out1": matrix([(-1, 0, 0, 1)])}), "t: got -1 to -1, want 0 to"),
}


@pytest.mark.parametrize(("content", "message"), BAD.values(), ids=BAD)
def test_an_invalid_matrix_of_events_is_named(read, content, message):
    with pytest.raises(ValueError, match=rf"^\S+a\.mat: {message}"):
        read(content, ".mat")


class Hostile:
    def __reduce__(self):
        return (os._exit, (3,))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no .npz file"),
        (npz(**columns(SEEN))[:-30], "is no .npz file"),
        (pickle.dumps(Hostile()), "is no .npz file"),
        (
            npz(**columns(SEEN) | {"t": np.array([Hostile()], object)}),
            "t: got dtype object, want numbers",
        ),
        (npz(**{k: v for k, v in columns(SEEN).items() if k != "x"}), "x is missing, want t, x, y"),
        (npz(**columns(SEEN, float)), r"t: got float64 \(4,\), want integers \(n,\)"),
        (npz(**columns(SEEN) | {"p": np.ones(4, bool)}), r"p: got bool \(4,\), want integers"),
        (npz(**columns(SEEN) | {"y": np.arange(3)}), r"y: got int64 \(3,\), want integers"),
        (npz(**columns(SEEN) | {"t": np.array(3)}), r"t: got int64 \(\), want integers"),
        (npz(**columns(SEEN) | {"t": np.ones((4, 2), int)}), r"t: got int64 \(4, 2\)"),
        (npz(**columns(SEEN) | {"x": -np.arange(4)}), "x: got -3 to 0, want 0 to 32767"),
        (npz(**columns(SEEN) | {"y": np.arange(4) * 20000}), "y: got 0 to 60000, want 0 to 32767"),
        (npz(**columns(SEEN) | {"t": np.full(4, 2**63, np.uint64)}), "t: got 9223372036854775808"),
        (npz(**{name: np.zeros(0, int) for name in "txyp"}), "got no events"),
    ],
)
def test_invalid_arrays_of_events_are_named(read, content, message):
    with pytest.raises(ValueError, match=rf"^\S+a\.npz: {message}"):
        read(content, ".npz")


@pytest.mark.parametrize(("suffix", "got"), [(".aedat4", ".aedat4"), ("", "no suffix")])
def test_other_formats_are_refused_by_name(read, suffix, got):
    with pytest.raises(ValueError, match=rf"a{suffix}: got {got}, want .aedat, .bin, .mat, .npz$"):
        read(aedat(SEEN), suffix)


@pytest.mark.parametrize("suffix", [".aedat", ".bin", ".mat", ".npz"])
def test_a_missing_file_is_named(tmp_path, suffix):
    with pytest.raises(OSError, match=f"nothing{suffix}"):
        read_recording(tmp_path / f"nothing{suffix}")


def fill(folder, classes, count, name="{k}.bin", make=None):
    """A data set's folder; recording k of a class has k + 1 events at column k."""
    make = make or (lambda k: atis([(t * t, k, 2, 1) for t in range(k + 1)]))
    for label in classes:
        (folder / label).mkdir(parents=True)
        for k in reversed(range(count)):
            (folder / label / name.format(label=label, k=k)).write_bytes(make(k))
    return folder


@pytest.mark.parametrize("suffix", [".aedat", ".bin", ".mat", ".npz"])
def test_a_pipe_and_an_endless_file_are_refused_at_once(tmp_path, suffix):
    os.mkfifo(tmp_path / f"pipe{suffix}")
    (tmp_path / f"zero{suffix}").symlink_to("/dev/zero")
    with open(tmp_path / f"huge{suffix}", "wb") as file:
        file.truncate(1 << 42)
    for name, text in (("pipe", "is no reg"), ("zero", "is no reg"), ("huge", "got 4398046511104")):
        path = tmp_path / f"{name}{suffix}"
        with pytest.raises(ValueError, match=rf"^{path}: {text}"):
            read_recording(path)


@pytest.mark.parametrize("suffix", [".aedat", ".bin", ".mat", ".npz"])
def test_a_file_that_wants_more_memory_than_there_is_is_named(tmp_path, suffix, monkeypatch):
    def too_large(path):
        raise MemoryError

    monkeypatch.setitem(READERS, suffix, too_large)
    with pytest.raises(OSError, match=rf"Cannot allocate memory: '{tmp_path}/a{suffix}'$"):
        read_recording(tmp_path / f"a{suffix}")


def test_a_recordings_name_that_is_no_regular_file_is_an_error(tmp_path):
    fill(tmp_path, ["a", "b"], 2)
    os.mkfifo(tmp_path / "a" / "9.bin")
    (tmp_path / "b" / "9.bin").symlink_to("nothing")
    found = recordings_of(tmp_path)
    assert [path.name for path in found.paths] == ["0.bin", "1.bin", "9.bin"] * 2
    with pytest.raises(ValueError, match=r"a/9\.bin: is no regular file"):
        list(frames_of(found.paths, 2, 48, 24))


def test_recordings_are_in_the_order_of_their_numbers(tmp_path):
    fill(tmp_path, ["b", "a", "c10", "c9"], 12, "cifar10_{label}_{k}.bin")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.txt").write_text("beside the classes")
    (tmp_path / "a" / ".DS_Store").write_text("hidden")
    paths, labels, class_names = recordings_of(tmp_path)
    assert class_names == ["a", "b", "c9", "c10"]
    assert labels.dtype == np.int64
    assert labels.tolist() == [label for label in range(4) for _ in range(12)]
    assert [p.relative_to(tmp_path).as_posix() for p in paths] == [
        f"{name}/cifar10_{name}_{k}.bin" for name in class_names for k in range(12)
    ]


def test_names_with_several_numbers_or_none_can_be_ordered(tmp_path):
    names = ["x", "2", "2b1", "2b01", "10", "a²1", "a2", "01"]
    fill(tmp_path, ["c"], 0)
    for name in names:
        (tmp_path / "c" / f"{name}.bin").write_bytes(atis(SEEN))
    order = [p.stem for p in recordings_of(tmp_path).paths]
    assert order == ["01", "2", "2b01", "2b1", "10", "a2", "a²1", "x"]


def test_folders_without_recordings_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"^dataset: \S+nothing is missing, want a folder"):
        recordings_of(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"^dataset: \S+: got no class folders"):
        recordings_of(tmp_path)
    fill(tmp_path, ["a", "b"], 2)
    (tmp_path / "c").mkdir()
    with pytest.raises(ValueError, match=r"^dataset: \S+/c: got no files, want one of .aedat, .b"):
        recordings_of(tmp_path)
    (tmp_path / "c" / "1.aedat4").touch()
    with pytest.raises(ValueError, match=r"^dataset: \S+/c: got .aedat4, want one of .aedat, .bin"):
        recordings_of(tmp_path)
    (tmp_path / "c" / "1.aedat4").rename(tmp_path / "c" / "1.bin")
    (tmp_path / "c" / "1.npz").touch()
    with pytest.raises(ValueError, match=r"^dataset: \S+/c: got .bin, .npz, want one of .aedat"):
        recordings_of(tmp_path)


def test_frames_of_each_recording_in_turn(tmp_path):
    paths, _, _ = recordings_of(fill(tmp_path, ["a", "b"], 6))
    for slices in ("count", "duration"):
        made = list(frames_of(paths, 3, (4, 9), 5, slices))
        assert len(made) == 12
        for path, frames in zip(paths, made, strict=True):
            events = events_to_frames(*read_recording(path), 3, (4, 9), slices)
            assert np.array_equal(frames, resize_nearest(events, 5))
            assert (frames.dtype, frames.shape) == (np.uint16, (3, 5, 5, 2))
    assert not np.array_equal(made, list(frames_of(paths, 3, (4, 9), 5)))


@pytest.mark.processes
def test_several_processes_make_the_same_in_the_same_order(tmp_path):
    paths = recordings_of(fill(tmp_path, ["a"], 40)).paths
    alone, together = (list(frames_of(paths, 2, 48, 24, jobs=jobs)) for jobs in (1, 2))
    assert np.array_equal(alone, together)
    assert len({frames.tobytes() for frames in alone}) > 20
    with pytest.raises(ValueError, match="jobs: got 0"):
        next(frames_of(paths, 2, 48, 24, jobs=0))


@pytest.mark.processes
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_recording_that_cannot_be_read_is_named(tmp_path, jobs):
    paths = recordings_of(fill(tmp_path, ["a"], 6)).paths
    made = frames_of(paths, 2, 4, 4, jobs=jobs)
    with pytest.raises(ValueError, match=r"a/4\.bin: x: want 5 values from 0 to 3$"):
        list(made)
    paths[1].write_bytes(b"123")
    with pytest.raises(ValueError, match=r"a/1\.bin: byte 0: the last event has 3 bytes"):
        list(frames_of(paths, 2, 4, 4, jobs=jobs))


def test_counts_that_leave_the_type_are_refused(tmp_path):
    for n in (65535, 65536):
        (tmp_path / "a.bin").write_bytes(atis([(1, 2, 3, 1)]) * n)
        made = frames_of([tmp_path / "a.bin"], 1, 4, 4)
        if n == 65535:
            assert next(made)[0, 3, 2, 1] == 65535
    with pytest.raises(
        ValueError, match=r"a\.bin: got 65536 events at a pixel, want at most 65535"
    ):
        next(made)


@pytest.mark.processes
def test_stopping_early_does_not_wait_for_the_rest(tmp_path, monkeypatch):
    futures = []

    class Pool(parallel.ProcessPoolExecutor):
        def submit(self, *arguments, **options):
            futures.append(super().submit(*arguments, **options))
            return futures[-1]

    monkeypatch.setattr(parallel, "ProcessPoolExecutor", Pool)
    path = tmp_path / "a.bin"
    path.write_bytes(atis(SEEN) * 10_000)
    made = frames_of([path] * 3000, 2, 128, 48, jobs=2)
    next(made)
    made.close()
    assert sum(future.cancelled() for future in futures) > len(futures) / 2 > 50


def test_cifar10dvs_is_split_by_the_numbers_in_the_names(tmp_path):
    fill(tmp_path, reversed(CIFAR10), 12, "cifar10_{label}_{k}.bin")
    data = cifar10dvs(tmp_path, train=10)
    assert data.sensor == 128
    for part, numbers in ((data.train, range(10)), (data.test, (10, 11))):
        assert part.class_names == list(CIFAR10)
        assert [p.name for p in part.paths] == [
            f"cifar10_{name}_{k}.bin" for name in CIFAR10 for k in numbers
        ]
        assert part.labels.tolist() == [label for label in range(10) for _ in numbers]


def test_cifar10dvs_needs_ten_classes_and_more_than_900_recordings(tmp_path):
    fill(tmp_path, CIFAR10[1:], 12)
    with pytest.raises(
        ValueError, match=r"^dataset: \S+: got the classes automobile, .* want airp"
    ):
        cifar10dvs(tmp_path)
    fill(tmp_path, CIFAR10[:1], 10)
    message = r"^dataset: \S+/airplane: got 10 recordings, want more than the 10 for training"
    with pytest.raises(ValueError, match=message):
        cifar10dvs(tmp_path, train=10)
    with pytest.raises(ValueError, match="want more than the 900 for training"):
        cifar10dvs(tmp_path)


def keep(arrays, name, shape, dtype):
    arrays.append(np.zeros(shape, dtype))
    return arrays[-1]


def test_cifar10dvs_is_upright_in_every_format(tmp_path):
    """The camera exchanged x and y; public code exchanges them again when it writes .npz."""
    turned = [(t, y, x, p) for t, x, y, p in SEEN]
    contents = {
        ".aedat": aedat(turned),
        ".mat": mat5({"out1": matrix(turned)}),
        ".npz": npz(**columns(SEEN)),
        ".AEDAT": aedat(turned),
        ".Mat": mat5({"out1": matrix(turned)}),
        ".NPZ": npz(**columns(SEEN)),
    }
    wanted = events_to_frames(*(np.array(v) for v in zip(*SEEN, strict=True)), 2, 128)
    for suffix, content in contents.items():
        folder = tmp_path / suffix[1:]
        data = cifar10dvs(fill(folder, CIFAR10, 2, "{k}" + suffix, lambda _, c=content: c), train=1)
        assert rows(data.read(data.train.paths[0])) == SEEN
        arrays = []
        make_frames(data, partial(keep, arrays), 2, 128)
        assert (arrays[0] == wanted).all()


def test_nmnist_has_its_two_folders(tmp_path):
    fill(tmp_path / "Train", "0123", 3, "0000{k}.bin")
    fill(tmp_path / "Test", "0123", 2, "0000{k}.bin")
    data = nmnist(tmp_path)
    assert data.sensor == 34
    assert data.train.class_names == data.test.class_names == list("0123")
    assert (len(data.train.paths), len(data.test.paths)) == (12, 8)
    assert data.test.paths[2] == tmp_path / "Test" / "1" / "00000.bin"
    assert rows(data.read(data.test.paths[1])) == [(0, 1, 2, 1), (1, 1, 2, 1)]
    (tmp_path / "Test" / "3").rename(tmp_path / "Test" / "4")
    with pytest.raises(ValueError, match=r"^dataset: \S+: got 3, 4 in one of Train and Test"):
        nmnist(tmp_path)
    with pytest.raises(ValueError, match=r"^dataset: \S+Train is missing"):
        nmnist(tmp_path / "Test")


@pytest.mark.processes
@pytest.mark.parametrize("jobs", [1, 2])
def test_frames_of_both_splits_are_put_into_the_given_arrays(tmp_path, jobs):
    fill(tmp_path / "Train", "012", 5)
    fill(tmp_path / "Test", "012", 4)
    data, arrays = nmnist(tmp_path), {}

    def new(name, shape, dtype):
        arrays[name] = np.full(shape, 99, dtype)
        return arrays[name]

    make_frames(data, new, 2, 30, "duration", jobs)
    assert list(arrays) == ["train_frames", "train_labels", "test_frames", "test_labels"]
    for part, recordings in (("train", data.train), ("test", data.test)):
        frames, labels = arrays[f"{part}_frames"], arrays[f"{part}_labels"]
        assert (frames.dtype, labels.dtype) == (np.uint16, np.int64)
        assert np.array_equal(labels, recordings.labels)
        wanted = frames_of(recordings.paths, 2, 34, 30, "duration", read=data.read)
        assert np.array_equal(frames, list(wanted))
        by_count = list(frames_of(recordings.paths, 2, 34, 30))
        assert not np.array_equal(frames, by_count)


@pytest.mark.skipif(not NMNIST.is_dir(), reason="no shared recordings")
def test_a_linear_classifier_separates_the_digits_of_the_real_nmnist():
    """Recordings have three saccades of 100 ms and about as many ON as OFF events."""
    data = nmnist(NMNIST)
    assert data.train.class_names == list("0123456789")
    for part in (data.train, data.test):
        for path in part.paths:
            events = data.read(path)
            assert (np.diff(events.t) >= 0).all()
            assert 290_000 < events.t[-1] < 340_000
            assert 1000 < len(events.t) < 12_000
            assert min(events.x.min(), events.y.min()) >= 0
            assert max(events.x.max(), events.y.max()) < 34
            assert 0.35 < events.polarity.mean() < 0.65
    train, test = (
        np.array(list(frames_of(part.paths, 4, data.sensor, 34))).reshape(len(part.paths), -1)
        for part in (data.train, data.test)
    )
    train, test = (np.sqrt(part) for part in (train, test))
    nearest = [np.argmin(((train - one) ** 2).sum(axis=1)) for one in test]
    assert (data.train.labels[nearest] == data.test.labels).mean() > 0.7
