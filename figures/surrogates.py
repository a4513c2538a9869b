"""The surrogate slopes of Eq. 4, their primitives, the rectangle's edge (D4), both tanhs (D5)."""

import sys
from typing import Any

import numpy as np
from _style import BLACK, BLUE, GREEN, GREY, VERMILION, WIDE, main, printed
from matplotlib.figure import Figure

from refsnn.ops import Surrogate, make_surrogate, validate

LINES: dict[str, dict[str, Any]] = {
    "triangular": {"color": GREEN, "linestyle": "-."},
    "rectangular": {"color": BLUE, "linestyle": "--"},
    "tanh": {"color": BLACK, "linestyle": "-"},
    "tanh_literal": {"color": VERMILION, "linestyle": ":"},
}
LABELS = {
    "triangular": "triangular, γ = {}",
    "rectangular": "rectangular, a = {}",
    "tanh": "tanh, k = {}",
    "tanh_literal": "as printed, k = {}",
}


def compute(
    gamma: float = 1.0, a: float = 1.0, k: float = 0.5, v_th: float = 1.0, reach: float = 3.0
) -> dict[str, Any]:
    """Compute slope and primitive of each surrogate at x = u_pre - v_th from -reach to reach.

    Also compute the rectangle's slope on its edges, |x| = a/2.
    """
    validate.positive("v_th", v_th)
    validate.positive("reach", reach)
    shapes = {"triangular": gamma, "rectangular": a, "tanh": k, "tanh_literal": k}
    edges = np.array([-a / 2, a / 2])
    beside = [
        np.nextafter(edges, way) for way in (-np.inf, np.inf)
    ]  # makes the rectangle's sides vertical
    x = np.unique(np.concatenate([np.linspace(-reach, reach, 301), edges, *beside]))
    curves = {}
    for name, shape in shapes.items():
        surrogate: Surrogate = make_surrogate(name, shape)
        slope, primitive = surrogate.slope(x, v_th), surrogate.primitive(x, v_th)
        curves[name] = {"shape": shape, "slope": slope.tolist(), "primitive": primitive.tolist()}
    at_edge = {
        rule: make_surrogate("rectangular", a, rule).slope(edges, v_th).tolist()
        for rule in ("outside", "inside")
    }
    return {"x": x.tolist(), "curves": curves, "edges": edges.tolist(), "at_edge": at_edge}


@printed
def draw(data: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(WIDE, 2.9))
    slopes, primitives, readings = figure.subplots(1, 3)

    def line(axes: Any, name: str, function: str) -> None:
        curve = data["curves"][name]
        label = LABELS[name].format(f"{curve['shape']:g}")
        axes.plot(data["x"], curve[function], label=label, **LINES[name])

    for name in ("triangular", "rectangular", "tanh"):
        line(slopes, name, "slope")
        line(primitives, name, "primitive")
    for rule, marker, face in (("outside", "o", "white"), ("inside", "s", BLUE)):
        slopes.plot(
            data["edges"],
            data["at_edge"][rule],
            linestyle="",
            marker=marker,
            color=BLUE,
            markerfacecolor=face,
            markersize=4,
            label=f"|x| = a/2, {rule}",
        )
    reach = data["x"][-1]
    primitives.plot(
        [-reach, 0, 0, reach], [0, 0, 1, 1], color=GREY, linewidth=2.5, zorder=1, label="spike"
    )
    for name in ("tanh", "tanh_literal"):
        line(readings, name, "slope")
    slopes.set_title("Eq. 4: slopes")
    primitives.set_title("their primitives")
    readings.set_title("D5: as intended and as printed")
    for axes in (slopes, primitives, readings):
        axes.set_xlabel(r"$u_{\mathrm{pre}} - v_{\mathrm{th}}$")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    slopes.set_ylabel("slope h")
    for axes in (slopes, primitives):
        axes.set(ylim=(-0.05, 1.1))
    readings.set(ylim=(-0.1, 2.2))
    return figure


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
