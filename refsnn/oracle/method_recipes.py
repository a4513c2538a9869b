"""The test vectors' recipes of other methods, which are made where these are declared."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.oracle import draws
from refsnn.oracle.cases import Recipe
from refsnn.oracle.conventions import Conventions, Value
from refsnn.oracle.draws import Draw
from refsnn.oracle.method_neuron import FURTHER, REQUIRED
from refsnn.oracle.methods import CHOICES, required

RECTANGLE: dict[str, Value] = {"surrogate": "rectangular", "surrogate_shape": 1.0}
TRIANGLE: dict[str, Value] = {"surrogate": "triangular", "surrogate_shape": 1.0}
AUTHORS: dict[str, Value] = {**RECTANGLE, "tau": 0.25, "v_th": 0.5}  # D1, D4
NEURON = "EQ1 EQ2 EQ3 EQ4"  # clauses that every case with neurons checks
#: a method -> its clauses
CLAUSES = {
    **{"tebn": "TEBN", "bntt": "BNTT", "psp": "PSPBN M15", "ms": "MS"},
    **dict.fromkeys(("sew_add", "sew_and", "sew_iand"), "SEW"),
    **{"im": "IMLOSS M10", "mpd_reconstructed": "MPD M12", "logits": "KDSNN M16"},
}


#: level -> the usual recipes that are made of methods too, under their names
TAKEN = {
    "layer": "plain pointwise one-step few-values small-input rectangle evaluation fresh",
    "block": "identity stride widen one-step rectangle evaluation fresh",
    "network": "vanilla shortcut evolutionary by-block one-step rectangle evaluation fresh",
}


def of_methods(level: str, usual: Iterable[Recipe], declared: Conventions) -> Iterator[Recipe]:
    """Yield the recipes of the declared methods at a level: neurons' own, or the usual ones."""
    if level == "neuron":
        yield from neurons(declared)
        return
    names = [
        name
        for choice, methods in CHOICES.items()
        if (name := str(declared.get(choice))) in methods and level in methods[name].new
    ]
    methods = {choice: declared[choice] for choice in CHOICES if choice in declared}
    fixed = {name: v for name, v in required(declared).items() if name not in declared}
    for recipe in usual:
        name = recipe.id.removeprefix(f"{level}/")
        if name in TAKEN[level].split():
            yield replace(
                recipe,
                id=f"{level}/{'-'.join([*names, name]).replace('_', '-')}",
                draw=drawn_for(level, names, recipe.draw),
                clauses=" ".join(clauses_of(names, recipe)),
                given={**methods, **fixed, **recipe.given},
            )


def drawn_for(level: str, names: Iterable[str], draw: Draw) -> Draw:
    """Return a draw with the inputs and parameters that methods have in place of the usual ones."""
    for name in names:
        if name in draws.NORM_PARAMS:
            draw = draws.normed_layer(name, draw)
        elif name == "ms" and level == "block":  # a network's inputs are images
            draw = draws.of_currents(draw)
        elif name == "logits":
            draw = draws.taught(draw)
    return draw


def clauses_of(names: Iterable[str], recipe: Recipe) -> list[str]:
    """Return the clauses of a recipe with those of the methods in place of the usual ones."""
    training, found = recipe.settings["training"], recipe.clauses.split()
    for name in names:
        in_block = name in CHOICES["block"]
        if in_block or name in CHOICES["norm_model"]:
            found = [clause for clause in found if clause != ("EQ5" if in_block else "D8")]
        if in_block or name in CHOICES["norm_model"] or training:  # a loss is of training alone
            found += CLAUSES[name].split()
        if name == "ms" and recipe.settings.get("branches", "none") != "none":
            found.append("M5")
    return found


#: model -> the clauses of its neurons, how to draw its parameters, mean and deviation of currents
NEURONS: dict[str, tuple[str, draws.Params, float, float]] = {
    "plif": ("PLIF M7", draws.plif_params, 1.0, 1.8),
    "glif": ("GLIF", draws.glif_params, 0.7, 1.2),
    "diet": ("DIET M8", draws.diet_params, 0.4, 0.9),
    "mpbn": ("MPBN M6", draws.mpbn_params, 0.3, 1.0),
    "real_spike": ("REALSPIKE M13", draws.real_spike_params, 0.5, 0.9),
}


def neurons(declared: Conventions) -> Iterator[Recipe]:
    """Yield the recipes of another method's neurons."""
    model = str(declared["neuron_model"])
    own, params, mean, std = NEURONS[model]
    trained = {"training": True} if model == "mpbn" else {}

    def recipe(
        name: str,
        summary: str,
        draw: Draw,
        flags: str = "",
        given: dict[str, Value] | None = None,
        more: str = "",
        settings: dict[str, Any] | None = None,
        n: int = 8,
        repeat: int = 1,
        exact: bool = False,
        set_to: dict[str, float] | None = None,
    ) -> Recipe:
        def drawn(rng: np.random.Generator) -> dict[str, Any]:
            x = draws.with_params(draw, params, n)(rng)
            return x | {k: np.full_like(x[k], value) for k, value in (set_to or {}).items()}

        return Recipe(
            f"neuron/{model.replace('_', '-')}{name}",
            summary,
            drawn,
            f"EQ2 EQ3 EQ4 D3 {own} {more}".strip(),
            f"LEAK RESET RESET_GRADIENT SURROGATE {flags}".strip(),
            {"neuron_model": model, **REQUIRED.get(model, {}), **(given or {})},
            trained if settings is None else settings,
            repeat,
            exact,
        )

    def currents(steps: int, n: int = 40) -> Draw:
        return draws.currents(steps, n, mean, std)

    yield recipe("", "random currents", currents(6))
    yield recipe("-one-step", "T = 1", currents(1), "ONE_STEP")
    for steps, name in ((2, "two"), (3, "three")):
        last = draws.last_step(steps, 120, mean, std)
        yield recipe(f"-{name}-steps", "the loss sees the last step only", last)
    yield recipe("-rectangle", "another surrogate", currents(6), given=RECTANGLE)
    yield recipe("-triangle", "another surrogate", currents(6), given=TRIANGLE)
    if "v_th" in FURTHER[model]:
        yield recipe("-threshold-0.5", "another threshold", currents(6), given={"v_th": 0.5})
    if "tau" in FURTHER[model]:
        yield recipe("-leak-0.75", "another leak", currents(6), given={"tau": 0.75})
    if model != "mpbn":  # whose batch norm makes one potential 0
        yield recipe("-one-neuron", "one image, one channel", currents(20, 1), "ONE_NEURON", n=1)
    yield recipe("-fresh", "two runs", currents(4), "STATE_KEPT", more="D6", repeat=2)
    if model in EXACT:
        yield recipe(
            "-tie",
            "binary fractions, many on the threshold",
            draws.on_grid(6, 64, 1 / 2),
            "THRESHOLD_TIE",
            more="D2",
            exact=True,
            set_to=EXACT[model],
        )
    if model == "mpbn":
        yield recipe(
            "-evaluation", "running statistics in use", currents(6), settings={"training": False}
        )


#: parameters with which a neuron does not round binary fractions
EXACT = {
    "plif": {"w": 0.0},
    "diet": {"leak": 0.5, "v_th": 1.0},
    "real_spike": {"a": 1.5},
}
