"""Unreadable files of a data set: `refsnn data check` lists them, training leaves them out."""

import io
import json
import os
import struct

import numpy as np
import pytest
from PIL import Image

from refsnn.cli import main
from refsnn.data import Options, load, readable
from refsnn.training.config import make_config
from refsnn.training.run import fingerprint


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSNN_CACHE", str(tmp_path / "cache"))


def picture(seed, suffix="JPEG"):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), np.uint8)
    Image.fromarray(pixels).save(out, suffix)
    return out.getvalue()


def recording(seed):
    """N-MNIST's 40 bits an event."""
    events = np.random.default_rng(seed).integers(0, 34, (50, 2)).tolist()
    return b"".join(struct.pack(">BBBH", x, y, 0, 9 * k) for k, (x, y) in enumerate(events))


FORMS = {
    "imagefolder": (".", ("train", "val"), ("cat", "dog"), ".jpg", picture),
    "nmnist": ("nmnist", ("Train", "Test"), ("0", "1"), ".bin", recording),
}


@pytest.fixture(params=FORMS)
def made(request, tmp_path):
    """A data set of 2 classes with 4 files each to train and to test; its name and folder."""
    inside, parts, classes, suffix, content = FORMS[request.param]
    data = tmp_path / "data"
    for part in parts:
        for label, name in enumerate(classes):
            folder = data / inside / part / name
            folder.mkdir(parents=True)
            for k in range(4):
                (folder / f"{k}{suffix}").write_bytes(content(8 * label + k))
    return request.param, data


def files_of(data):
    return sorted(path for path in data.rglob("*.*") if not path.is_dir())


def damage(data):
    """Damage four of the sixteen files, each in another way."""
    good = files_of(data)
    cut, empty, pipe, link = (good[k] for k in (1, 4, 11, 14))
    cut.write_bytes(cut.read_bytes()[:-9])
    empty.write_bytes(b"")
    for path in (pipe, link):
        path.unlink()
    os.mkfifo(pipe)
    link.symlink_to("nothing")
    return [cut, empty, pipe, link]


def options(data, **changes):
    return Options(str(data), **{"steps": 2, "image_size": 16, "skip_unreadable": True} | changes)


@pytest.mark.processes
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_check_lists_each_file_that_can_not_be_read(made, capsys, jobs):
    name, data = made
    arguments = ["data", "check", name, "--data-dir", str(data), "--jobs", jobs]
    assert main(arguments) == 0
    assert capsys.readouterr().out == "16 files: nothing is wrong\n"
    bad = damage(data)
    assert main(arguments) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    assert last == "4 of 16 files can't be used"
    assert [line.partition(": ")[0] for line in sorted(lines)] == sorted(map(str, bad))
    assert all(line.partition(": ")[2] for line in lines)
    assert any(line.endswith(": is no regular file") for line in lines)


def test_check_takes_a_folder_of_class_folders(made, capsys):
    name, data = made
    bad = damage(data)
    folder = data / FORMS[name][0]
    (folder / "stray.jpg").write_bytes(b"no")  # in no class
    for place in (folder, folder / FORMS[name][1][0]):
        assert main(["data", "check", str(place)]) == 1
        lines = capsys.readouterr().out.splitlines()[:-1]
        wanted = [str(path) for path in bad if path.is_relative_to(place)]
        assert sorted(line.partition(": ")[0] for line in lines) == sorted(wanted)


def test_check_takes_a_file_of_arrays_and_what_is_in_the_package(tmp_path, capsys):
    arrays = {f"{part}_images": np.ones((4, 8, 8)) for part in ("train", "test")}
    arrays |= {f"{part}_labels": np.arange(4) % 2 for part in ("train", "test")}
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    assert main(["data", "check", str(path)]) == 0
    assert main(["data", "check", "digits"]) == 0
    assert capsys.readouterr().out == "1 file: nothing is wrong\n" * 2
    np.savez(path, **arrays | {"test_images": np.full((4, 8, 8), np.nan)})
    assert main(["data", "check", str(path)]) == 1
    assert capsys.readouterr().out == (
        f"{path}: test_images: image 0 holds NaN or infinity\n1 of 1 file can't be used\n"
    )


