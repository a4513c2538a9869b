"""The test vectors' recipes of other methods, which are made where these are declared."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from refsnn.oracle import draws
from refsnn.oracle.cases import Recipe
from refsnn.oracle.conventions import Conventions, Value, make_conventions
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


def asked(declared: Conventions, level: str, given: dict[str, Value]) -> dict[str, Value]:
    """Return the conventions of a case of the declared methods."""
    methods = {choice: declared[choice] for choice in CHOICES if choice in declared}
    fixed = {name: v for name, v in required(declared).items() if name not in declared}
    return {**methods, **fixed, **given}


def names_of(declared: Conventions, level: str) -> list[str]:
    """Return the declared methods that have cases at a level."""
    return [
        str(declared[choice])
        for choice, methods in CHOICES.items()
        if (method := methods.get(str(declared.get(choice)))) and level in method.new
    ]


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


def layers(declared: Conventions) -> Iterator[Recipe]:
    """Yield the recipes of a layer with another norm."""
    (model,) = names_of(declared, "layer")

    def recipe(
        name: str,
        summary: str,
        shape: tuple[int, ...],
        kernel: int = 3,
        stride: int = 1,
        flags: str = "",
        given: dict[str, Value] | None = None,
        training: bool = True,
        scale: float = 1,
        repeat: int = 1,
    ) -> Recipe:
        padding = kernel // 2
        settings = {"stride": stride, "padding": padding, "training": training}
        draw = draws.layer(shape, 4, kernel, stride, padding, scale)
        clauses = f"{NEURON} {CLAUSES[model]} D9 {'D25' if training else 'ALG1-INFER'}"
        return Recipe(
            f"layer/{model}{name}",
            summary,
            draws.normed_layer(model, draw),
            clauses,
            flags,
            asked(declared, "layer", given or {}),
            settings,
            repeat,
        )

    flags = "NORM_AXES NORM_VARIANCE NORM_GRADIENT RUNNING_STATISTICS"
    yield recipe("", "height and width differ", (3, 2, 3, 6, 5), flags=flags)
    yield recipe("-pointwise", "1x1 convolution of stride 2", (3, 2, 4, 5, 6), kernel=1, stride=2)
    yield recipe("-one-step", "T = 1", (1, 3, 3, 5, 4), flags="ONE_STEP")
    few = "NORM_VARIANCE RUNNING_STATISTICS"
    yield recipe("-few-values", "statistics of few values", (2, 2, 3, 1, 2), flags=few)
    yield recipe(
        "-small-input", "inputs so small that eps counts", (2, 2, 3, 5, 4), scale=0.004, flags=flags
    )
    yield recipe("-rectangle", "another surrogate", (3, 2, 3, 4, 5), given=RECTANGLE)
    yield recipe(
        "-evaluation", "running statistics in use", (3, 2, 3, 5, 4), training=False, flags=few
    )
    yield recipe("-fresh", "two runs", (3, 2, 2, 4, 5), flags="STATE_KEPT", repeat=2)


def blocks(declared: Conventions) -> Iterator[Recipe]:
    """Yield the recipes of another block."""
    (kind,) = names_of(declared, "block")

    def recipe(
        name: str,
        summary: str,
        draw: Draw,
        flags: str = "",
        stride: int = 1,
        given: dict[str, Value] | None = None,
        training: bool = True,
        repeat: int = 1,
    ) -> Recipe:
        return Recipe(
            f"block/{kind.replace('_', '-')}-{name}",
            summary,
            draws.of_currents(draw) if kind == "ms" else draw,
            f"{CLAUSES[kind]} D9 {NEURON} {'D8 D25' if training else 'ALG1-INFER'}",
            flags,
            asked(declared, "block", given or {}),
            {"stride": stride, "training": training},
            repeat,
        )

    yield recipe("identity", "identity skip", draws.block(3, 2, 4, 4, 5, 4, 1), "SKIP")
    yield recipe(
        "stride", "stride 2, strided skip", draws.block(2, 3, 3, 4, 6, 5, 2), "SKIP", stride=2
    )
    yield recipe("widen", "more channels, same size", draws.block(2, 2, 3, 5, 4, 5, 1), "SKIP")
    yield recipe("one-step", "T = 1", draws.block(1, 3, 4, 4, 4, 5, 1), "ONE_STEP")
    yield recipe(
        "rectangle", "another surrogate", draws.block(3, 2, 4, 4, 4, 5, 1), given=RECTANGLE
    )
    yield recipe(
        "evaluation",
        "running statistics in use",
        draws.block(2, 2, 3, 4, 6, 5, 2),
        stride=2,
        training=False,
    )
    yield recipe("fresh", "two runs", draws.block(3, 2, 3, 3, 4, 5, 1), "STATE_KEPT", repeat=2)


def networks(declared: Conventions) -> Iterator[Recipe]:
    """Yield the recipes of networks with other blocks, losses of potentials or a teacher."""
    names = names_of(declared, "network")
    base = {
        "depths": [1, 1],
        "widths": [3, 4],
        "stem_width": 3,
        "branches": "stage",
        "side": 0.25,
        "steps": 3,
        "training": True,
    }

    def recipe(
        name: str,
        summary: str,
        clauses: str,
        flags: str = "",
        given: dict[str, Value] | None = None,
        repeat: int = 1,
        **changed: Any,
    ) -> Recipe:
        settings, own = base | changed, asked(declared, "network", given or {})
        draw = draws.network(settings, (3, 2, 6, 6), 4, conventions=make_conventions(own))
        if "logits" in names:
            draw = draws.taught(draw)
        trained = f"{NEURON} D8 D25 {clauses}" if settings["training"] else f"EQ1 EQ2 {clauses}"
        block = "" if any(n in CHOICES["block"] for n in names) else "EQ5"
        of_methods = " ".join(
            CLAUSES[n] for n in names if settings["training"] or n in CHOICES["block"]
        )
        of_methods += " M5" if "ms" in names and settings["branches"] != "none" else ""
        return Recipe(
            f"network/{'-'.join(names).replace('_', '-')}-{name}",
            summary,
            draw,
            " ".join(dict.fromkeys(f"{of_methods} {block} D9 D10 {trained}".split())),
            flags,
            own,
            settings,
            repeat,
        )

    eq9 = "EQ8 EQ9 D7 D11 D12"
    yield recipe("vanilla", "no side branches", f"EQ7 {eq9}", branches="none", side=0.0)
    yield recipe(
        "shortcut",
        "side branches with coefficient 1",
        f"EQ6 {eq9} D13 D14",
        "BRANCHES",
        side=1.0,
    )
    yield recipe(
        "evolutionary",
        "side branches with coefficient 0.25",
        f"EQ10 {eq9} D13",
        "BRANCHES T_MEAN_T_SUM",
    )
    yield recipe(
        "by-block",
        "a side branch after every block",
        "EQ6 D11 D13",
        "BRANCHES",
        branches="block",
        depths=[2, 1],
        side=0.5,
    )
    yield recipe("one-step", "T = 1", f"EQ10 {eq9} D13", "ONE_STEP", steps=1)
    yield recipe("rectangle", "another surrogate", f"EQ10 {eq9} D13", given=RECTANGLE)
    yield recipe("fresh", "two runs: no state is kept", "EQ10 D6 D13", "STATE_KEPT", repeat=2)
    if any(name in CHOICES["block"] for name in names):
        yield recipe(
            "evaluation",
            "main branch alone, running statistics",
            "ALG1-INFER",
            training=False,
            branches="none",
            side=0.0,
        )


METHODS_OF_LEVEL: dict[str, Callable[[Conventions], Iterator[Recipe]]] = {
    "neuron": neurons,
    "layer": layers,
    "block": blocks,
    "network": networks,
}
