"""The first layer's gradient against depth, and dL/du_pre layer by layer, at initialisation.

Networks have 16-32-64 channels and 6 n + 2 layers. Lines are geometric means over seeds, bands
extend from the smallest to the largest value.
"""

import sys
from typing import Any

import numpy as np
from _gradients import SIDES, delta_norms, fresh, log10_norm, of_depth, one_thread, unfused
from _style import GREY, METHOD_LINES, WIDE, main, printed
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from refsnn.data import load
from refsnn.network import Network
from refsnn.ops import LIF, make_surrogate, validate
from refsnn.training.monitor import first_gradient_norm

#: what weight the side branches have, by method
WEIGHTS = {"vanilla": "vanilla", "shortcut": "shortcut, weight {:g}"}
WEIGHTS["evolutionary"] = "evolutionary, λ = {:g}"


@one_thread()
def compute(
    depths: tuple[int, ...] = (8, 14, 20, 32, 44, 56),
    seeds: int = 5,
    batch_size: int = 64,
    steps: int = 4,
    surrogate: str = "tanh",
    dataset: str = "digits",
) -> dict[str, Any]:
    """Compute log10 of norms by method: of dL/dW_1 (depth, seed) and dL/du_pre (seed, layer).

    The latter is for the deepest network.
    """
    validate.whole("seeds", seeds, 1)
    data, lif = load(dataset), LIF(surrogate=make_surrogate(surrogate))
    first: dict[str, list[list[float]]] = {method: [] for method in SIDES}
    for arch in [of_depth(depth) for depth in sorted(depths)]:
        layers: dict[str, list[list[float]]] = {method: [] for method in SIDES}
        for method in SIDES:
            first[method].append([])
        for seed in range(seeds):
            run, labels = fresh(arch, data, lif, seed, batch_size, steps, unfused())
            for method, side in SIDES.items():
                grads, deltas = delta_norms(run, labels, side)
                first[method][-1].append(log10_norm("dL/dW_1", first_gradient_norm(grads)))
                layers[method].append([log10_norm(name, x) for name, x in deltas.items()])
    return {
        "depths": sorted(depths),
        "first": first,
        "layers": layers,
        "names": list(deltas),
        "branches": branch_layers(run.context.net, list(deltas)),
        "seeds": seeds,
        "sides": SIDES,
        "setting": f"{data.name}, batch of {batch_size}, T = {steps}, {surrogate}",
    }


def branch_layers(net: Network, names: list[str]) -> list[int]:
    """Return the numbers, from 1, of the layers of neurons at which side branches leave."""
    sides = [block for block in net.blocks() if block.branch not in (None, "head")]
    return [names.index(f"{block.name}.lif2") + 1 for block in sides]


@printed
def draw(data: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDE, 2.9))
    left, right = figure.subplots(1, 2)
    for method, side in data["sides"].items():
        label, by_depth = WEIGHTS[method].format(side), np.array(data["first"][method]).T
        band(left, data["depths"], by_depth, label, METHOD_LINES[method])
        by_layer = np.array(data["layers"][method])
        numbers = np.arange(1, by_layer.shape[1] + 1)
        band(right, numbers, by_layer, label, METHOD_LINES[method] | {"marker": ""})
    for number in data["branches"]:
        right.axvline(number, color=GREY, linestyle=":", linewidth=1, zorder=0)
    left.set(xlabel="layers of the network", xticks=data["depths"], ylabel="norm of ∂L/∂W₁")
    right.set(xlabel="layer of neurons, from the input", ylabel=r"norm of ∂L/∂$u_{\mathrm{pre}}$")
    left.set_title(f"{data['setting']}")
    right.set_title(f"{data['depths'][-1]} layers; dotted: where side branches leave")
    for axes in (left, right):
        axes.set_yscale("log")
    between = Patch(color=GREY, alpha=0.4, linewidth=0)
    lines, labels = left.get_legend_handles_labels()
    seeds = f"lowest to highest of {data['seeds']} seeds"
    left.legend([*lines, between], [*labels, seeds])
    return figure


def band(axes: Any, x: Any, logs: Any, label: str, line: dict[str, Any]) -> None:
    """Draw the mean and the range over the first axis of logs (seed, x)."""
    axes.plot(x, 10.0 ** logs.mean(axis=0), label=label, **line)
    axes.fill_between(
        x,
        10.0 ** logs.min(axis=0),
        10.0 ** logs.max(axis=0),
        color=line["color"],
        alpha=0.2,
        linewidth=0,
    )


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
