"""CIFAR's two published formats: read to the byte, refused where something is missing."""

import hashlib
import pickle
import shutil

import numpy as np
import pytest
from cifar_files import (
    SHARED,
    TRAIN10,
    VERSIONS,
    made,
    pixels_of,
    python2_pickle,
    record,
    write10,
    write100,
)

from refsnn.data.cifar import load_cifar10, load_cifar100
from refsnn.data.dataset import CHANNEL_STATISTICS

pytestmark = pytest.mark.usefixtures("own_cache")
needs10 = pytest.mark.skipif(
    not (SHARED / "cifar-10-batches-py").is_dir(), reason="no real CIFAR-10 beside the checkout"
)
needs100 = pytest.mark.skipif(
    not (SHARED / "cifar-100-binary-part").is_dir(), reason="no real CIFAR-100 beside the checkout"
)


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("folder", VERSIONS)
def test_images_and_labels_are_read_from_the_folder_or_its_parent(tmp_path, folder, inside):
    load, write, files, classes, suffix = VERSIONS[folder]
    batches = [made(n, classes) for n in (7, 4, 6, 3, 5, 8)[:files]]
    write(tmp_path / folder, batches, suffix)
    for _ in range(2):  # the second comes from the cache
        data = load(tmp_path if inside else tmp_path / folder, partial=True)
        for part, wanted in (("train", batches[:-1]), ("test", batches[-1:])):
            images, labels = (np.concatenate(arrays) for arrays in zip(*wanted, strict=True))
            got = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            assert [array.dtype for array in got] == [np.uint8, np.int64]
            assert all(isinstance(array, np.memmap) for array in got)
            assert np.array_equal(got[0], images)
            assert np.array_equal(got[1], labels)


def sparse(path, size, start=b""):
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


def test_whole_sets_have_their_number_of_images(tmp_path):
    for k, name in enumerate([*TRAIN10, "test_batch"]):
        sparse(tmp_path / f"{name}.bin", 30_730_000, bytes([k]))
    data = load_cifar10(tmp_path)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert data.train_labels[::10_000].tolist() == [0, 1, 2, 3, 4]
    assert (data.train_labels.sum(), data.test_labels.sum()) == (10, 5)
    assert data.train_images.flags.c_contiguous  # an image of a batch is one piece of the file


def test_whole_sets_of_100_classes_have_their_number_of_images(tmp_path):
    sparse(tmp_path / "train.bin", 153_700_000, bytes([19, 99]))
    sparse(tmp_path / "test.bin", 30_740_000, bytes([0, 1]))
    data = load_cifar100(tmp_path)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert (data.train_labels.sum(), data.test_labels.sum()) == (99, 1)


@pytest.mark.parametrize("folder", VERSIONS)
def test_another_number_of_images_is_refused_unless_partial(tmp_path, folder):
    load, write, files, classes, suffix = VERSIONS[folder]
    write(tmp_path / folder, [made(4, classes)] * files, suffix)
    first = "train" if classes == 100 else "data_batch_1"
    count = 50_000 if classes == 100 else 10_000
    load(tmp_path, partial=True)  # and the cache of that is not taken for whole
    with pytest.raises(
        ValueError, match=rf"^dataset: .*/{first}{suffix}: got 4 images, want {count}$"
    ):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ""])
def test_missing_files_are_named_unless_partial(tmp_path, suffix):
    batches = [made(3, 10) for _ in range(6)]
    write10(tmp_path / "set", batches, suffix)
    for k in (2, 4):
        (tmp_path / "set" / f"{TRAIN10[k]}{suffix}").unlink()
    with pytest.raises(
        ValueError,
        match=rf"^dataset: \S*/data_batch_3{suffix}, \S*_5{suffix} are missing, want all",
    ):
        load_cifar10(tmp_path / "set")
    data = load_cifar10(tmp_path / "set", partial=True)
    assert np.array_equal(data.train_images, np.concatenate([batches[k][0] for k in (0, 1, 3)]))
    assert np.array_equal(data.train_labels, np.concatenate([batches[k][1] for k in (0, 1, 3)]))


def test_partial_needs_the_test_file_and_one_of_training(tmp_path):
    write10(tmp_path / "a", [made(3, 10)] * 6, ".bin")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "test_batch.bin").unlink()
    for name in TRAIN10:
        (tmp_path / "b" / f"{name}.bin").unlink()
    with pytest.raises(ValueError, match=r"^dataset: \S*/test_batch\.bin is missing, want all"):
        load_cifar10(tmp_path / "a", partial=True)
    with pytest.raises(ValueError, match=r"data_batch_5\.bin are missing, want all"):
        load_cifar10(tmp_path / "b", partial=True)


