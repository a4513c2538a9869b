"""Inference on a run: Algorithm 1's second half, with the side branches removed."""

from functools import partial
from pathlib import Path
from typing import Any

from refsnn.data import Loader, in_order, load
from refsnn.network import without_branches
from refsnn.ops import get_ops
from refsnn.training.algorithm import evaluate
from refsnn.training.folder import load_state, read_config
from refsnn.training.trainer import network_for


def evaluate_run(folder: Path, workers: int | None = None) -> dict[str, Any]:
    """Compute accuracy and loss on the held-out split; return them with facts about the run."""
    config = read_config(folder)
    make = partial(load, config.data.dataset, config.data_options(begun=True))
    dataset = make()
    net = network_for(config, dataset)
    state = load_state(folder, config, net)
    with Loader(dataset, make, workers) as loader:
        batches = loader.batches("test", in_order(len(dataset.test.labels)), config.dtype)
        result: dict[str, Any] = evaluate(state, net, config, get_ops(config.ops), batches)
    kept = without_branches(net, state.params)[0].count_parameters()
    return result | {
        "images": len(dataset.test.labels),
        "dataset": dataset.name,
        "arch": config.network.arch,
        "method": config.objective.method,
        "iteration": state.iteration,
        "parameters": kept,
        "parameters_removed": net.count_parameters() - kept,
    }
