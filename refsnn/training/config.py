"""Every setting of a run, once: name, default, unit, allowed values, and which decision it selects.

The command line, the checks and `config.json` are all made from these fields.
"""

from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from refsnn.data.load import AUGMENT, SLICES, Options
from refsnn.network import Network, architecture
from refsnn.ops import LIF, METHODS, SURROGATES, BatchNorm, get_ops, make_surrogate, validate

MOST = 2**31 - 1  # of steps, epochs, images and pixels


def option(default: Any, text: str, unit: str = "", choices: tuple[str, ...] = ()) -> Any:
    """A field; `text` and `unit` appear in --help, `choices` are enforced."""
    return field(default=default, metadata={"help": text, "unit": unit, "choices": choices})


@dataclass(frozen=True)
class TrainConfig:
    """Validated when made; ValueError names the setting, what came and what was wanted."""

    method: str = option("evolutionary", "training method (Eq. 7, 6, 10)", choices=METHODS)
    arch: str = option("resnet8", "architecture by name, or depths:widths such as 2-2-2:16-32-64")
    width: float = option(1.0, "factor on all widths (D19)", "times")
    steps: int = option(2, "length T of the simulation", "time steps")
    epochs: int = option(20, "passes over the training split", "epochs")
    batch_size: int = option(32, "images in a mini-batch", "images")
    lr: float = option(0.01, "learning rate at the start; falls to 0 as a cosine", "1 / step")
    optimizer: str = option("adamw", "optimiser (D17)", choices=("adamw", "sgd"))
    momentum: float = option(0.9, "momentum of sgd", "share kept a step")
    weight_decay: float = option(0.02, "weight decay (D17)", "1 / step")
    decay_all: bool = option(True, "decay batch norm and biases too (D17)")
    seed: int = option(0, "seed of every random draw")
    dtype: str = option("float32", "precision", choices=("float32", "float64"))
    dataset: str = option("digits", "name (see refsnn data list), or a .npz file of arrays")
    branches: str = option("stage", "where side branches attach (D11)", choices=("stage", "block"))
    surrogate: str = option("tanh", "surrogate slope (Eq. 4, D4)", choices=tuple(SURROGATES))
    surrogate_shape: float | None = option(
        None, "the surrogate's k, a or gamma; by itself 0.5, 1, 1", "slope or (a) potential"
    )
    surrogate_edge: bool = option(False, "the rectangle's edge counts as inside (D4)")
    tau: float = option(0.5, "leak factor in (0, 1] (D1)", "share kept a time step")
    v_th: float = option(1.0, "firing threshold (D1)", "membrane potential")
    detach_reset: bool = option(False, "do not differentiate the reset (D3)")
    fire_at_threshold: bool = option(False, "fire at u_pre == v_th too (D2)")
    lam: float = option(0.25, "lambda of Eq. 10 at the start", "weight of a side branch")
    lam_clock: str = option("iteration", "clock of lambda (D16)", choices=("iteration", "epoch"))
    shortcut_weight: float = option(
        1.0, "side branches' weight in plain shortcut (D15)", "weight of a side branch"
    )
    sum_of: str = option("logits", "what the branches add up (D13)", choices=("logits", "losses"))
    readout: str = option("mean", "logits over time (D10)", choices=("mean", "sum"))
    downsample: str = option("conv", "skip where the size halves (D9)", choices=("conv", "avgpool"))
    norm_statistics: str = option(
        "pooled", "batch norm's statistics (D8)", choices=("pooled", "per_step")
    )
    norm_scale: float = option(1.0, "factor on normalised values; v_th makes tdBN (D8)", "times")
    cutout: int = option(0, "side of Cutout's square, 0 for none (D24)", "pixels")
    augment: str = option("full", "augmentation; basic is without AutoAugment", choices=AUGMENT)
    image_size: int = option(0, "side of images and frames, 0 for the data set's own", "pixels")
    event_slices: str = option(
        "count", "events in a frame: equal count or duration (D23)", choices=SLICES
    )
    any_range: bool = option(
        False, "training and test images of a .npz file may differ in unit or kind of number"
    )
    skip_unreadable: bool = option(
        False, "leave out files that can't be read (imagefolder, cifar10dvs, nmnist)"
    )
    data_dir: str = option("", "folder of the data sets (default: $REFSNN_DATA, or the cache's)")
    ops: str = option("numba", "kernels or reference equations", choices=("numba", "numpy"))

    def __post_init__(self) -> None:
        for item in fields(self):
            check_type(item.name, getattr(self, item.name), item.default)
            if item.metadata["choices"]:
                validate.one_of(item.name, getattr(self, item.name), item.metadata["choices"])
        for name in ("steps", "epochs", "batch_size"):
            validate.whole(name, getattr(self, name), 1, MOST)
        for name in ("cutout", "image_size"):
            validate.whole(name, getattr(self, name), 0, MOST)
        validate.whole("seed", self.seed, 0)
        for name in ("lam", "shortcut_weight", "weight_decay"):
            validate.at_least(name, getattr(self, name), 0)
        validate.positive("lr", self.lr)
        if not 0 <= self.momentum < 1:
            raise ValueError(
                f"momentum: got {validate.shown(self.momentum)}, want a number in [0, 1)"
            )
        validate.positive("norm_scale", self.norm_scale)
        if self.surrogate_shape is not None:
            validate.positive("surrogate_shape", self.surrogate_shape)
        if self.surrogate_edge and self.surrogate != "rectangular":
            raise ValueError(f"surrogate_edge: {self.surrogate} has no edge, want rectangular")
        self.network(1, 2)  # the rest is checked where it belongs
        for item in fields(self):
            check_precision(item.name, getattr(self, item.name), self.dtype)

    def network(self, in_channels: int, num_classes: int) -> Network:
        """The network that this configuration trains; vanilla training has no side branches."""
        surrogate = make_surrogate(self.surrogate, self.surrogate_shape, self.surrogate_edge)
        return Network(
            architecture(self.arch).scaled(self.width),
            in_channels,
            num_classes,
            "none" if self.method == "vanilla" else self.branches,
            LIF(self.tau, self.v_th, surrogate, self.detach_reset, self.fire_at_threshold),
            BatchNorm(self.norm_statistics, self.norm_scale),
            self.downsample,
            self.readout,
        )

    def data_options(self, begun: bool = False) -> Options:
        """Options of the run's data set. A run that has begun is known by its data's digest: that
        its splits are in one unit was checked before, or not yet by the version that began it."""
        options = {item.name: getattr(self, item.name) for item in fields(Options)}
        return Options(**options | {"any_range": self.any_range or begun})

    def side_coefficient(self, i: int, batches: int) -> float:
        """The side branches' weight at iteration i = 1 … epochs * batches (Eq. 6, 7, 10)."""
        now, total = i, self.epochs * batches
        if self.lam_clock == "epoch":  # D16
            now, total = (i - 1) // batches + 1, self.epochs
        return get_ops("numpy").side_coefficient(
            self.method, now, total, self.lam, self.shortcut_weight
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_type(name: str, value: Any, default: Any) -> None:
    """Settings may come from a file: a number must be a number, and True is none."""
    wanted = float if default is None else type(default)
    allowed = (int, float) if wanted is float else (wanted,)
    fits = isinstance(value, allowed) and isinstance(value, bool) == (wanted is bool)
    if fits or (value is None and default is None):
        return
    raise TypeError(f"{name}: got {validate.shown(value)}, want a value of type {wanted.__name__}")


def check_precision(name: str, value: Any, dtype: str) -> None:
    """ValueError where a number is finite, or not 0, in double precision alone."""
    if isinstance(value, float):
        with np.errstate(over="ignore", under="ignore"):
            rounded = np.dtype(dtype).type(value)
        if not np.isfinite(rounded) or (rounded == 0) != (value == 0):
            raise ValueError(f"{name}: got {value!r}, which {dtype} rounds to {rounded:g}")


#: A preset names what it changes against the defaults (which are the paper's neuron and
#: optimiser, sized to the digits).
PRESETS: dict[str, dict[str, Any]] = {
    "digits": {},
    "paper": {
        "tau": 0.5,
        "v_th": 1.0,
        "surrogate": "tanh",
        "optimizer": "adamw",
        "lr": 0.01,
        "weight_decay": 0.02,
        "decay_all": True,
        "batch_size": 128,
        "epochs": 300,
        "steps": 4,
    },  # D17
    "authors_code": {
        "tau": 0.25,
        "v_th": 0.5,
        "surrogate": "rectangular",
        "optimizer": "sgd",
        "lr": 0.1,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "decay_all": False,
        "batch_size": 128,
        "epochs": 300,
        "steps": 4,
    },  # D1  # D4  # D17
}


def make_config(preset: str, given: dict[str, Any]) -> TrainConfig:
    """The preset's settings with the `given` ones over them."""
    validate.one_of("preset", preset, PRESETS)
    return from_dict(PRESETS[preset] | given)


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """ValueError for a name that is no setting."""
    known = [item.name for item in fields(TrainConfig)]
    for name in values:
        validate.one_of("setting", name, known)
    return TrainConfig(**values)