def test_check_reads_the_files_of_cifar(tmp_path, capsys):
    for name in ("data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes(3073))
    (tmp_path / "data_batch_2.bin").write_bytes(b"\x0b" + bytes(3072))
    assert main(["data", "check", "cifar10-part", "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().out == (
        f"{tmp_path}/data_batch_2.bin: labels: got 11 at index 0, want 0 to 9\n"
        "1 of 3 files can't be used\n"
    )


@pytest.mark.parametrize("what", ["cifar", "none.txt", "."])
def test_a_name_that_is_no_data_set_is_refused(refused, what, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "refsnn: error: check: " in refused(["data", "check", what])


def test_unreadable_files_are_left_out_with_the_option(made, capsys):
    name, data = made
    whole = load(name, options(data))
    assert whole.skipped == 0
    before = fingerprint(whole)
    assert before == fingerprint(load(name, options(data, skip_unreadable=False)))
    assert not capsys.readouterr().err
    images = [part.take(np.arange(8)) for part in (whole.train, whole.test)]
    bad = damage(data)
    files = files_of(data)
    gone = np.array([path in bad for path in files]).reshape(2, 8)
    if name == "nmnist":  # Test comes before Train
        gone = gone[::-1]
        files = files[8:] + files[:8]
    with pytest.raises((ValueError, OSError)):
        fingerprint(load(name, options(data, skip_unreadable=False)))
    capsys.readouterr()
    for _ in range(2):  # the second from the cache
        kept = load(name, options(data))
        (line,) = capsys.readouterr().err.splitlines()
        first = next(path for path in files if path in bad)
        assert line == (
            f"warning: {name}: left out 4 of 16 files, which can't be read, the first of them "
            f"{first}; refsnn data check lists them"
        )
        assert kept.skipped == 4
        for part, all_images, out in zip((kept.train, kept.test), images, gone, strict=True):
            assert part.labels.tolist() == (np.arange(8) // 4)[~out].tolist()
            assert np.array_equal(part.take(np.arange(len(part.labels))), all_images[~out])
    assert fingerprint(kept) != before


def test_a_file_is_read_again_only_if_it_has_changed(made, monkeypatch):
    name, data = made
    (bad, *_) = damage(data)
    reads, real = [], readable.reason
    monkeypatch.setattr(
        readable, "reason", lambda path, read: (reads.append(path), real(path, read))[1]
    )
    assert load(name, options(data)).skipped == 4
    assert len(reads) == 14  # not the pipe, and not the link to nothing
    assert load(name, options(data)).skipped == 4
    assert len(reads) == 14
    bad.write_bytes(FORMS[name][4](99))
    assert load(name, options(data)).skipped == 3
    assert len(reads) == 28


def test_a_class_without_a_file_is_refused(made):
    name, data = made
    for path in files_of(data)[:4]:
        path.write_bytes(b"?")
    with pytest.raises(
        ValueError, match=rf"^dataset: {path.parent}: none of its files can be read"
    ):
        load(name, options(data))


def test_too_little_memory_is_not_a_fault_of_the_file(made, monkeypatch):
    def too_large(*arguments, **options):
        raise MemoryError

    name, data = made
    monkeypatch.setattr(np, "frombuffer", too_large)
    monkeypatch.setattr("refsnn.data.imagefolder.resize_center_crop", too_large)
    with pytest.raises(OSError, match=r"Cannot allocate memory: '\S*/0\."):
        load(name, options(data))


@pytest.mark.parametrize("name", ["digits", "moving-digits", "cifar10"])
def test_leaving_out_files_needs_a_data_set_of_files(name):
    with pytest.raises(
        ValueError, match=r"^skip_unreadable: got True, want it only for imagefolder, ci"
    ):
        load(name, Options(skip_unreadable=True))


def test_a_run_records_how_many_files_it_left_out_and_resumes_without_them(tmp_path, capsys, made):
    name, data = made
    damage(data)
    folder = tmp_path / "run"
    arguments = [
        "train",
        "--dataset",
        name,
        "--data-dir",
        str(data),
        "--image-size",
        "16",
        "--arch",
        "1:2",
        "--steps",
        "1",
        "--epochs",
        "1",
        "--ops",
        "numpy",
        "--workers",
        "0",
        "--out",
        str(folder),
    ]
    assert main(arguments) == 2
    assert not folder.exists()
    assert main([*arguments, "--skip-unreadable"]) == 0
    assert "left out 4 of 16 files" in capsys.readouterr().err
    assert json.loads((folder / "summary.json").read_text())["skipped"] == 4
    assert json.loads((folder / "config.json").read_text())["skip_unreadable"] is True
    assert main(["evaluate", str(folder), "--json", "--workers", "0"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["images"] == len(load(name, options(data)).test.labels)
    assert main(["train", "--resume", str(folder), "--workers", "1"]) == 0
    assert shown.err.count("left out") == 1


def test_options_of_the_data_are_settings_of_the_run():
    given = {"skip_unreadable": True, "any_range": True, "dtype": "float64"}
    options = make_config(**given).data_options()
    assert {name: getattr(options, name) for name in given} == given


def test_a_file_of_arrays_is_checked_for_the_precision_of_the_training(tmp_path, capsys):
    rng = np.random.default_rng(0)
    path, images, labels = tmp_path / "a.npz", rng.random((12, 4, 4)), np.arange(12) % 2
    both = {"train_labels": labels, "test_labels": labels}
    np.savez(path, train_images=images, test_images=255 * images, **both)
    assert main(["data", "check", str(path)]) == 1
    assert main(["data", "check", str(path), "--any-range"]) == 0
    images[0, 0, 0] = 1e39
    np.savez(path, train_images=images, test_images=images, **both)
    assert main(["data", "check", str(path)]) == 1
    assert main(["data", "check", str(path), "--dtype", "float64"]) == 0
    assert "1 file: nothing is wrong" in capsys.readouterr().out
