"""The settings of a whole run: groups of settings, presets, and their flat form in files."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from refsnn.data.load import Options
from refsnn.network import Network
from refsnn.ops import Loss, get_ops, validate
from refsnn.training.recipes import PAPER, recipe_settings, recipes
from refsnn.training.settings import (
    DataSettings,
    NetworkSettings,
    NeuronSettings,
    NormSettings,
    ObjectiveSettings,
    OptimizerSettings,
    Settings,
    check_fields,
    setting,
)


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run, checked when made; see `make_config` for the flat form.

    TypeError or ValueError names the setting, what came and what was wanted.
    """

    network: NetworkSettings = field(default_factory=NetworkSettings)
    neuron: NeuronSettings = field(default_factory=NeuronSettings)
    norm: NormSettings = field(default_factory=NormSettings)
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    data: DataSettings = field(default_factory=DataSettings)
    steps: int = setting(2, "length T of the simulation", "time steps", least=1)
    epochs: int = setting(20, "passes over the training split", least=1)
    validation: float = setting(
        0.0,
        "share of each class's training images that are left out to find the best epoch; 0: none",
        least=0,
    )
    patience: int = setting(
        0,
        "epochs without a better accuracy on the images left out, after which training stops; "
        "0: never",
        least=0,
    )
    batch_size: int = setting(32, "images in a mini-batch", least=1)
    seed: int = setting(0, "seed of every random draw", least=0)
    dtype: str = setting("float32", "precision", choices=("float32", "float64"))
    ops: str = setting("numba", "kernels or reference equations", choices=("numba", "numpy"))
    memory: str = setting(
        "auto",
        "keep all for the backward pass (normal), or the spikes alone, and compute the rest again "
        "(low): same bits, less memory, more time; auto: low where a step would not fit",
        choices=("auto", "normal", "low"),
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if self.validation >= 1:
            raise ValueError(f"validation: got {self.validation!r}, want a share in [0, 1)")
        if self.patience and not self.validation:
            raise ValueError(
                f"patience: got {self.patience}, but validation is 0, so no images are left out to "
                "judge an epoch by; set validation too, such as 0.1"
            )
        self.make_loss()
        self.neuron.search()
        if self.objective.make_potential_loss() is not None and self.neuron.neuron_model != "lif":
            raise ValueError(
                f"potential_loss: got {self.objective.potential_loss}, but neuron_model is "
                f"{self.neuron.neuron_model}; want plain LIFs"
            )
        self.build_network(1, 2)  # the rest is checked where it belongs
        for name, value in self.to_dict().items():
            check_precision(name, value, self.dtype)

    def make_loss(self) -> Loss:
        """Return the loss; TET pulls the logits to the threshold where the settings say no phi."""
        return self.objective.make_loss(self.neuron.v_th)

    def build_network(self, in_channels: int, num_classes: int, aligned: int = 0) -> Network:
        """Return the network that is trained; vanilla training has no side branches (Eq. 7).

        `aligned` is the number of channels of the teacher's features, by default as many as the
        network's own.
        """
        arch = self.network.architecture()
        aligned = (aligned or arch.widths[-1]) if self.objective.learns_features else 0
        models = self.neuron.model(), self.norm.model()
        by_step = any(model is not None and model.by_step for model in models)
        return Network(
            arch,
            in_channels,
            num_classes,
            "none" if self.objective.method == "vanilla" else self.network.branches,
            self.neuron.lif(),
            self.norm.norm(),
            self.network.downsample,
            self.network.readout,
            *models,
            self.network.block,
            self.network.zero_init,
            self.norm.norm_merge_scale,
            self.norm.norm_identity,
            self.steps if by_step else 0,
            aligned,
        )

    def in_epoch(self, net: Network, epoch: int, shape: float | None = None) -> Network:
        """Return the network with the surrogate of an epoch, counted from 0 (ESG).

        `shape` is the surrogate's number if it was chosen for the epoch (DSPIKE).
        """
        if shape is not None:
            surrogate = self.neuron.with_shape(shape)
        elif self.neuron.surrogate_end is not None:
            surrogate = self.neuron.surrogate_in(epoch, self.epochs)
        else:
            return net
        return replace(net, lif=replace(net.lif, surrogate=surrogate))

    def data_options(self, begun: bool = False) -> Options:
        """Return the options of the run's data set.

        A run that has `begun` knows its data by a digest: whether its splits are in one unit was
        checked before, or not yet by the version that began it.
        """
        values = self.to_dict()
        options = {item.name: values[item.name] for item in fields(Options)}
        return Options(**options | {"any_range": self.data.any_range or begun})

    def side_coefficient(self, i: int, batches: int) -> float:
        """Return the side branches' weight at iteration i = 1 … epochs * batches (Eq. 6, 7, 10)."""
        objective, now, total = self.objective, i, self.epochs * batches
        if objective.lam_clock == "epoch":  # D16
            now, total = (i - 1) // batches + 1, self.epochs
        return get_ops("numpy").side_coefficient(
            objective.method, now, total, objective.lam, objective.shortcut_weight
        )

    def initial_side_coefficient(self) -> float:
        """Return the side branches' weight before the first iteration, by method."""
        objective = self.objective
        weights = {"vanilla": 0.0, "shortcut": objective.shortcut_weight}
        return weights.get(objective.method, objective.lam)

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name, as `config.json` holds them."""
        values: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            values |= vars(value) if isinstance(value, Settings) else {item.name: value}
        return values

    def changed(self, **given: Any) -> "TrainConfig":
        """Return these settings with the `given` ones, or a `recipe`, over them."""
        return make_config("digits", **overlaid(self.to_dict(), given))


def settings_fields() -> Iterator[tuple[str, Any]]:
    """List the settings: the name of each one's group ("run" for a run's own), and its field."""
    for item in fields(TrainConfig):
        if item.metadata:
            yield "run", item
        else:
            for inner in fields(item.default_factory):  # type: ignore[arg-type]
                yield item.name, inner


def check_precision(name: str, value: Any, dtype: str) -> None:
    """Check that a number stays finite, and not 0, in this precision; else ValueError."""
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
        "decay_on": "all",
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
        "decay_on": "weights",
        "batch_size": 128,
        "epochs": 300,
        "steps": 4,
    },  # D1  # D4  # D17
}


def make_config(preset: str = "digits", /, **given: Any) -> TrainConfig:
    """Return the preset's settings with the `given` ones over them.

    `recipe` among these is the name of a method, whose settings lie between the two. TypeError or
    ValueError names the setting that is unknown or has a wrong value.
    """
    validate.one_of("preset", preset, PRESETS)
    values, groups = overlaid(PRESETS[preset], given), dict[str, dict[str, Any]]()
    group_of = {item.name: (group, item) for group, item in settings_fields()}
    for name, value in values.items():
        if name not in group_of:
            raise ValueError(
                f"setting: got {validate.shown(name)}{validate.nearest(name, group_of)}"
            )
        groups.setdefault(group_of[name][0], {})[name] = value
    kinds = {item.name: item.default_factory for item in fields(TrainConfig) if not item.metadata}
    own = groups.pop("run", {})
    return TrainConfig(**{group: kinds[group](**part) for group, part in groups.items()}, **own)  # type: ignore[operator]


def overlaid(values: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with others over them; a recipe among these lies between the two.

    The number of one surrogate means nothing to another, so a surrogate that is given without one
    gets its usual one.
    """
    found = {name: x for name, x in values.items() if name != "recipe" or name not in given}
    rest = {name: value for name, value in given.items() if name != "recipe"}
    parts = [recipe_settings(given["recipe"]), rest] if "recipe" in given else [rest]
    for part in parts:
        if "surrogate" in part and found.get("surrogate", part["surrogate"]) != part["surrogate"]:
            for name in ("surrogate_shape", "surrogate_edge", "surrogate_end"):
                found.pop(name, None)
        found |= part
    return found


