"""The files of a run folder, read and checked: its settings, its records, its checkpoint.

Errors name the file and the field.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.documents import read_json, read_json_lines, read_toml
from refsnn.files.schema import object_with
from refsnn.network import ALIGN, Network, check_params, init_buffers
from refsnn.ops import TET, Array, validate
from refsnn.training import checkpoint
from refsnn.training.checkpoint import CheckpointError, State
from refsnn.training.config import (
    TrainConfig,
    from_dict,
    make_config,
    renamed,
    settings_fields,
)
from refsnn.training.optimizer import init_state

COUNT, SHARE = {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0, "maximum": 1}
#: each class's accuracy; null for a class without an image
CLASSES = {"type": "array", "items": SHARE | {"type": ["number", "null"]}}
#: a row of metrics.jsonl; the test loss may have overflowed
METRICS = object_with(
    {
        "epoch": COUNT,
        "lambda": {"type": "number"},
        "lr": {"type": "number"},
        "images": COUNT,
        "seconds": {"type": "number", "exclusiveMinimum": 0},
        "iteration": COUNT,
        "loss": {"type": "number"},
        "train_accuracy": SHARE,
        "images_per_second": {"type": "number"},
        "first_layer_gradient_norm": {"type": "number"},
        "firing_rate": {"type": "object", "additionalProperties": {"type": "number"}},
        "test_accuracy": SHARE,
        "test_loss": {"type": "real"},
    },
    {
        "epochs": COUNT,  # of the run as it was planned in this epoch
        "validation_accuracy": SHARE,
        "validation_class_accuracy": CLASSES,
        "test_class_accuracy": CLASSES,
        "validation_loss": {"type": "real"},
        "gradient_norm": {"type": "object", "additionalProperties": {"type": "number"}},
        "surrogate_shape": {"type": "number"},
    },
)
LAST, BEST = "checkpoint.npz", "best.npz"

#: settings that older versions did not have, as they computed
LATER = {
    "any_range": False,
    "skip_unreadable": False,
    "loss": "cross_entropy",
    "validation": 0.0,
    "patience": 0,
    "reset": "zero",
    "reset_amount": None,
    "tet_lam": TET.lam,
    "tet_phi": None,
    "neuron_model": "lif",
    "norm_model": "bn",
    "plif_input_decay": True,
    "diet_reset_leaks": True,
    "norm_merge_scale": 1.0,
    "norm_identity": False,
    "block": "basic",
    "zero_init": False,
    "potential_loss": "none",
    "potential_lam": None,
    "surrogate_end": None,
    "psp_root": True,
    "surrogate_search": False,
    "search_eps": 0.1,
    "search_step": 0.2,
    "search_weights": 0,
    "teacher": "",
    "teacher_loss": "logits",
    "teacher_temperature": 4.0,
    "teacher_weight": None,
}


def read_config(folder: Path) -> TrainConfig:
    """Read config.json; ValueError says what is wrong with it, or that there is none."""
    path = folder / "config.json"
    try:
        values = read_json(path, {"type": "object"})
    except FileNotFoundError:
        raise ValueError(f"{folder}: no run there (config.json is missing)") from None
    except NotADirectoryError:
        raise ValueError(
            f"{folder}: got a file, want the folder of a run; refsnn.load reads exported files"
        ) from None
    known = {setting.name for _, setting in settings_fields()}
    try:
        if unknown := [name for name in renamed(values) if name not in known]:
            raise ValueError(
                f"setting: got {', '.join(map(repr, unknown))}, unknown to this version; the run "
                "may be of a newer one"
            )
        return from_dict(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings by name from a `.toml` file, or a `.json` file such as a run's config.json.

    In TOML they may stand in tables of their groups' names, such as [neuron]. ValueError names the
    file and the setting.
    """
    if path.suffix not in (".toml", ".json"):
        raise ValueError(f"config: got {path}, want a file ending in .toml or .json")
    values = (read_toml if path.suffix == ".toml" else read_json)(path, {"type": "object"})
    try:
        found = renamed(without_groups(values))
        make_config("digits", **found)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None
    return found


