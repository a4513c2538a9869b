"""The test vectors' recipes, level by level, with cases for the usual mistakes of this field."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.oracle import draws
from refsnn.oracle.cases import MARGIN, Recipe, critical_potentials
from refsnn.oracle.compute import overridden
from refsnn.oracle.conventions import (
    LEVELS,
    VARIED,
    Conventions,
    Value,
    make_conventions,
)
from refsnn.oracle.draws import Draw
from refsnn.oracle.method_recipes import AUTHORS, NEURON, RECTANGLE, TRIANGLE, of_methods
from refsnn.oracle.methods import at_level, levels_of
from refsnn.oracle.slopes import is_own, jumps_of
from refsnn.oracle.variant_neuron import gain_of, leak_of

LITERAL: dict[str, Value] = {"surrogate": "tanh_literal", "surrogate_shape": 0.5}


#: inputs that set the size of currents
CURRENTS = re.compile(r"c|v|(.*\.)?bn\d*\.(weight|bias)")


def recipes(
    levels: Iterable[str] = LEVELS, declared: Conventions | None = None
) -> Iterator[Recipe]:
    """Yield all recipes of these levels, in the order of levels, under declared conventions.

    A recipe that asks for another value of a declared convention is left out, and so is one that
    needs exact arithmetic where the declared numbers round. Connections among neurons leave only
    the surrogates and the recurrent neurons, and declared methods their own cases and those of
    lower levels.
    """
    declared = declared or {}
    left = ("surrogate", "neuron") if is_recurrent(declared) else levels_of(declared)
    for level in levels:
        if level not in left:
            continue
        made = OF_LEVEL[level](declared)
        if at_level(declared, level):
            made = of_methods(level, made, declared)
        for recipe in made:
            given = recipe.given | declared
            asks = any(declared.get(name, v) != v for name, v in recipe.given.items())
            if declared and "ALTERNATIVE" in recipe.flags.split():
                asks |= any(name not in (*declared, *VARIED) for name in recipe.given)
            steps = 1 if recipe.id == AT_START else 2
            conventions = make_conventions(given)
            rounds = recipe.exact and level == "neuron" and not is_exact(conventions, steps)
            if not asks and not rounds:
                yield replace(recipe, given=given, draw=scaled(recipe, declared))


def is_recurrent(declared: Conventions) -> bool:
    return declared.get("recurrence") == "dense"


def scaled(recipe: Recipe, declared: Conventions) -> Draw:
    """Return the recipe's draw with currents that make a neuron of declared numbers fire.

    A gain of the input other than 1 is taken back, and a declared threshold scales them too.
    """
    gain = abs(gain_of(make_conventions(recipe.given | declared))) or 1.0
    unit = float(declared.get("v_th", 1.0)) / (gain if declared else 1.0)
    if unit == 1:
        return recipe.draw
    return lambda rng: {
        name: value * unit if CURRENTS.fullmatch(name) else value
        for name, value in recipe.draw(rng).items()
    }


AT_START = "neuron/tie-at-start"  # which needs exact numbers for one step only


def is_exact(conventions: Conventions, steps: int = 2) -> bool:
    """Tell whether a neuron's constants are binary fractions, so that so many steps don't round.

    A single step must also show its own current, alone.
    """
    gain = gain_of(conventions)
    numbers = [gain, conventions["v_th"], float(conventions["v_th"]) / (gain or 1.0)]
    if steps == 1:
        is_late = conventions["input_delay"] != 0 or conventions["output"] != "same step"
        return binary(numbers) and conventions["initial_potential"] == "zero" and not is_late
    names = ("tau", "input_gain", "synapse", "reset_potential", "reset_amount")
    numbers += [conventions[name] for name in (*names, "initial_potential")]
    return binary([*numbers, *leak_of(conventions)])


def binary(values: Iterable[Value]) -> bool:
    """Tell whether numbers, and not names, are multiples of 1/64."""
    return all(isinstance(x, str) or float(x) * 64 == round(float(x) * 64) for x in values)


def surrogates(declared: Conventions) -> Iterator[Recipe]:
    shapes: list[tuple[str, dict[str, Value]]] = [
        ("tanh", {}),
        ("tanh-k2", {"surrogate_shape": 2.0}),
        ("tanh-literal", LITERAL),
        ("rectangle", RECTANGLE),
        ("rectangle-a2", {**RECTANGLE, "surrogate_shape": 2.0}),
        ("rectangle-low", {**RECTANGLE, "v_th": 0.5}),
        ("rectangle-edge-inside", {**RECTANGLE, "surrogate_edge": "inside"}),
        ("triangle", TRIANGLE),
        ("triangle-gamma2", {**TRIANGLE, "surrogate_shape": 2.0}),
        ("triangle-low", {**TRIANGLE, "v_th": 0.5}),
        ("tanh-low", {"v_th": 0.5}),
    ]
    for name, given in shapes:
        flags = "SURROGATE SURROGATE_EDGE SURROGATE_SCALE"
        flags += " ALTERNATIVE" * ("surrogate_edge" in given)
        conventions = make_conventions(given | declared)
        exact = binary(conventions[name] for name in ("v_th", "surrogate_shape"))
        surrogate = str(conventions["surrogate"])
        exact &= not (
            is_own(surrogate) and jumps_of(surrogate)
        )  # what holds on their edges is open
        yield Recipe(
            f"surrogate/{name}",
            "slope over a grid, on its edges and just beside them" if exact else "slope",
            draws.grid(given | declared) if exact else draws.spread,
            "EQ4 D4 D5",
            flags,
            given,
            exact=exact,
        )
    for name, given in shapes:
        if name in ("tanh", "tanh-literal", "rectangle", "triangle"):
            yield Recipe(
                f"surrogate/far-{name}",
                "slope up to a thousand v_th from the threshold",
                draws.far,
                "EQ4",
                "RANGE",
                given,
                exact=True,
            )


def neurons(declared: Conventions) -> Iterator[Recipe]:
    eq3 = "EQ1 EQ2 EQ3 EQ4 D3 R1"
    if is_recurrent(declared):
        for steps, suffix in ((6, ""), (3, "-three-steps")):
            yield Recipe(
                f"neuron/recurrent{suffix}",
                "spikes act on all neurons a step later",
                draws.connected(steps, 12),
                eq3,
                "LEAK RESET RESET_GRADIENT SURROGATE ALTERNATIVE",
                {"recurrence": "dense"},
            )
        return
    variants: list[tuple[str, dict[str, Value]]] = [
        ("tanh", {}),
        ("tanh-literal", LITERAL),
        ("rectangle", RECTANGLE),
        ("triangle", TRIANGLE),
        ("authors", AUTHORS),
        ("leak-0.75", {"tau": 0.75}),
        ("leak-0.25", {"tau": 0.25}),
        ("rectangle-a2", {**RECTANGLE, "surrogate_shape": 2.0, "tau": 0.75}),
        ("threshold-0.5", {"v_th": 0.5, "tau": 0.75}),
        ("integrate-and-fire", {"tau": 1.0}),
    ]
    for name, given in variants:
        flags = "LEAK RESET RESET_GRADIENT SURROGATE"
        yield Recipe(
            f"neuron/{name}", "random currents", draws.currents(6, 48), f"{eq3} D1", flags, given
        )
    detached: dict[str, Value] = {"reset_gradient": "detached", "tau": 0.75}
    yield Recipe(
        "neuron/detached-reset",
        "the alternative of D3",
        draws.currents(6, 48),
        eq3,
        "RESET_GRADIENT ALTERNATIVE",
        detached,
    )
    yield Recipe(
        "neuron/tie",
        "u_pre on the threshold, and an ulp beside it",
        draws.at_threshold,
        "EQ2 D2",
        "THRESHOLD_TIE",
        exact=True,
    )
    if declared:
        yield Recipe(
            AT_START,
            "u_pre on the threshold, and an ulp beside it, at the first step",
            draws.at_threshold_once,
            "EQ2 D2",
            "THRESHOLD_TIE ONE_STEP",
            exact=True,
        )
    yield Recipe(
        "neuron/tie-inclusive",
        "the same, firing at the threshold too",
        draws.at_threshold,
        "D2",
        "THRESHOLD_TIE ALTERNATIVE",
        {"fire_at_threshold": True},
        exact=True,
    )
    yield Recipe(
        "neuron/grid",
        "binary fractions, many on the threshold",
        draws.on_grid(6, 64, 1 / 4),
        "EQ1 EQ2 D2",
        "THRESHOLD_TIE LEAK RESET",
        RECTANGLE,
        exact=True,
    )
    for inside, edge in ((False, "outside"), (True, "inside")):
        given = {**RECTANGLE, "v_th": 0.5, "surrogate_edge": edge}
        yield Recipe(
            f"neuron/edge-{edge}",
            "u_pre = 0 lies on the rectangle's edge",
            draws.on_grid(6, 64, 1 / 2),
            "EQ4 D4",
            "SURROGATE_EDGE" + " ALTERNATIVE" * inside,
            given,
            exact=True,
        )
    low: dict[str, Value] = {"tau": 0.75, "v_th": 0.5}
    for suffix, given in (("", {}), ("-low", low)):
        yield Recipe(
            f"neuron/sweep{suffix}",
            "one step over a range of currents",
            draws.sweep,
            "EQ2 EQ3 EQ4",
            "SURROGATE ONE_STEP",
            given,
        )
        for steps, name in ((2, "two"), (3, "three")):
            yield Recipe(
                f"neuron/{name}-steps{suffix}",
                "the loss sees the last step only",
                draws.last_step(steps, 512),
                eq3,
                "LEAK RESET RESET_GRADIENT",
                given,
            )
    yield Recipe("neuron/one-step", "T = 1", draws.currents(1, 33), eq3, "ONE_STEP")
    yield Recipe("neuron/one-neuron", "N = 1, T = 20", draws.currents(20, 1), eq3, "ONE_NEURON")
    yield Recipe("neuron/silent", "no spike at all", draws.currents(5, 16, -2), eq3, "NO_SPIKES")
    close = draws.currents(5, 16, 2.2, 0.25)  # farther off, s (1 - s) loses all digits in float32
    yield Recipe("neuron/firing", "a spike at every step", close, eq3, "ALL_SPIKES")
    yield Recipe(
        "neuron/fresh",
        "two runs: no state is kept",
        draws.currents(4, 32),
        "D6",
        "STATE_KEPT",
        repeat=2,
    )
    yield Recipe(
        "neuron/large",
        "more neurons than a block of threads has",
        draws.on_grid(2, 70_001, 1 / 8),
        eq3,
        "BLOCK_BOUNDARY",
        exact=True,
    )

    for name, given in variants[:4]:
        yield Recipe(
            f"neuron/far-{name}",
            "potentials up to a thousand v_th, and back",
            draws.far_currents,
            eq3,
            "RANGE",
            given,
        )
    if np.abs(critical_potentials(make_conventions(declared))).min() >= MARGIN:
        yield Recipe(
            "neuron/tiny",
            "currents about float32's least numbers",
            draws.tiny_currents,
            eq3,
            "RANGE",
        )


def layers(declared: Conventions) -> Iterator[Recipe]:
    def recipe(
        name: str,
        summary: str,
        shape: tuple[int, ...],
        c_out: int = 4,
        kernel: int = 3,
        stride: int = 1,
        padding: int = 1,
        flags: str = "",
        clauses: str = "D8 D9 D25",
        given: dict[str, Value] | None = None,
        training: bool = True,
        scale: float = 1,
        repeat: int = 1,
    ) -> Recipe:
        settings = {"stride": stride, "padding": padding, "training": training}
        draw = draws.layer(shape, c_out, kernel, stride, padding, scale)
        clauses = f"{NEURON} {clauses}"
        return Recipe(f"layer/{name}", summary, draw, clauses, flags, given or {}, settings, repeat)

    flags = "NORM_AXES NORM_VARIANCE NORM_GRADIENT RUNNING_STATISTICS"
    yield recipe("plain", "conv-BN-LIF, height and width differ", (3, 2, 3, 6, 5), flags=flags)
    yield recipe("stride", "stride 2 over odd sizes", (2, 3, 3, 7, 5), stride=2)
    yield recipe(
        "pointwise", "1x1 convolution of stride 2", (3, 2, 4, 5, 6), kernel=1, stride=2, padding=0
    )
    yield recipe("kernel-5", "5x5 convolution, padding 2", (2, 2, 2, 6, 7), kernel=5, padding=2)
    yield recipe("one-step", "T = 1", (1, 3, 3, 5, 4), flags="ONE_STEP")
    yield recipe(
        "few-values",
        "statistics of 8 values per channel",
        (2, 2, 3, 1, 2),
        flags="NORM_VARIANCE RUNNING_STATISTICS",
    )
    yield recipe(
        "small-input",
        "inputs so small that eps counts",
        (2, 2, 3, 5, 4),
        scale=0.004,
        flags="NORM_EPS",
    )
    yield recipe("rectangle", "another surrogate", (3, 2, 3, 4, 5), given=RECTANGLE)
    yield recipe("authors", "the numbers of the authors' code", (3, 2, 3, 4, 5), given=AUTHORS)
    yield recipe(
        "evaluation",
        "running statistics in use",
        (3, 2, 3, 5, 4),
        training=False,
        clauses="D9 ALG1-INFER",
        flags="RUNNING_STATISTICS",
    )
    yield recipe(
        "per-step",
        "statistics per time step",
        (3, 2, 3, 4, 5),
        flags="ALTERNATIVE",
        given={"norm_statistics": "per_step"},
    )
    yield recipe(
        "tdbn",
        "normalised values times v_th = 0.5",
        (3, 2, 3, 4, 5),
        clauses="D8",
        flags="ALTERNATIVE",
        given={"norm_scale": "v_th", "v_th": 0.5},
    )
    yield recipe(
        "fresh",
        "two runs: no state is kept",
        (3, 2, 2, 4, 5),
        clauses="D6",
        flags="STATE_KEPT",
        repeat=2,
    )
    yield recipe(
        "large",
        "sums over more positions than a block of threads has",
        (2, 3, 2, 25, 23),
        c_out=2,
        flags="BLOCK_BOUNDARY",
        given=RECTANGLE,
    )


def blocks(declared: Conventions) -> Iterator[Recipe]:
    def recipe(
        name: str,
        summary: str,
        draw: Draw,
        flags: str = "",
        stride: int = 1,
        given: dict[str, Value] | None = None,
        training: bool = True,
        clauses: str = "D8 D25",
        repeat: int = 1,
    ) -> Recipe:
        settings = {"stride": stride, "training": training}
        clauses = f"EQ5 D9 {NEURON} {clauses}"
        return Recipe(f"block/{name}", summary, draw, clauses, flags, given or {}, settings, repeat)

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
        "detached-reset",
        "the alternative of D3",
        draws.block(4, 2, 3, 3, 4, 4, 1),
        "ALTERNATIVE RESET_GRADIENT",
        given={"reset_gradient": "detached"},
    )
    yield recipe(
        "evaluation",
        "running statistics in use",
        draws.block(2, 2, 3, 4, 6, 5, 2),
        stride=2,
        training=False,
        clauses="ALG1-INFER",
    )
    yield recipe(
        "fresh",
        "two runs: no state is kept",
        draws.block(3, 2, 3, 3, 4, 5, 1),
        "STATE_KEPT",
        clauses="D6",
        repeat=2,
    )
    meant = make_conventions(declared)
    if gain_of(meant) == meant["v_th"]:  # else a skip's spike does not land on the threshold
        yield Recipe(
            "block/zero-init",
            "the second batch norm gives zeros: a skip's spike lands on the threshold",
            draws.block(3, 2, 4, 4, 4, 4, 1, zero_init=True),
            "EQ5 D2",
            "THRESHOLD_TIE",
            {},
            {"stride": 1, "training": True},
            exact=True,
        )


def networks(declared: Conventions) -> Iterator[Recipe]:
    base = {
        "depths": [1, 1, 1],
        "widths": [3, 4, 5],
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
        n: int = 3,
        size: int = 6,
        given: dict[str, Value] | None = None,
        repeat: int = 1,
        **changed: Any,
    ) -> Recipe:
        settings = base | changed
        draw = draws.network(settings, (n, 2, size, size), 4)
        clauses += " TET M3" if settings["training"] and declared.get("tet_lam") else ""
        clauses += f" EQ5 D9 D10 {NEURON + ' D8 D25' if settings['training'] else 'EQ1 EQ2'}"
        if settings["training"] and settings["branches"] != "none":
            clauses += " D13"
        clauses = " ".join(dict.fromkeys(clauses.split()))
        return Recipe(
            f"network/{name}", summary, draw, clauses, flags, given or {}, settings, repeat
        )

    eq9 = "EQ8 EQ9 D7 D11 D12"
    yield recipe("vanilla", "no side branches", f"EQ7 {eq9}", branches="none", side=0.0)
    yield recipe(
        "shortcut", "side branches with coefficient 1", f"EQ6 {eq9} D14", "BRANCHES", side=1.0
    )
    yield recipe(
        "evolutionary",
        "side branches with coefficient 0.25",
        f"EQ10 {eq9}",
        "BRANCHES T_MEAN_T_SUM",
    )
    yield recipe("faded", "lambda = 0: side heads get no gradient", "EQ10 EQ7", side=0.0)
    yield recipe(
        "by-block",
        "a side branch after every block",
        "EQ6 D11",
        "BRANCHES",
        branches="block",
        depths=[2, 1],
        widths=[3, 4],
        side=0.5,
    )
    yield recipe(
        "deeper",
        "two blocks per stage, T = 2",
        f"EQ6 {eq9}",
        "BRANCHES",
        depths=[2, 2],
        widths=[3, 4],
        steps=2,
        side=1.0,
    )
    yield recipe("one-step", "T = 1", f"EQ10 {eq9}", "ONE_STEP", steps=1)
    yield recipe("rectangle", "another surrogate", f"EQ10 {eq9}", given=RECTANGLE)
    yield recipe("authors", "the numbers of the authors' code", f"EQ10 {eq9}", given=AUTHORS)
    yield recipe(
        "sum-of-losses",
        "the alternative of D13",
        "D13",
        "ALTERNATIVE",
        given={"branch_sum": "losses"},
    )
    yield recipe(
        "summed-readout",
        "the alternative of D10",
        "D10",
        "ALTERNATIVE T_MEAN_T_SUM",
        given={"readout": "sum"},
    )
    yield recipe("fresh", "two runs: no state is kept", "EQ10 D6", "STATE_KEPT", repeat=2)
    yield recipe(
        "evaluation",
        "main branch alone, running statistics",
        "ALG1-INFER",
        training=False,
        branches="none",
        side=0.0,
    )


def trainings(declared: Conventions) -> Iterator[Recipe]:
    """Yield trainings of ten iterations in five epochs; declared numbers replace the settings'."""
    base = {
        "depths": [1, 1],
        "widths": [2, 3],
        "stem_width": 2,
        "branches": "stage",
        "steps": 2,
        "method": "evolutionary",
        "epochs": 5,
        "batches": 2,
        "lam": 0.25,
        "shortcut_weight": 1.0,
        "optimizer": "adamw",
        "lr": 0.02,
        "momentum": 0.9,
        "weight_decay": 0.1,
        "training": True,
    }

    def recipe(
        name: str,
        summary: str,
        clauses: str,
        flags: str = "",
        given: dict[str, Value] | None = None,
        **changed: Any,
    ) -> Recipe:
        settings = overridden(base | changed, declared)
        draw = draws.network(settings, (4, 2, 4, 4), 3, iterations=10)
        return Recipe(
            f"training/{name}",
            summary,
            draw,
            f"ALG1-TRAIN D25 {clauses}",
            flags,
            given or {},
            settings,
        )

    flags = "LAMBDA_CLOCK SCHEDULE WEIGHT_DECAY"
    yield recipe("evolutionary", "AdamW, lambda fades", "EQ10 D16 D17 R3", flags)
    yield recipe(
        "shortcut",
        "SGD with momentum, side branches with coefficient 1",
        "EQ6 D15 D17",
        flags,
        method="shortcut",
        optimizer="sgd",
        lr=0.05,
    )
    yield recipe(
        "vanilla",
        "AdamW without side branches",
        "EQ7 D17",
        "SCHEDULE",
        method="vanilla",
        branches="none",
    )
    yield recipe(
        "epoch-clock",
        "the alternative of D16",
        "D16",
        "LAMBDA_CLOCK ALTERNATIVE",
        given={"lam_clock": "epoch"},
        optimizer="sgd",
        lr=0.05,
    )
    yield recipe("one-step", "T = 1", "EQ10 D16", "ONE_STEP", steps=1)
    yield recipe(
        "weights-only",
        "the alternative of D17",
        "D17",
        "WEIGHT_DECAY ALTERNATIVE",
        given={"decay_on": "weights"},
    )


OF_LEVEL: dict[str, Callable[[Conventions], Iterator[Recipe]]] = {
    "surrogate": surrogates,
    "neuron": neurons,
    "layer": layers,
    "block": blocks,
    "network": networks,
    "training": trainings,
}
