"""Inference on a run: Algorithm 1's second half, with the side branches taken off."""

from pathlib import Path
from typing import Any

from refsnn.data import load
from refsnn.network import without_branches
from refsnn.ops import get_ops
from refsnn.training.algorithm import evaluate
from refsnn.training.run import load_state, network_for, read_config


def evaluate_run(folder: Path) -> dict[str, Any]:
    """Accuracy and loss on the held-out split, and what was removed."""
    config = read_config(folder)
    dataset = load(config.dataset)
    net = network_for(config, dataset)
    state = load_state(folder, config, net)
    result: dict[str, Any] = evaluate(state, net, config, get_ops(config.ops), dataset)
    kept = without_branches(net, state.params)[0].count_parameters()
    return result | {
        "images": len(dataset.test.labels),
        "dataset": dataset.name,
        "arch": config.arch,
        "method": config.method,
        "iteration": state.iteration,
        "parameters": kept,
        "parameters_removed": net.count_parameters() - kept,
    }
