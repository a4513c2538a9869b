"""The files that `refsnn data check` reads, and the functions that read them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from refsnn.data import cifar, imagefolder, recordings
from refsnn.data.load import DATASETS, Options, event_set, load

Read = Callable[[Path], object]


def to_read(what: str, folder: Path, options: Options) -> tuple[list[Path], Read]:
    """Return the files to check and the function that reads one of them.

    `what` is a data set of `DATASETS`, whose files are in the data folder `folder`, a folder of
    class folders, or an .npz file, which is read with `options`. ValueError where there are none.
    """
    match what:
        case "imagefolder":
            found = imagefolder.scan(folder)
            paths = [Path(path) for path in (*found.train.paths, *found.val.paths)]
            return paths, imagefolder.check
        case "cifar10dvs" | "nmnist":
            data = event_set(what, folder)
            # one frame will do: events within the sensor are so however the recording is cut
            read = partial(
                recordings.frames_in,
                steps=1,
                sensor=data.sensor,
                size=data.sensor,
                slices="count",
                read=data.read,
            )
            return [*data.train.paths, *data.test.paths], read
        case "cifar10" | "cifar10-part" | "cifar100" | "cifar100-part":
            kind = cifar.CIFAR100 if what.startswith("cifar100") else cifar.CIFAR10
            partial_set = what.endswith("-part")
            train, test = cifar.find(kind, folder, partial_set)
            return [*train, test], partial(cifar.read_one, kind, partial_set)
    if what in DATASETS or what.endswith(".npz"):
        return [Path(what)], partial(load_one, options=options)
    if not Path(what).is_dir():
        known = ", ".join(DATASETS)
        raise ValueError(f"check: got {what!r}, want one of {known}, a folder, or an .npz file")
    return in_class_folders(Path(what)), read_one


def load_one(path: Path, options: Options) -> object:
    return load(str(path), options)


def in_class_folders(folder: Path) -> list[Path]:
    """List the pictures and recordings in the folders of a folder, one or two levels down."""
    folders = folders_in(folder)
    folders += [inner for outer in folders for inner in folders_in(outer)]
    suffixes = (*imagefolder.SUFFIXES, *recordings.READERS)
    paths = [
        path
        for inner in sorted(folders)
        for path in sorted(inner.iterdir())
        if path.name[0] != "." and path.suffix.lower() in suffixes and not path.is_dir()
    ]
    if not paths:
        raise ValueError(f"check: {folder} holds no folders with {', '.join(suffixes)} in them")
    return paths


def folders_in(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]


def read_one(path: Path) -> None:
    """Read a picture or a recording, as its suffix says."""
    if path.suffix.lower() in imagefolder.SUFFIXES:
        imagefolder.check(path)
    else:
        recordings.read_recording(path)
