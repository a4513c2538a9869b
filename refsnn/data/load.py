"""Loading of data sets by name or from an `.npz` file."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data.arrays import from_npz, of_images
from refsnn.data.augment import cutout, random_crop, random_flip
from refsnn.data.dataset import CHANNEL_STATISTICS, Augmentation, Dataset, Split
from refsnn.data.digits import load_digits
from refsnn.files.reading import naming_memory
from refsnn.ops import Array, validate
from refsnn.references import load_object

AUGMENT = ("full", "basic", "none")
SLICES = ("count", "duration")


@dataclass(frozen=True)
class Options:
    """Options of loading a data set."""

    data_dir: str = ""  # folder of the data sets; "": the default one
    steps: int = 1  # T, the number of frames that events are counted into
    augment: str = "full"  # as in the paper; basic: without AutoAugment; none
    cutout: int = 0  # side in pixels (D24)
    image_size: int = 0  # side in pixels; 0: the data set's own
    event_slices: str = "count"  # D23
    dtype: str = "float32"  # the precision of the training
    any_range: bool = False  # the splits of an .npz file may be in different units
    skip_unreadable: bool = False  # leave out files that can't be read

    @property
    def folder(self) -> Path:
        from refsnn.data.fetch import default_data_dir

        return Path(self.data_dir) if self.data_dir else default_data_dir()


# Imports within functions keep the start of the command line fast.


def digits(options: Options) -> Dataset:
    return load_digits()


def cifar(options: Options, name: str, classes: int, part: bool) -> Dataset:
    """Load CIFAR, augmented by padded crops, flips and, where `full`, AutoAugment.

    `part` allows files and images to be missing.
    """
    from refsnn.data.autoaugment import auto_augment
    from refsnn.data.cifar import load_cifar10, load_cifar100

    read = load_cifar10 if name == "cifar10" else load_cifar100
    arrays = read(options.folder, part)
    augment: tuple[Augmentation, ...] = (partial(random_crop, padding=4), random_flip)
    if options.augment == "full":
        augment += (auto_augment,)
    return Dataset(
        f"{name}-part" if part else name,
        Split(arrays.train_images, arrays.train_labels),
        Split(arrays.test_images, arrays.test_labels),
        classes,
        *pixel_statistics(name),
        augment,
        costly=options.augment == "full",
    )


def imagefolder(options: Options) -> Dataset:
    """Load pictures in class folders, augmented as for ImageNet by random crops and flips."""
    from refsnn.data.imagefolder import FolderImages, check, scan

    folder, size, skipped = scan(options.folder), options.image_size or 224, 0
    if options.skip_unreadable:
        from refsnn.data.readable import without_unreadable

        (train_files, val_files), skipped = without_unreadable(
            "imagefolder", (folder.train, folder.val), partial(check, size=size), {"size": size}
        )
        folder = folder._replace(train=train_files, val=val_files)
    train = FolderImages(folder.train.paths, size, crops=options.augment != "none")
    test = FolderImages(folder.val.paths, size)
    return Dataset(
        "imagefolder",
        Split(train, folder.train.labels),
        Split(test, folder.val.labels),
        len(folder.classes),
        *pixel_statistics("imagenet"),
        costly=True,
        skipped=skipped,
    )


def cifar10dvs(options: Options) -> Dataset:
    """Load CIFAR10-DVS as frames of 48x48 pixels, augmented by flips and rolls (D23)."""
    from refsnn.data.events import random_roll

    return replace(recorded("cifar10dvs", options, 48), augment=(random_flip, random_roll))


def nmnist(options: Options) -> Dataset:
    return recorded("nmnist", options, 34)


def event_set(name: str, folder: Path) -> Any:
    """Find the recordings of a data set in its folder within `folder`, or in `folder` itself."""
    from refsnn.data import recordings

    if name == "nmnist":
        return recordings.nmnist(inside(folder, name, ("Train", "Test")))
    return recordings.cifar10dvs(inside(folder, "cifar10-dvs", recordings.CIFAR10))


def moving_digits(options: Options) -> Dataset:
    from refsnn.data.moving_digits import FIELD, MADE_BY, make_moving_digits

    return cached("moving-digits", [], make_moving_digits, MADE_BY, options, FIELD, 10)


def recorded(name: str, options: Options, size: int) -> Dataset:
    from refsnn.data.recordings import frames_in, make_frames

    data, skipped = event_set(name, options.folder), 0
    if options.skip_unreadable:
        from refsnn.data.readable import without_unreadable

        made_by: dict[str, Any] = {
            "steps": options.steps,
            "size": options.image_size or size,
            "slices": options.event_slices,
        }
        check = partial(frames_in, **made_by, sensor=data.sensor, read=data.read)
        (train, test), skipped = without_unreadable(name, (data.train, data.test), check, made_by)
        data = data._replace(train=train, test=test)
    paths, classes = [*data.train.paths, *data.test.paths], len(data.train.class_names)
    dataset = cached(name, paths, partial(make_frames, data), {}, options, size, classes)
    return replace(dataset, skipped=skipped)


def cached(
    name: str,
    paths: Sequence[Path],
    make: Callable[..., None],
    made_by: dict[str, Any],
    options: Options,
    size: int,
    classes: int,
) -> Dataset:
    """Return recordings as T frames of counts, not standardised; make them once, in the cache."""
    from refsnn.data.cache import mapped

    steps, size, slices = options.steps, options.image_size or size, options.event_slices
    arrays = mapped(
        name,
        paths,
        made_by | {"steps": steps, "size": size, "slices": slices},
        lambda new: make(new, steps, size, slices),
    )
    train, test = (Split(arrays[f"{p}_frames"], arrays[f"{p}_labels"]) for p in ("train", "test"))
    return Dataset(name, train, test, classes, np.zeros(2), np.ones(2))


def inside(folder: Path, name: str, parts: Sequence[str]) -> Path:
    """Return the data set's folder `name` within `folder`.

    Where there is none, returns `folder` itself if it holds one of the data set's `parts`.
    """
    if (folder / name).is_dir():
        return folder / name
    if any((folder / part).is_dir() for part in parts):
        return folder
    raise ValueError(f"dataset: {folder} holds no {name}, want one with {', '.join(parts)} in it")


def pixel_statistics(name: str) -> tuple[Array, Array]:
    """Return mean and standard deviation of each channel (D22), for pixels from 0 to 255."""
    mean, std = 255 * np.array(CHANNEL_STATISTICS[name])
    return mean, std


DATASETS: dict[str, Callable[[Options], Dataset]] = {
    "digits": digits,
    "moving-digits": moving_digits,
    "cifar10": partial(cifar, name="cifar10", classes=10, part=False),
    "cifar10-part": partial(cifar, name="cifar10", classes=10, part=True),
    "cifar100": partial(cifar, name="cifar100", classes=100, part=False),
    "cifar100-part": partial(cifar, name="cifar100", classes=100, part=True),
    "imagefolder": imagefolder,
    "cifar10dvs": cifar10dvs,
    "nmnist": nmnist,
}
#: data sets that can be used without some of their files
OF_FILES = ("imagefolder", "cifar10dvs", "nmnist")


def load(name: str, options: Options = Options()) -> Dataset:
    """Load a data set of `DATASETS`, the `.npz` file at the path `name`, or a `module:object`.

    Such an object is a `Dataset`, or a function that returns one for `Options`.
    """
    validate.one_of("event_slices", options.event_slices, SLICES)
    if options.skip_unreadable and name not in OF_FILES:
        raise ValueError(f"skip_unreadable: got True, want it only for {', '.join(OF_FILES)}")
    with naming_memory(name):
        dataset = read(name, options)
    return augmented(dataset, options)


def load_images(name: str, options: Options, classes: int) -> tuple[Split, str]:
    """Return images to test a network of so many classes on, and a name for them.

    `name` is a data set as in `load`, whose held-out images are taken, or a `.npz` file that holds
    `images` and `labels`. Not every class needs to be there; ValueError where there are others.
    """
    if name.endswith(".npz") and (split := of_images(Path(name))) is not None:
        shown = Path(name).stem
    else:
        dataset = load(name, options)
        split, shown = dataset.test, dataset.name
    try:
        validate.labels("labels", split.labels, split.images.shape[0], classes)
    except (ValueError, TypeError) as error:
        raise ValueError(f"data: {name}: {error}") from None
    return split, shown


def augmented(dataset: Dataset, options: Options) -> Dataset:
    """Return the data set with the augmentation that the options ask for."""
    validate.one_of("augment", options.augment, AUGMENT)
    *_, height, width, _ = dataset.train.images.shape
    if options.image_size not in (0, height):
        raise ValueError(
            f"image_size: got {options.image_size}, but the images of {dataset.name} have "
            f"{height}x{width} pixels"
        )
    if options.augment == "none":
        dataset = replace(dataset, augment=())
    if options.cutout == 0:
        return dataset
    if len(dataset.train.images.shape) != 4:
        raise ValueError(f"cutout: got {options.cutout}, want 0 for sequences of frames")
    if options.cutout > max(height, width):
        raise ValueError(
            f"cutout: got {options.cutout}, want at most {max(height, width)} for images of "
            f"{height}x{width} pixels"
        )
    return replace(dataset, augment=(*dataset.augment, partial(cutout, size=options.cutout)))


def read(name: str, options: Options) -> Dataset:
    """Read a data set as it is stored."""
    if name in DATASETS:
        return DATASETS[name](options)
    if name.endswith(".npz"):
        return from_npz(Path(name), options.dtype, options.any_range)
    if ":" not in name:
        known = ", ".join(DATASETS)
        raise ValueError(
            f"dataset: got {name!r}, want one of {known}, a file ending in .npz, or module:object"
        )
    made = load_object("dataset", name)
    if callable(made):
        made = made(options)
    if not isinstance(made, Dataset):
        raise TypeError(f"dataset: got {type(made).__name__} from {name}, want a refsnn Dataset")
    return made
