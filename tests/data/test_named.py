"""Every data set by its name: from files in the true format to batches for a network."""

import os
import struct
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refsnn.cli import main
from refsnn.data import DATASETS, Loader, Options, in_order, load, recordings
from refsnn.data.autoaugment import auto_augment
from refsnn.data.events import random_roll
from refsnn.network import encode

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSNN_CACHE", str(tmp_path / "cache"))


def records(n, *classes):
    """CIFAR's binary version: a byte for each label, then the planes."""
    labels = [np.arange(n)[:, None] % k for k in classes]
    pixels = RNG.integers(0, 256, (n, 3072))
    return np.concatenate([*labels, pixels], axis=1).astype(np.uint8).tobytes()


def forty_bits(n):
    """N-MNIST's events: x, y, then polarity and 23 bits of microseconds."""
    x, y, p = RNG.integers(0, 34, n), RNG.integers(0, 34, n), RNG.integers(0, 2, n)
    t = np.sort(RNG.integers(0, 300_000, n))
    rows = zip(x.tolist(), y.tolist(), p.tolist(), t.tolist(), strict=True)
    return b"".join(bytes([a, b]) + struct.pack(">I", c << 23 | d)[1:] for a, b, c, d in rows)


def aedat(n):
    """AEDAT 2.0: a header, then address and time, big-endian."""
    x, y, p = RNG.integers(0, 128, n), RNG.integers(0, 128, n), RNG.integers(0, 2, n)
    t = np.sort(RNG.integers(0, 300_000, n))
    rows = zip((y << 8 | x << 1 | p).tolist(), t.tolist(), strict=True)
    return b"#!AER-DAT2.0\r\n" + b"".join(struct.pack(">II", *row) for row in rows)


def write(folder, files):
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def cifar10(folder):
    where = "cifar-10-batches-bin"
    write(
        folder, {f"{where}/{name}.bin": records(20, 10) for name in ("data_batch_2", "test_batch")}
    )


def cifar100(folder):
    where = "cifar-100-binary"
    write(folder, {f"{where}/{name}.bin": records(100, 20, 100) for name in ("train", "test")})


def nmnist(folder):
    write(
        folder,
        {
            f"nmnist/{part}/{digit}/{k}.bin": forty_bits(60)
            for part in ("Train", "Test")
            for digit in range(3)
            for k in range(2)
        },
    )


def cifar10dvs(folder):
    write(
        folder,
        {
            f"cifar10-dvs/{name}/cifar10_{name}_{k}.aedat": aedat(80)
            for name in recordings.CIFAR10
            for k in range(3)
        },
    )


def photographs(folder):
    for part in ("train", "val"):
        for name in ("bee", "wasp"):
            (folder / part / name).mkdir(parents=True)
            pixels = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / part / name / "1.jpg")


#: name -> who makes its files, options, shape of a sample, classes
FILES = {
    "digits": (lambda folder: None, {}, (8, 8, 1), 10),
    "moving-digits": (lambda folder: None, {"steps": 3}, (3, 34, 34, 2), 10),
    "cifar10-part": (cifar10, {}, (32, 32, 3), 10),
    "cifar100-part": (cifar100, {}, (32, 32, 3), 100),
    "imagefolder": (photographs, {"image_size": 32}, (32, 32, 3), 2),
    "nmnist": (nmnist, {"steps": 3}, (3, 34, 34, 2), 3),
    "cifar10dvs": (cifar10dvs, {"steps": 4}, (4, 48, 48, 2), 10),
}


@pytest.fixture
def options(request, tmp_path, monkeypatch):
    """Make the files of the data set that the test is about."""
    make, more, *_ = FILES[request.getfixturevalue("name")]
    make(tmp_path / "data")
    few = partial(recordings.cifar10dvs, train=2)
    monkeypatch.setattr(recordings, "cifar10dvs", few)  # of 3 recordings a class, not 1,000
    return Options(data_dir=str(tmp_path / "data"), **more)


def test_every_name_is_tested():
    assert set(DATASETS) - {"cifar10", "cifar100"} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_data_set_gives_batches_that_a_network_takes(name, options):
    _, _, shape, classes = FILES[name]
    data = load(name, options)
    assert (data.name, data.num_classes) == (name, classes)
    for split in (data.train, data.test):
        assert split.images.shape[1:] == shape
        assert len(np.unique(split.labels)) == min(classes, len(split.labels))
    for rng in (None, np.random.default_rng(0)):
        images, labels = data.batch(data.train, np.array([1, 0]), np.float32, rng)
        assert images.shape == (2, *shape)
        assert labels.tolist() == data.train.labels[[1, 0]].tolist()
        x_seq = encode(images, options.steps)
        assert x_seq.shape == (options.steps, 2, *shape[-3:])
        assert np.isfinite(x_seq).all()


@pytest.mark.parametrize(
    "name", ["digits", "cifar10-part", "cifar100-part", "imagefolder", "nmnist"]
)
def test_workers_change_no_bit(name, options):
    make = partial(load, name, options)
    data = make()
    batches = []
    for workers in (0, 1):
        with Loader(data, make, workers) as loader:
            batches.append([x.tobytes() for x, _ in loader.batches("test", in_order(2), "f4")])
    assert batches[0] == batches[1]


@pytest.mark.parametrize("name", ["cifar10-part", "cifar100-part"])
def test_pixels_are_standardised_by_the_published_constants(name, options):
    data = load(name, options)
    raw = data.test.take(np.arange(3)) / 255
    images, _ = data.batch(data.test, np.arange(3), np.float64)
    mean, std = {
        "cifar10-part": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
        "cifar100-part": ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
    }[name]
    np.testing.assert_allclose(images, (raw - mean) / std, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["cifar10-part"])