@pytest.mark.parametrize("name", ["", "none"])
def test_a_folder_without_any_of_the_files_is_refused(tmp_path, name):
    (tmp_path / "train").mkdir()  # as other data sets have
    with pytest.raises(
        ValueError, match=r"holds no cifar100, want cifar-100-binary or cifar-100-python in it"
    ):
        load_cifar100(tmp_path / name)


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("size", [1, 3073, 2 * 3074 - 1, 2 * 3074 + 1])
def test_a_cut_record_is_refused(tmp_path, name, size):
    write100(tmp_path / "set", [made(3, 100)] * 2, ".bin")
    sparse(tmp_path / "set" / f"{name}.bin", size)
    with pytest.raises(
        ValueError, match=rf"^dataset: .*/{name}\.bin: got {size} bytes, want records of 3074$"
    ):
        load_cifar100(tmp_path / "set", partial=True)


@pytest.mark.parametrize("suffix", [".bin", ""])
def test_a_file_without_images_is_refused(tmp_path, suffix):
    write100(
        tmp_path / "set",
        [made(3, 100), (np.empty((0, 32, 32, 3), np.uint8), np.empty(0, int))],
        suffix,
    )
    with pytest.raises(ValueError, match=rf"/test{suffix}: got 0 images, want some"):
        load_cifar100(tmp_path / "set", partial=True)


@pytest.mark.parametrize("suffix", [".bin", ""])
@pytest.mark.parametrize(
    ("key", "at", "value", "last"), [("coarse_labels", 0, 20, 19), ("fine_labels", 1, 100, 99)]
)
def test_labels_beyond_the_classes_are_refused(tmp_path, suffix, key, at, value, last):
    images, _ = made(3, 100)
    labels = [[0, 0], [0, 0], [0, 0]]
    labels[1][at] = value
    write100(tmp_path / "set", [made(3, 100)] * 2, suffix)
    coarse, fine = zip(*labels, strict=True)
    content = b"".join(record(i, *pair) for i, pair in zip(images, labels, strict=True))
    if suffix == "":
        content = python2_pickle(pixels_of(images), {"coarse_labels": coarse, "fine_labels": fine})
    (tmp_path / "set" / f"train{suffix}").write_bytes(content)
    with pytest.raises(
        ValueError,
        match=rf"^dataset: .*/train{suffix}: {key}: got {value} at index 1, want 0 to {last}$",
    ):
        load_cifar100(tmp_path / "set", partial=True)


def test_labels_beyond_10_classes_are_refused(tmp_path):
    write10(tmp_path / "set", [*[made(3, 10)] * 5, made(3, 11)], ".bin")
    with pytest.raises(
        ValueError, match=r"test_batch\.bin: labels: got 10 at index 0, want 0 to 9$"
    ):
        load_cifar10(tmp_path / "set", partial=True)


def published(name, md5):
    """Check the checksum of a pickle of the authors, and read it."""
    content = (SHARED / "cifar-10-batches-py" / name).read_bytes()
    assert hashlib.md5(content).hexdigest() == md5
    return content, pickle.loads(content, encoding="latin-1")


@needs10
def test_the_writer_of_these_tests_writes_the_published_format():
    content, fields = published("data_batch_1", "c99cafc152244af753f735de768cd75f")
    labels = {"labels": fields["labels"]}
    again = python2_pickle(fields["data"], labels, fields["batch_label"], fields["filenames"])
    assert again == content


@needs10
def test_real_images_of_10_classes():
    data = load_cifar10(SHARED, partial=True)
    assert data.train_images.shape == (20_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert (np.bincount(data.test_labels) == 1000).all()
    _, fields = published("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec")
    images = fields["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(data.train_images[10_000:], images)
    assert data.train_labels[10_000:].tolist() == fields["labels"]
    mean = data.train_images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, CHANNEL_STATISTICS["cifar10"][0], atol=2e-3)
    with pytest.raises(ValueError, match="data_batch_5 are missing"):
        load_cifar10(SHARED)


@needs100
def test_real_images_of_100_classes():
    data = load_cifar100(SHARED / "cifar-100-binary-part", partial=True)
    assert data.train_images.shape == (10_000, 32, 32, 3)
    assert data.test_images.shape == (5_000, 32, 32, 3)
    assert (np.bincount(data.train_labels) == 100).all()
    mean = data.train_images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, CHANNEL_STATISTICS["cifar100"][0], atol=4e-3)
    with pytest.raises(ValueError, match=r"train\.bin: got 10000 images, want 50000"):
        load_cifar100(SHARED / "cifar-100-binary-part")
