"""Presets of ablations: the paper's tables, its claim at a laptop's size, and a small example."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from refsnn.ops import METHODS
from refsnn.training.config import PRESETS as TRAINING
from refsnn.training.recipes import self_contained


@dataclass(frozen=True)
class Grid:
    """All combinations of method, architecture, T and seed, with settings that they share."""

    settings: dict[str, Any]
    archs: tuple[str, ...]
    steps: tuple[int, ...]
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)


class DataSize(NamedTuple):
    """The numbers of a data set on which the time of a training depends."""

    train: int
    test: int
    shape: tuple[int, ...]  # of an image, (H, W, C)
    classes: int


#: sizes that are known without a download
SIZES = {
    "cifar10": DataSize(50_000, 10_000, (32, 32, 3), 10),
    "cifar100": DataSize(50_000, 10_000, (32, 32, 3), 100),
    "imagefolder": DataSize(1_281_167, 50_000, (224, 224, 3), 1000),  # ImageNet's
    "cifar10dvs": DataSize(9_000, 1_000, (48, 48, 2), 10),  # D23
}

BRANCHED = METHODS[1:]
PAPER = TRAINING["paper"]  # D17
CIFAR10, CIFAR100 = PAPER | {"dataset": "cifar10"}, PAPER | {"dataset": "cifar100"}
IMAGENET = PAPER | {"dataset": "imagefolder", "lr": 4e-3}  # D17
DVS = PAPER | {"dataset": "cifar10dvs"}

#: networks for 8x8 digits of 20, 38 and 56 layers: deep, but fast enough for many runs
DEPTH20, DEPTH38, DEPTH56 = (f"{n}-{n}-{n}:8-16-32" for n in (3, 6, 9))
SMALL = {"dataset": "digits", "epochs": 20, "lr": 0.005}
IMAGES = {"dataset": "cifar10-part", "epochs": 6, "lr": 0.005, "augment": "basic"}
FIVE = (0, 1, 2, 3, 4)
#: heights k of the tanh surrogate with which gradients vanish, keep their size and explode with
#: depth: the integral of h^2, 4 k^2 / 3, is 0.33, 0.52 and 1.0 (figures/gradient_regimes.py)
REGIMES = (0.5, 0.625, 0.866)

#: the paper's network, and every method of the literature that needs no more than its recipe
EACH_RECIPE = [{}, *({"recipe": name} for name in self_contained())]
BOTH = ("vanilla", "evolutionary")

PRESETS: dict[str, tuple[Grid, ...]] = {
    "digits": (Grid({}, ("resnet8",), (2,)),),
    "claim": (
        # gradients vanish with depth
        Grid(
            SMALL | {"surrogate": "tanh", "surrogate_shape": 0.5},
            (DEPTH20, DEPTH38, DEPTH56),
            (2,),
            seeds=FIVE,
        ),
        # gradients explode with depth
        Grid(
            SMALL | {"surrogate": "rectangular", "surrogate_shape": 1.0},
            (DEPTH20, DEPTH56),
            (2,),
            seeds=FIVE,
        ),
    ),
    "regimes": tuple(
        Grid(
            SMALL | {"surrogate": "tanh", "surrogate_shape": k},
            (DEPTH20, DEPTH38, DEPTH56),
            (2,),
            seeds=FIVE,
        )
        for k in REGIMES
    ),
    "images": tuple(
        Grid(
            IMAGES | {"surrogate": "tanh", "surrogate_shape": k},
            (DEPTH20, DEPTH56),
            (2,),
            BOTH,
            seeds=FIVE,
        )
        for k in REGIMES[:2]
    ),
    "methods": tuple(
        Grid(SMALL | recipe, ("resnet8",), (4,), BOTH, seeds=FIVE) for recipe in EACH_RECIPE
    ),
    "methods-deep": tuple(
        # T of the preset `claim`, at which vanilla training is near chance at these depths
        Grid(SMALL | recipe, (DEPTH38, DEPTH56), (2,), BOTH)
        for recipe in EACH_RECIPE
    ),
    "table1": (Grid(CIFAR100, ("resnet18", "resnet34"), (2, 4)),),
    # the rows of the paper's own methods
    "table2": (
        Grid(CIFAR10, ("resnet18",), (1, 2), ("shortcut",)),
        Grid(CIFAR10, ("resnet18",), (2, 4), ("evolutionary",)),
        Grid(CIFAR100, ("resnet18",), (2, 4), BRANCHED),
    ),
    "table3": (Grid(IMAGENET, ("resnet18-imagenet", "resnet34-imagenet"), (4,), BRANCHED),),
    "table4": (Grid(DVS, ("resnet18",), (10,), BRANCHED),),
}