def test_the_augmentations_of_cifar(name, options):
    sizes = {}
    for augment in ("full", "basic", "none"):
        data = load(name, Options(**vars(options) | {"augment": augment}))
        sizes[augment] = len(data.augment), auto_augment in data.augment, data.costly
    assert sizes == {"full": (3, True, True), "basic": (2, False, False), "none": (0, False, False)}


@pytest.mark.parametrize("name", ["imagefolder"])
def test_photographs_are_cropped_at_random_by_default(name, options):
    for augment, differ in (("full", True), ("none", False)):
        data = load(name, Options(**vars(options) | {"augment": augment}))
        two = [data.raw_batch(data.train, np.array([0]), np.random.default_rng(k)) for k in (1, 2)]
        assert np.array_equal(*two) != differ
        assert np.array_equal(*(data.raw_batch(data.test, np.array([0])) for _ in range(2)))


@pytest.mark.parametrize("name", ["cifar10dvs"])
def test_events_are_flipped_and_rolled_and_not_standardised(name, options):
    data = load(name, options)
    assert random_roll in data.augment
    assert len(data.augment) == 2
    frames, _ = data.batch(data.test, np.arange(10), np.float64)
    assert np.array_equal(frames, data.test.take(np.arange(10)))


@pytest.mark.parametrize("name", ["nmnist", "cifar10dvs"])
def test_frames_are_made_once_for_each_way_of_making_them(name, options, tmp_path):
    first = load(name, options)
    made = sorted((tmp_path / "cache").iterdir())
    again = load(name, options)
    assert sorted((tmp_path / "cache").iterdir()) == made
    assert np.array_equal(first.train.take(np.arange(3)), again.train.take(np.arange(3)))
    by_time = load(name, Options(**vars(options) | {"event_slices": "duration"}))
    assert len(list((tmp_path / "cache").iterdir())) == len(made) + 1
    assert not np.array_equal(first.train.take(np.arange(3)), by_time.train.take(np.arange(3)))


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "imagefolder", "nmnist", "cifar10dvs"])
def test_missing_data_is_named(name, tmp_path):
    with pytest.raises(ValueError, match=str(tmp_path)):
        load(name, Options(data_dir=str(tmp_path)))


@pytest.mark.parametrize(("name", "folder"), [("cifar10dvs", "cifar10-dvs"), ("nmnist", "nmnist")])
def test_folders_of_other_data_are_not_taken_for_classes(name, folder, tmp_path):
    cifar10(tmp_path)
    with pytest.raises(ValueError, match=rf"^dataset: {tmp_path} holds no {folder}, want one with"):
        load(name, Options(data_dir=str(tmp_path)))


@pytest.mark.parametrize("name", ["cifar10dvs", "nmnist"])
def test_the_data_sets_own_folder_may_be_given(name, options):
    (own,) = Path(options.data_dir).iterdir()
    whole, alone = (
        load(name, options),
        load(name, Options(**vars(options) | {"data_dir": str(own)})),
    )
    assert np.array_equal(whole.train.take(np.arange(3)), alone.train.take(np.arange(3)))


@pytest.mark.parametrize("name", FILES)
def test_the_list_shows_which_data_sets_are_there(name, options, tmp_path, capsys):
    """Files of one data set change only its own line."""

    def here(folder):
        assert main(["data", "list", "--data-dir", str(folder)]) == 0
        lines = [line.split() for line in capsys.readouterr().out.splitlines()]
        return {words[0] for words in lines if words[1] == "here"}

    packaged = {"digits", "moving-digits"}
    assert here(tmp_path / "nothing") == packaged
    assert name in here(options.folder)
    assert here(options.folder) <= packaged | {name, name.removesuffix("-part")}


@pytest.mark.parametrize("name", ["cifar10-part"])
def test_a_part_is_not_taken_for_the_whole(name, options):
    with pytest.raises(ValueError, match=r"data_batch_1\.bin.* are missing"):
        load("cifar10", options)


@pytest.mark.parametrize("name", ["digits", "cifar10-part"])
def test_another_image_size_than_the_data_sets_is_refused(name, options):
    with pytest.raises(ValueError, match=f"image_size: got 64, but the images of {name} have"):
        load(name, Options(**vars(options) | {"image_size": 64}))


@pytest.mark.parametrize("name", ["nmnist"])
def test_sequences_take_no_cutout(name, options):
    with pytest.raises(ValueError, match="cutout: got 4, want 0 for sequences"):
        load(name, Options(**vars(options) | {"cutout": 4}))


def test_the_default_data_folder_is_the_environments(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSNN_DATA", str(tmp_path / "mine"))
    assert Options().folder == tmp_path / "mine"
    assert Options(data_dir="here").folder == Path("here")


@pytest.mark.skipif(not SHARED.is_dir(), reason="no real files here")
@pytest.mark.parametrize(
    ("name", "folder", "train", "test"),
    [
        ("cifar10-part", ".", 20_000, 10_000),
        ("cifar100-part", "cifar-100-binary-part", 10_000, 5_000),
        ("nmnist", "nmnist_small", 1_000, 100),
    ],
)
def test_real_files_are_read_whole_and_standardised(name, folder, train, test):
    data = load(name, Options(data_dir=str(SHARED / folder), steps=4))
    assert (len(data.train.labels), len(data.test.labels)) == (train, test)
    images, _ = data.batch(data.train, np.arange(1000), np.float64)
    if name == "nmnist":
        assert images.sum(axis=(1, 2, 3, 4)).min() > 500
        return
    assert abs(images.mean()) < 0.05
    # CIFAR-10's customary deviations are the mean of each image's own, not that of all pixels
    deviation = images.std(axis=(1, 2)).mean() if name == "cifar10-part" else images.std()
    assert abs(deviation - 1) < 0.05
