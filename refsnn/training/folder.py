"""What a run folder holds, read and checked: its settings, its records, its checkpoint.

Errors name the file and the field.
"""

from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.documents import read_json, read_json_lines
from refsnn.files.schema import object_with
from refsnn.network import Network, check_params, init_buffers
from refsnn.ops import validate
from refsnn.training import checkpoint
from refsnn.training.checkpoint import CheckpointError, State
from refsnn.training.config import TrainConfig, from_dict
from refsnn.training.optimizer import init_state

COUNT, SHARE = {"type": "integer", "minimum": 0}, {"type": "number", "minimum": 0, "maximum": 1}
#: a row of metrics.jsonl; the test loss may have overflowed
METRICS = object_with({
    "epoch": COUNT, "lambda": {"type": "number"}, "lr": {"type": "number"}, "images": COUNT,
    "seconds": {"type": "number", "exclusiveMinimum": 0}, "iteration": COUNT,
    "loss": {"type": "number"}, "train_accuracy": SHARE, "images_per_second": {"type": "number"},
    "first_layer_gradient_norm": {"type": "number"},
    "firing_rate": {"type": "object", "additionalProperties": {"type": "number"}},
    "test_accuracy": SHARE, "test_loss": {"type": "real"},
})  # fmt: skip


def read_config(folder: Path) -> TrainConfig:
    """Read config.json; ValueError says what is wrong with it, or that there is none."""
    path = folder / "config.json"
    try:
        values = read_json(path, {"type": "object"})
    except FileNotFoundError:
        raise ValueError(f"{folder}: no run there (config.json is missing)") from None
    try:
        return from_dict(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from None


def load_state(folder: Path, config: TrainConfig, net: Network) -> State:
    """Read the run's checkpoint; CheckpointError where it is of another run."""
    path = folder / "checkpoint.npz"
    state, made_with = checkpoint.load(path)
    made_with = TrainConfig().to_dict() | made_with  # an older version had fewer settings
    for name, value in config.to_dict().items():
        if made_with[name] != value:
            had, now = validate.shown(made_with[name]), validate.shown(value)
            raise CheckpointError(f"{path}: made with {name} {had}, config.json says {now}")
    try:
        check_params(net, state.params)
        check_state(state, net, config)
    except ValueError as error:
        has, want = state.params.get("head.fc.bias", np.empty(0)).size, net.num_classes
        if has and has != want:
            reason = f"{config.dataset} has {want} classes now, the run's network {has}"
            raise CheckpointError(f"{folder}: {reason}") from None
        raise CheckpointError(f"{path}: of another network ({error})") from None
    return state


def check_state(state: State, net: Network, config: TrainConfig) -> None:
    """Check that the state has the arrays of this network and optimiser; ValueError names one."""
    wanted = {
        "params": state.params,  # whose names and shapes are checked
        "buffers": init_buffers(net),
        "optimizer": init_state(state.params, config),
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


def check_place(state: State, count: int, batches: int, config: TrainConfig) -> None:
    """Check that training on `count` images can be where the state says; else ValueError."""
    if state.iteration > config.epochs * batches:
        raise ValueError(
            f"iteration: got {state.iteration}, want at most {config.epochs * batches}"
        )
    position = state.iteration % batches
    if position == 0:
        return
    if state.order.dtype.kind not in "iu" or not np.array_equal(
        np.sort(state.order, axis=None), np.arange(count)
    ):
        raise ValueError(f"order: want each of the {count} training images once")
    done = {"steps": position, "images": position * config.batch_size}
    for name in ("steps", "images", "loss", "correct", "gradient_norm"):
        got = state.sums.get(name)
        if got is None or got != done.get(name, got):
            raise ValueError(f"sums: {name}: got {got}, want {done.get(name, 'a number')}")


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Read the rows of metrics.jsonl; a last line that a crash cut off does not count."""
    path = folder / "metrics.jsonl"
    rows = read_json_lines(path, METRICS) if path.exists() else []
    for number, row in enumerate(rows, 1):
        if row["epoch"] != number:
            raise ValueError(f"{path}: line {number}: epoch: got {row['epoch']}, want {number}")
        if row["firing_rate"].keys() != rows[0]["firing_rate"].keys():
            raise ValueError(f"{path}: line {number}: firing_rate: got other layers than in line 1")
    return rows
