"""Data sets by name, or from a file of arrays."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from refsnn.data.arrays import from_npz
from refsnn.data.augment import cutout
from refsnn.data.dataset import Dataset
from refsnn.data.digits import load_digits
from refsnn.ops import validate

AUGMENT = ("full", "basic", "none")
SLICES = ("count", "duration")


@dataclass(frozen=True)
class Options:
    """What a data set is asked for."""

    data_dir: str = ""  # folder of the data sets; "": the default one
    steps: int = 1  # T, the frames that events become
    augment: str = "full"  # as in the paper; basic: without AutoAugment; none
    cutout: int = 0  # side in pixels (D24)
    image_size: int = 0  # side in pixels; 0: the data set's own
    event_slices: str = "count"  # D23


def digits(options: Options) -> Dataset:
    return load_digits()


DATASETS: dict[str, Callable[[Options], Dataset]] = {"digits": digits}


def load(name: str, options: Options = Options()) -> Dataset:
    """A data set of `DATASETS`, or the `.npz` file at the path `name`."""
    validate.one_of("augment", options.augment, AUGMENT)
    dataset = read(name, options)
    if options.augment == "none":
        dataset = replace(dataset, augment=())
    if options.cutout == 0:
        return dataset
    if len(dataset.train.images.shape) != 4:
        raise ValueError(f"cutout: got {options.cutout}, want 0 for sequences of frames")
    height, width = dataset.train.images.shape[1:3]
    if options.cutout > max(height, width):
        raise ValueError(
            f"cutout: got {options.cutout}, want at most {max(height, width)} for images of "
            f"{height}x{width} pixels"
        )
    return replace(dataset, augment=(*dataset.augment, partial(cutout, size=options.cutout)))


def read(name: str, options: Options) -> Dataset:
    if name in DATASETS:
        return DATASETS[name](options)
    if not name.endswith(".npz"):
        known = ", ".join(DATASETS)
        raise ValueError(f"dataset: got {name!r}, want one of {known}, or a file ending in .npz")
    return from_npz(Path(name))