def decided_by_recipes() -> set[str]:
    """Return the names of the settings that recipes make."""
    return {name for recipe in recipes().values() for name in recipe.settings}


def recipe_of(values: Mapping[str, Any]) -> str | None:
    """Return the recipe that makes these settings, PAPER where they are the paper's, or None."""
    defaults = TrainConfig().to_dict()
    made = {PAPER: dict[str, Any]()} | {name: recipe.settings for name, recipe in recipes().items()}
    for name, settings in made.items():
        whole = defaults | settings
        if all(values.get(key, defaults[key]) == whole[key] for key in decided_by_recipes()):
            return name
    return None


#: settings as version 0.1 had them: the name now, and the value now for each then
RENAMED: dict[str, tuple[str, dict[Any, Any]]] = {
    "detach_reset": ("reset_gradient", {False: "full", True: "detached"}),
    "surrogate_edge": ("surrogate_edge", {False: "outside", True: "inside"}),
    "sum_of": ("branch_sum", {}),
    "decay_all": ("decay_on", {True: "all", False: "weights"}),
}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file by the names and values that they have now."""
    found = {}
    for name, value in values.items():
        now, meant = RENAMED.get(name, (name, {}))
        known = isinstance(value, bool) and value in meant
        found[now] = meant[value] if known else value
    return found


def from_dict(values: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that a file holds, of this version or of 0.1."""
    return make_config("digits", **renamed(values))
