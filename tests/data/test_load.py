"""Data sets by name and from the user's own files."""

import numpy as np
import pytest

from refsnn.data import Options, load


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "train_images": rng.integers(0, 256, (12, 5, 6, 3), dtype=np.uint8),
        "train_labels": np.arange(12) % 4,
        "test_images": rng.integers(0, 256, (5, 5, 6, 3), dtype=np.uint8),
        "test_labels": np.arange(5) % 4,
    }


@pytest.fixture
def write(tmp_path):
    def to_file(arrays):
        np.savez(tmp_path / "mine.npz", **arrays)
        return str(tmp_path / "mine.npz")

    return to_file


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_file_of_arrays_is_a_data_set(arrays, write, dtype):
    arrays = {k: v.astype(dtype) if "images" in k else v for k, v in arrays.items()}
    data = load(write(arrays))
    assert (data.name, data.num_classes, data.augment) == ("mine", 4, ())
    for part, split in (("train", data.train), ("test", data.test)):
        assert np.array_equal(split.images, arrays[f"{part}_images"])
        assert np.array_equal(split.labels, arrays[f"{part}_labels"])
    pixels = arrays["train_images"].reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(data.mean, pixels.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(data.std, pixels.std(axis=0), rtol=1e-14)


def test_grey_images_get_a_channel(arrays, write):
    grey = {k: v[..., 0] if "images" in k else v for k, v in arrays.items()}
    data = load(write(grey))
    assert data.train.images.shape == (12, 5, 6, 1)
    assert data.test.images.shape == (5, 5, 6, 1)
    assert np.array_equal(data.train.images[..., 0], grey["train_images"])


@pytest.mark.parametrize("name", ["mnist", "Digits", "", "digits.npy"])
def test_an_unknown_name_is_refused_with_the_known_ones(name):
    with pytest.raises(
        ValueError,
        match=rf"^dataset: got '{name}', want one of digits, .*, or module:object",
    ):
        load(name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^dataset: .*nothing\.npz does not exist"):
        load(str(tmp_path / "nothing.npz"))


@pytest.mark.parametrize("name", ["train_images", "train_labels", "test_images", "test_labels"])
def test_an_array_that_is_missing_is_named(arrays, write, name):
    del arrays[name]
    with pytest.raises(ValueError, match=rf"^dataset: .*mine\.npz: {name} is missing, want"):
        load(write(arrays))


def test_a_truncated_file_is_refused_at_any_length(arrays, write, tmp_path):
    with open(write(arrays), "rb") as file:
        whole = file.read()
    path = tmp_path / "cut.npz"
    for length in range(0, len(whole), 37):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^dataset: .*cut\.npz: "):
            load(str(path))


def test_a_damaged_pixel_is_refused(arrays, write):
    path = write(arrays)
    with open(path, "r+b") as file:
        at = file.read().index(arrays["train_images"].tobytes())
        file.seek(at)
        file.write(bytes([arrays["train_images"].flat[0] ^ 1]))
    with pytest.raises(ValueError, match=r"^dataset: .*mine\.npz: train_images: .*CRC"):
        load(path)


def test_an_array_alone_is_no_data_set(tmp_path):
    with open(tmp_path / "one.npz", "wb") as file:
        np.save(file, np.zeros((3, 4, 4)))
    with pytest.raises(ValueError, match=r"^dataset: .*one\.npz: is no .npz file"):
        load(str(tmp_path / "one.npz"))


@pytest.mark.parametrize("name", ["train_images", "test_labels"])
def test_pickled_objects_are_refused(arrays, write, name):
    arrays[name] = np.array([{}], dtype=object)
    with pytest.raises(
        ValueError, match=r"^dataset: .*mine\.npz: .*: got dtype object, want numbers"
    ):
        load(write(arrays))


@pytest.mark.parametrize(
    ("labels", "shown"),
    [
        ([0, 1, 3] * 4, "0, 1, 3"),
        ([1, 2, 3] * 4, "1, 2, 3"),
        ([-1, 0, 1] * 4, "-1, 0, 1"),
        ([0] * 12, "0"),
    ],
)
def test_training_labels_are_all_of_a_number_of_classes(arrays, write, labels, shown):
    arrays["train_labels"] = np.array(labels)
    with pytest.raises(
        ValueError, match=rf"mine\.npz: train_labels: got the classes {shown}, want every one"
    ):
        load(write(arrays))


@pytest.mark.parametrize(
    ("change", "classes"),
    [(lambda a: a[:, None], 4), (lambda a: a[:, None].astype(np.uint8), 4), (lambda a: a > 1, 2)],
)
def test_labels_in_a_column_and_of_two_classes_are_taken(arrays, write, change, classes):
    changed = {k: change(v) if "labels" in k else v for k, v in arrays.items()}
    data = load(write(changed))
    assert data.num_classes == classes
    for part, split in (("train", data.train), ("test", data.test)):
        assert split.labels.dtype.kind in "iu"
        assert split.labels.tolist() == changed[f"{part}_labels"].ravel().tolist()


def test_a_long_list_of_classes_is_cut_short(arrays, write):
    arrays["train_images"] = np.repeat(arrays["train_images"], 2, axis=0)
    arrays["train_labels"] = np.arange(24) * 2
    with pytest.raises(ValueError, match=r"0, 2, .*, 20, 22, \.\.\., want"):
        load(write(arrays))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train_labels", lambda a: a.astype(float), "train_labels: got dtype float64, want integ"),
        ("test_labels", lambda a: a + 0.5, "test_labels: got dtype float64, want integers"),
        ("train_labels", lambda a: a.astype(str), "train_labels: got text such as '0', want a num"),
        ("test_labels", lambda a: a[:0].astype(str), "test_labels: got text such as '', want a nu"),
        ("train_labels", lambda a: np.eye(4)[a], r"train_labels: got one-hot labels \(12, 4\), w"),
        ("test_labels", lambda a: np.eye(4, dtype=bool)[a], r"test_labels: got one-hot labels \(5"),
        ("train_labels", lambda a: np.stack([a, a], 1), r"train labels: got shape \(12, 2\)"),
        ("train_labels", lambda a: a + 1, "train_labels: got the .* K > 1; subtract 1 from all l"),
        ("test_labels", lambda a: a + 1, "test labels: got 4 at index 3, want 0 to 3"),
        ("test_labels", lambda a: a - 1, "test labels: got -1 at index 0"),
        ("train_labels", lambda a: a[:-1], "train labels: got shape"),
        ("train_images", lambda a: a[0, 0], "train_images: got shape"),
        ("test_images", lambda a: a[:, 1:], "test images: got"),
        (
            "train_images",
            lambda a: np.where(np.arange(12)[:, None, None, None] > 3, np.nan, a),
            "train_images: image 4",
        ),
        ("test_images", lambda a: a + np.inf, "test_images: image 0 holds NaN"),
    ],
)
def test_arrays_that_do_not_fit_are_named_with_their_file(arrays, write, name, change, message):
    arrays[name] = change(arrays[name])
    with pytest.raises(ValueError, match=rf"^dataset: .*mine\.npz: {message}"):
        load(write(arrays))


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((3, 32, 32), "(12, 3, 32, 32) are taken as 3x32 pixels of 32 channels"),
        ((2, 1, 8, 9), "(12, 2, 1, 8, 9) are taken as 1x8 pixels of 9 channels"),
        ((32, 32, 3), ""),
        ((28, 28), ""),
        ((8, 8), ""),
        ((28, 28, 28), "(12, 28, 28, 28) are taken as 28x28 pixels of 28 channels"),
        ((10, 128, 128), "are taken as 10x128 pixels of 128 channels"),  # frames
        ((64, 64, 32), "are taken as 64x64 pixels of 32 channels"),
        ((2, 9, 9, 9), "(12, 2, 9, 9, 9) are taken as 9x9 pixels of 9 channels"),
        ((100, 3), "(12, 100, 3) are taken as 100x3 pixels of 1 channel; channels must"),
        ((2, 100), "(12, 2, 100) are taken as 2x100 pixels of 1 channel;"),
        ((9, 9, 4), ""),
        ((9, 9, 1), ""),
        ((5, 5, 200), ""),  # a patch of many channels
        ((2, 2, 16), ""),
        ((1, 40, 1), ""),  # a signal
        ((2, 34, 34, 2), ""),
    ],
)
def test_channels_that_seem_to_come_first_cause_a_warning(shape, words, write, capsys):
    images = np.zeros((12, *shape), np.uint8)
    labels = np.arange(12) % 4
    arrays = {"train_images": images, "train_labels": labels}
    assert load(write(arrays | {"test_images": images, "test_labels": labels})).num_classes == 4
    shown = capsys.readouterr()
    assert not shown.out
    lines = shown.err.splitlines()
    assert len(lines) == bool(words)
    assert words in shown.err
    assert not words or lines[0].startswith("warning: ")


def test_a_file_that_wants_more_memory_than_there_is_is_named(arrays, write, monkeypatch):
    def too_large(images):
        raise MemoryError

    monkeypatch.setattr("refsnn.data.arrays.channel_statistics", too_large)
    with pytest.raises(OSError, match=r"Cannot allocate memory: '\S*/mine\.npz'$"):
        load(write(arrays))


def test_cutout_is_applied_after_the_data_sets_own_augmentation():
    plain, cut = load("digits"), load("digits", Options(cutout=4))
    assert len(plain.augment) == 1
    assert len(cut.augment) == 2
    images = np.ones((50, 8, 8, 1), np.uint8)
    hole = cut.augment[-1](images, np.random.default_rng(0))
    assert (hole == 0).sum(axis=(1, 2, 3)).max() == 16
    assert np.array_equal(load("digits", Options()).train.images, cut.train.images)
