"""The first layer's gradient against depth, by kind of block and by batch norm, at initialisation.

Networks have 16-32-64 channels, 6 n + 2 layers and no side branches. Lines are geometric means over
seeds, bands extend from the smallest to the largest value. A line ends where no gradient arrives
with some seed, since no spike does.
"""

import sys
from typing import Any

import numpy as np
from _gradients import fresh, log10_norm, of_depth, one_thread, pull_back
from _style import BLACK, BLUE, GREEN, GREY, VERMILION, WIDE, main, printed
from gradient_by_depth import band
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from refsnn.data import load
from refsnn.ops import LIF, NORMS, get_ops, make_surrogate, validate
from refsnn.training.monitor import first_gradient_norm

#: networks by the line's label: those of the left panel, and of the right one
PANELS: tuple[dict[str, dict[str, Any]], ...] = (
    {
        "paper's block": {},
        "SEW ADD": {"block": "sew_add"},
        "SEW AND": {"block": "sew_and"},
        "SEW IAND": {"block": "sew_iand"},
        "MS": {"block": "ms"},
    },
    {
        "batch norm": {},
        "tdBN": {"merge_scale": 0.5**0.5, "norm_identity": True},
        "TEBN": {"norm_model": NORMS["tebn"]()},
        "BNTT": {"norm_model": NORMS["bntt"]()},
        "PSP-BN": {"norm_model": NORMS["psp"]()},
    },
)
TITLES = "kinds of blocks, with batch norm", "batch norms, with the paper's block"
COLORS = BLACK, BLUE, VERMILION, GREEN, GREY
STYLES = [
    {"color": color, "linestyle": style, "marker": marker}
    for color, style, marker in zip(COLORS, ("-", "--", "-.", ":", "-"), "os^dv", strict=True)
]


@one_thread()
def compute(
    depths: tuple[int, ...] = (8, 14, 20, 32, 44, 56),
    seeds: int = 5,
    batch_size: int = 64,
    steps: int = 4,
    surrogate: str = "tanh",
    dataset: str = "digits",
) -> dict[str, Any]:
    """Compute log10 of the norm of dL/dW_1 (depth, seed) of each network, by panel and label."""
    validate.whole("seeds", seeds, 1)
    data, lif, ops = load(dataset), LIF(surrogate=make_surrogate(surrogate)), get_ops("numba")
    depths = tuple(sorted(depths))

    def measured(depth: int, seed: int, network: dict[str, Any]) -> float | None:
        given = of_depth(depth), data, lif, seed, batch_size, steps, ops
        run, labels = fresh(*given, branches="none", **network)
        norm = first_gradient_norm(pull_back(run, labels, 0.0))
        return log10_norm("dL/dW_1", norm) if norm else None

    return {
        "depths": depths,
        "panels": [
            {
                label: [
                    [measured(depth, seed, network) for seed in range(seeds)] for depth in depths
                ]
                for label, network in panel.items()
            }
            for panel in PANELS
        ],
        "seeds": seeds,
        "setting": f"{data.name}, batch of {batch_size}, T = {steps}, {surrogate}",
    }


@printed
def draw(data: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDE, 3.5))
    between = Patch(color=GREY, alpha=0.4, linewidth=0)
    for axes, panel, title in zip(
        figure.subplots(1, 2, sharey=True), data["panels"], TITLES, strict=True
    ):
        for (label, values), line in zip(panel.items(), STYLES, strict=True):
            band(axes, data["depths"], np.array(values, float).T, label, line)
        axes.set(xlabel="layers of the network", xticks=data["depths"], title=title, yscale="log")
        lines, labels = axes.get_legend_handles_labels()
        named = [*lines, between], [*labels, f"lowest to highest of {data['seeds']} seeds"]
        axes.legend(*named, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    figure.axes[0].set_ylabel("norm of ∂L/∂W₁")
    figure.suptitle(data["setting"])
    return figure


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