def without_groups(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings by name, also those in tables of their groups' names, such as [neuron].

    ValueError where a setting occurs twice.
    """
    groups, found = {group for group, _ in settings_fields()}, dict[str, Any]()
    for name, value in values.items():
        inner = value if name in groups and isinstance(value, dict) else {name: value}
        for one in inner.keys() & found.keys():
            raise ValueError(f"{one}: got it twice")
        found |= inner
    return found


def checkpoint_path(folder: Path, best: bool) -> Path:
    """Return where the run's last checkpoint is, or the best one by the images left out.

    ValueError where the run has no best one.
    """
    if best and not (folder / BEST).exists():
        raise ValueError(
            f"best: {folder} has no {BEST}; a run with --validation, such as 0.1, writes it"
        )
    return folder / (BEST if best else LAST)


def load_state(folder: Path, config: TrainConfig, net: Network, best: bool = False) -> State:
    """Read the run's last checkpoint, or its best; CheckpointError where it is of another run.

    It may be of fewer epochs than the settings: those of a run that goes on for longer than it was
    meant to.
    """
    path = checkpoint_path(folder, best)
    state, made_with = checkpoint.load(path)
    made_with = LATER | renamed(made_with)
    for name, value in config.to_dict().items():
        if name not in made_with:
            raise CheckpointError(f"{path}: meta: config: {name} is missing")
        had = made_with[name]
        longer = name == "epochs" and type(had) is int and had < value
        if had != value and not longer:
            had, now = validate.shown(had), validate.shown(value)
            raise CheckpointError(f"{path}: made with {name} {had}, config.json says {now}")
    try:
        check_params(net, state.params)
    except ValueError as error:
        has, want = state.params.get("head.fc.bias", np.empty(0)).size, net.num_classes
        if has and has != want:
            reason = f"{config.data.dataset} has {want} classes now, the run's network {has}"
            raise CheckpointError(f"{folder}: {reason}") from None
        raise CheckpointError(f"{path}: of another network ({error})") from None
    try:
        check_state(state, net, config)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None
    return state


def open_run(folder: Path, best: bool = False) -> tuple[TrainConfig, Network, State]:
    """Read settings, network and last or best checkpoint of a run, without looking at its data."""
    config, path = read_config(folder), checkpoint_path(folder, best)
    params = checkpoint.load(path)[0].params
    try:
        channels, classes = params["stem.conv0.weight"].shape[2], len(params["head.fc.bias"])
    except (KeyError, IndexError, TypeError):
        raise CheckpointError(f"{path}: holds no network of refsnn") from None
    aligned = params[ALIGN].shape[-1] if ALIGN in params else 0
    net = config.build_network(channels, classes, aligned)
    return config, net, load_state(folder, config, net, best)


def check_state(state: State, net: Network, config: TrainConfig) -> None:
    """Check that the state has the arrays of this network and optimiser; ValueError names one."""
    wanted = {
        "params": state.params,  # whose names and shapes are checked
        "buffers": init_buffers(net),
        "optimizer": init_state(state.params, config.optimizer),
    }
    for group, arrays in wanted.items():
        got = getattr(state, group)
        for name in sorted(arrays.keys() ^ got.keys()):
            raise ValueError(f"{group}: {name} is {'missing' if name in arrays else 'surplus'}")
        for name, array in arrays.items():
            if got[name].shape != array.shape or got[name].dtype != config.dtype:
                raise ValueError(
                    f"{group}: {name}: got {got[name].dtype} {got[name].shape}, "
                    f"want {config.dtype} {array.shape}"
                )
            least = 0 if name.startswith("square.") or name.endswith("running_var") else -np.inf
            if not (np.isfinite(got[name]) & (got[name] >= least)).all():
                wanted_numbers = "finite numbers" + " of at least 0" * (least == 0)
                raise ValueError(f"{group}: {name}: want {wanted_numbers}")
    if state.mean.size or state.std.size:  # version 0.1 did not keep them
        check_standardization(state.mean, state.std, net.in_channels)


def check_standardization(mean: Array, std: Array, channels: int) -> None:
    """Check mean and standard deviation of each channel; ValueError names the wrong one."""
    for name, values in (("mean", mean), ("std", std)):
        fits = values.shape == (channels,) and values.dtype == np.float64
        if not fits or not np.isfinite(values).all() or (name == "std" and (values <= 0).any()):
            wanted = "finite numbers" + " above 0" * (name == "std")
            raise ValueError(f"{name}: want {channels} {wanted} in float64, one for each channel")


def check_place(
    state: State, net: Network, images: Array, batches: int, config: TrainConfig
) -> None:
    """Check that training on the images of these indices can be where the state says.

    ValueError says what does not fit.
    """
    if state.iteration > config.epochs * batches:
        raise ValueError(
            f"iteration: got {state.iteration}, want at most {config.epochs * batches}"
        )
    position = state.iteration % batches
    if position == 0:
        return
    whole = state.order.dtype.kind in "iu" and state.order.shape == images.shape
    if not (whole and np.array_equal(np.sort(state.order), images)):
        raise ValueError(f"order: want each of the {len(images)} training images once")
    seen = position * config.batch_size
    ranges = {
        "steps": (position, position),
        "images": (seen, seen),
        "correct": (0, seen),
        "loss": (-np.inf, np.inf),  # one of your own may be negative
        "gradient_norm": (0, np.inf),
    } | {f"rate.{name}": (0, position) for name in net.neurons()}
    for name in sorted(ranges.keys() ^ state.sums.keys()):
        raise ValueError(f"sums: {name} is {'missing' if name in ranges else 'surplus'}")
    for name, (least, most) in ranges.items():
        if not least <= state.sums[name] <= most:
            raise ValueError(f"sums: {name}: got {state.sums[name]}, want {least} to {most}")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of metrics.jsonl; a last line that a crash cut off does not count."""
    path = folder / "metrics.jsonl"
    rows = read_json_lines(path, METRICS) if path.exists() else []
    for number, row in enumerate(rows, 1):
        if row["epoch"] != number:
            raise ValueError(f"{path}: line {number}: epoch: got {row['epoch']}, want {number}")
        if not row["firing_rate"]:
            raise ValueError(f"{path}: line {number}: firing_rate: got no layers")
        if row["firing_rate"].keys() != rows[0]["firing_rate"].keys():
            raise ValueError(f"{path}: line {number}: firing_rate: got other layers than in line 1")
    return rows
