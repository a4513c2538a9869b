"""Class folders of pictures: which files are found, in which order, and what is refused."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pictures import PHOTOS, noise

from refsnn.data import imagefolder
from refsnn.data.imagefolder import FolderImages, read, scan

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture
def root(tmp_path):
    """Three photographs of dogs and two of cats to train, one of each to validate."""
    for seed, name in enumerate(
        [
            "train/dog/c.jpg",
            "train/dog/a.JPEG",
            "train/dog/b.Png",
            "train/cat/1.jpg",
            "train/cat/0.jpeg",
            "val/cat/0.jpg",
            "val/dog/0.png",
        ]
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(80, 64, seed).save(path)
    return tmp_path


def names(files):
    return [Path(path).name for path in files.paths]


def test_classes_and_files_are_sorted_and_labelled(root):
    folder = scan(root)
    assert folder.classes == ["cat", "dog"]
    assert names(folder.train) == ["0.jpeg", "1.jpg", "a.JPEG", "b.Png", "c.jpg"]
    assert folder.train.labels.tolist() == [0, 0, 1, 1, 1]
    assert names(folder.val) == ["0.jpg", "0.png"]
    assert folder.val.labels.tolist() == [0, 1]
    assert folder.train.labels.dtype == np.int64
    assert [Path(path).parent for path in folder.val.paths] == [root / "val/cat", root / "val/dog"]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_order_of_the_file_system_does_not_matter(root, monkeypatch, reverse):
    before, visible = scan(root), imagefolder.visible
    monkeypatch.setattr(
        imagefolder, "visible", lambda f: sorted(visible(f), key=lambda e: e.name, reverse=reverse)
    )
    after = scan(root)
    assert (after.classes, after.train.paths) == (before.classes, before.train.paths)


def test_files_other_than_pictures_of_a_class_are_ignored(root):
    before = scan(root)
    for name in (
        "train/.hidden/a.jpg",
        "train/cat/.a.jpg",
        "train/cat/a.txt",
        "train/cat/jpg",
        "train/stray.jpg",
        "val/.DS_Store",
        "train/cat/folder.jpg/a.jpg",
    ):
        (root / name).parent.mkdir(exist_ok=True)
        shutil.copy(before.train.paths[0], root / name)
    assert scan(root)[0] == before[0]
    assert names(scan(root).train) == names(before.train)


def test_a_picture_name_that_is_no_regular_file_is_an_error(root):
    os.mkfifo(root / "train/cat/pipe.jpg")
    (root / "train/cat/zero.png").symlink_to("/dev/zero")
    (root / "train/cat/nothing.jpg").symlink_to("/nothing")
    images = FolderImages(scan(root).train.paths, 8)
    with pytest.raises(FileNotFoundError, match=r"cat/nothing\.jpg"):
        images.identity()  # when a training begins
    (root / "train/cat/nothing.jpg").unlink()
    with pytest.raises(ValueError, match=r"^dataset: \S*/cat/pipe\.jpg: is no regular file$"):
        FolderImages(scan(root).train.paths, 8).identity()
    for name, text in (
        ("pipe.jpg", "is no regular file"),
        ("zero.png", "is no regular file"),
        ("nothing.jpg", "No such file"),
    ):
        index = names(images).index(name)
        with pytest.raises(ValueError, match=rf"^dataset: \S*/cat/{name} can't be read: .*{text}"):
            images.take(np.array([index]))


def test_a_picture_that_wants_more_memory_than_there_is_is_named(root, monkeypatch):
    def too_large(*arguments):
        raise MemoryError

    monkeypatch.setattr(imagefolder, "resize_center_crop", too_large)
    with pytest.raises(OSError, match=r"Cannot allocate memory: '\S*cat/0\.jpeg'$"):
        read(root / "train/cat/0.jpeg", 8)


def test_links_are_followed(root, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.move(root / "train/cat", elsewhere)
    (root / "train/cat").symlink_to(elsewhere / "cat")
    assert names(scan(root).train)[:2] == ["0.jpeg", "1.jpg"]


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("train", "train is missing, want a folder with a folder per class"),
        ("val", "val is missing, want a folder with a folder per class"),
        ("train/cat", "train/cat is missing, val has it"),
        ("val/dog", "val/dog is missing, train has it"),
        ("train/dog/*", "train/dog holds no file in .jpg, .jpeg, .png"),
        ("val/cat/*", "val/cat holds no file in .jpg, .jpeg, .png"),
        ("val/*", "val holds no folders, want one per class"),
    ],
)
def test_a_folder_that_is_missing_or_empty_is_named(root, remove, message):
    for path in list(root.glob(remove)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(ValueError) as error:  # noqa: PT011
        scan(root)
    assert str(error.value) == f"dataset: {root}/{message}"


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_an_invalid_size_is_refused(root, size):
    paths = scan(root).train.paths
    with pytest.raises(ValueError, match=f"^size: got {size}"):
        FolderImages(paths, size)
    with pytest.raises(ValueError, match=f"^size: got {size}"):
        read(paths[0], size)


def test_files_are_an_array_whose_images_are_read_when_taken(root):
    paths = scan(root).train.paths
    images = FolderImages(paths, 24)
    assert (images.shape, images.dtype) == ((5, 24, 24, 3), np.uint8)
    out = images.take(np.array([3, 0, 3]))
    assert out.dtype == np.uint8
    assert np.array_equal(out, [read(paths[k], 24) for k in (3, 0, 3)])
    assert images.take(np.array([], int)).shape == (0, 24, 24, 3)


def test_crops_depend_only_on_the_generator_and_the_batch_index(root):
    paths = scan(root).train.paths
    which = np.array([3, 0, 3, 1])
    first = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    again = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    other = FolderImages(paths, 24).take(which, np.random.default_rng(2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[2])
    noise(8, 800).save(paths[0])  # takes ten draws of a crop
    changed = FolderImages(paths, 24).take(which, np.random.default_rng(1))
    assert np.array_equal(changed[[0, 2, 3]], first[[0, 2, 3]])
    assert not np.array_equal(changed[1], first[1])


def test_identity_depends_on_names_classes_and_lengths_but_not_on_the_folder(
    root, tmp_path_factory
):
    def identity(root):
        return FolderImages(scan(root).train.paths, 24).identity().tobytes()

    copy = tmp_path_factory.mktemp("copy") / "root"
    shutil.copytree(root, copy)
    assert identity(copy) == identity(root)
    seen = {identity(root)}
    (copy / "train/cat/1.jpg").rename(copy / "train/cat/2.jpg")
    seen.add(identity(copy))
    (copy / "train/cat/2.jpg").rename(copy / "train/dog/2.jpg")
    seen.add(identity(copy))
    with open(copy / "train/dog/2.jpg", "ab") as file:
        file.write(b"more")
    seen.add(identity(copy))
    assert len(seen) == 4


@pytest.mark.skipif(not PHOTOS, reason="no photographs")
def test_real_photographs_are_read(tmp_path):
    for part in ("train", "val"):
        (tmp_path / part).mkdir()
        for folder in {path.parent for path in PHOTOS}:
            (tmp_path / part / folder.name).symlink_to(folder.resolve())
    folder = scan(tmp_path)
    assert names(folder.train) == [path.name for path in PHOTOS]
    assert [folder.classes[label] for label in folder.val.labels] == [p.parent.name for p in PHOTOS]
    images = FolderImages(folder.train.paths, 224)
    everything = np.arange(len(PHOTOS))
    for out in (images.take(everything), images.take(everything, np.random.default_rng(0))):
        assert (out.std(axis=(1, 2, 3)) > 10).all()
