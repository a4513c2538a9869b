"""Methods of the literature that can be declared, by the convention that chooses each.

None of their cases is run where nothing is declared. A method brings cases at the levels `new`,
which take the place of the usual ones, and it leaves the usual ones of the levels `kept`.
"""

from collections.abc import Iterator
from typing import NamedTuple

from refsnn.oracle import method_neuron
from refsnn.oracle.conventions import CONVENTIONS, LEVELS, PAPER, Conventions, Value


class Method(NamedTuple):
    """What a method changes among the conventions."""

    new: tuple[str, ...]  # levels
    kept: tuple[str, ...]
    own: tuple[str, ...] = ()  # conventions that only such methods follow
    without: tuple[str, ...] = ()  # usual conventions, or "name=value", that it does not follow
    required: tuple[tuple[str, Value], ...] = ()  # conventions whose value is not the paper's


ALONE = ("surrogate", "neuron")
TO_BLOCKS = (*ALONE, "layer")


def of_neurons(name: str) -> Method:
    """Return a method that changes the neurons."""
    fixed = tuple(method_neuron.REQUIRED.get(name, {}).items())
    return Method(("neuron",), ("surrogate",), method_neuron.OWN[name], (), fixed)


CHOICES: dict[str, dict[str, Method]] = {
    "neuron_model": {name: of_neurons(name) for name in method_neuron.OWN},
    "norm_model": {
        "tebn": Method(("layer",), ALONE, ("tebn_bias",)),
        "bntt": Method(
            ("layer",),
            ALONE,
            ("bntt_weight",),
            ("norm_statistics=pooled",),
            (("norm_statistics", "per_step"), ("norm_eps", 1e-4)),
        ),
        "psp": Method(
            ("layer",),
            ALONE,
            ("psp_root",),
            ("norm_statistics", "norm_variance", "norm_scale", "norm_running", "norm_gradient"),
        ),
    },
    "block": {
        "sew_add": Method(("block", "network"), TO_BLOCKS, (), ("skip",)),
        "sew_and": Method(("block", "network"), TO_BLOCKS, ("sew_gradient",), ("skip",)),
        "sew_iand": Method(
            ("block", "network"), TO_BLOCKS, ("sew_iand", "sew_gradient"), ("skip",)
        ),
        "ms": Method(("block", "network"), TO_BLOCKS, (), ("skip",)),
    },
    "potential_loss": {
        name: Method(
            ("network",),
            (*TO_BLOCKS, "block"),
            ("potential_lam", "potential_layers", "potential_gradient"),
        )
        for name in ("im", "mpd_reconstructed")
    },
    "teacher_loss": {
        "logits": Method(
            ("network",),
            (*TO_BLOCKS, "block"),
            ("teacher_weight", "teacher_temperature", "teacher_factor", "teacher_divergence"),
        )
    },
}
TET = Method((), (*TO_BLOCKS, "block", "network"))  # no trainings
OF_TET = ("tet_phi", "tet_mean")  # of the pull that tet_lam weighs
#: the conventions that choose a method, and those that no usual case follows
NAMES = {
    *CHOICES,
    *OF_TET,
    *(name for methods in CHOICES.values() for m in methods.values() for name in m.own),
}


def chosen(conventions: Conventions) -> Iterator[Method]:
    """Yield the methods that conventions choose."""
    for choice, methods in CHOICES.items():
        name = str(conventions.get(choice, PAPER[choice]))
        if name in methods:
            yield methods[name]


def levels_of(conventions: Conventions) -> tuple[str, ...]:
    """Return the levels of the cases that are left under the conventions."""
    methods = list(chosen(conventions))
    if conventions.get("tet_lam"):
        methods.append(TET)
    return tuple(level for level in LEVELS if all(level in (*m.new, *m.kept) for m in methods))


def at_level(conventions: Conventions, level: str) -> list[Method]:
    """Return the methods that conventions choose and that have cases at a level."""
    return [method for method in chosen(conventions) if level in method.new]


def follows(conventions: Conventions, level: str, name: str, value: Value) -> bool:
    """Tell whether another value of a convention changes what a case of this level computes."""
    if name in CHOICES:
        return False
    if name in ("tet_lam", *OF_TET):
        return level == "network" and bool(conventions["tet_lam"])
    methods = at_level(conventions, level)
    if name in NAMES:
        known = any(name in method.own for method in methods)
    else:
        known = not any({name, f"{name}={value}"} & {*method.without} for method in methods)
    model = str(conventions["neuron_model"]) if level != "surrogate" else "lif"
    if known and model != "lif":
        return method_neuron.follows(model, name, value)
    return known


def required(conventions: Conventions) -> Conventions:
    """Return the conventions that the chosen methods fix, and their values."""
    return {name: value for m in chosen(conventions) for name, value in m.required}


assert CONVENTIONS.keys() >= NAMES
