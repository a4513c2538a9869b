"""The conventions in which implementations differ, with the values that each can take.

The first value of each is the paper's, or the decision in the specification (refsnn/spec.toml),
which also lists the clauses that a convention belongs to.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from refsnn.ops import validate

Value = str | float
Conventions = dict[str, Value]

LEVELS = ("surrogate", "neuron", "layer", "block", "network", "training")
PRECISIONS = ("float64", "float32")


class Convention(NamedTuple):
    """A choice in which implementations differ."""

    level: str  # the lowest level whose outputs it changes
    pass_: str  # the first pass that it changes: forward or backward
    values: dict[Value, str]  # value -> description in words


CONVENTIONS: dict[str, Convention] = {
    "leak": Convention(
        "neuron",
        "forward",
        {
            "tau*u + c": "leak tau u + c",
            "tau*u + (1-tau)*c": "the input is scaled by 1 - tau",
            "(1-tau)*u + c": "tau is the fraction that is lost, not kept",
            "(1-tau)*u + tau*c": "tau is the fraction lost, and scales the input",
            "tau*(u + c)": "the input leaks too: tau (u + c)",
        },
    ),
    "fire_at_threshold": Convention(
        "neuron",
        "forward",
        {
            False: "fires above the threshold (>)",
            True: "fires at the threshold too (>=)",
        },
    ),
    "reset": Convention(
        "neuron",
        "forward",
        {
            "zero": "hard reset to zero",
            "subtract": "soft reset (v_th is subtracted)",
            "none": "no reset",
            "zero, next step": "reset to zero one step late, which discards the new input too",
            "subtract, next step": "v_th is subtracted, a step late",
        },
    ),
    "output": Convention(
        "neuron",
        "forward",
        {
            "same step": "spikes in the step in which they arise",
            "one step late": "spikes are passed on one time step late",
        },
    ),
    "initial_potential": Convention(
        "neuron",
        "forward",
        {
            "zero": "potentials start at zero",
            "kept": "potentials are kept from the run before",
        },
    ),
    "surrogate": Convention(
        "surrogate",
        "backward",
        {
            "tanh": "surrogate k (1 - tanh²)",
            "tanh_literal": "surrogate k (1 - tanh)², as printed",
            "rectangular": "surrogate is rectangular",
            "triangular": "surrogate is triangular",
            "sigmoid": "surrogate is the sigmoid's derivative, alpha = 4",
            "atan": "surrogate is arctan's derivative, alpha = 2",
            "fast_sigmoid": "surrogate is the fast sigmoid's derivative, 1/(1 + 25|x|)²",
            "superspike": "surrogate is SuperSpike's, 1/(1 + 100|x|)²",
            "superspike, alpha 1": "surrogate is SuperSpike's with alpha = 1, 1/(1 + |x|)²",
        },
    ),
    "surrogate_scale": Convention(
        "surrogate",
        "backward",
        {
            "as given": "surrogate's height as given",
            "without 1/a": "surrogate without 1/a",
            "without k": "surrogate without its factor k (or gamma)",
            "without any": "surrogate without its factor k, gamma or 1/a",
        },
    ),
    "surrogate_edge": Convention(
        "surrogate",
        "backward",
        {
            "outside": "the rectangle's edge is outside",
            "inside": "the rectangle's edge counts as inside",
        },
    ),
    "surrogate_at": Convention(
        "surrogate",
        "backward",
        {
            "u_pre - v_th": "slope at the distance from threshold",
            "u_pre": "slope is not shifted by the threshold",
            "u": "slope is taken at the potential after reset",
        },
    ),
    "reset_gradient": Convention(
        "neuron",
        "backward",
        {
            "full": "reset differentiated",
            "detached": "detached reset",
            "ignored": "the reset's gradient is ignored (∂u/∂u_pre = 1)",
            "spike path only": "the (1 - o) part of the reset's gradient is missing",
            "v_th for u_pre": "the reset's gradient has v_th for u_pre, as if it were subtracted",
            "sign flipped": "the reset's gradient has the other sign",
        },
    ),
    "convolution": Convention(
        "layer",
        "forward",
        {
            "cross-correlation": "convolution as cross-correlation",
            "flipped": "kernels are flipped (true convolution)",
        },
    ),
    "norm_statistics": Convention(
        "layer",
        "forward",
        {
            "pooled": "batch norm over T, N, H, W",
            "per_step": "batch norm's statistics per time step",
        },
    ),
    "norm_variance": Convention(
        "layer",
        "forward",
        {
            "biased": "normalised by the biased variance",
            "unbiased": "normalised by the unbiased variance",
        },
    ),
    "norm_eps": Convention(
        "layer",
        "forward",
        {
            1e-5: "batch norm's eps is 1e-5",
            1e-3: "batch norm's eps is 1e-3",
        },
    ),
    "norm_scale": Convention(
        "layer",
        "forward",
        {
            "1": "normalised values as they are",
            "v_th": "normalised values times v_th (tdBN)",
        },
    ),
    "norm_running": Convention(
        "layer",
        "forward",
        {
            "unbiased": "the running variance is unbiased",
            "biased": "the running variance is biased",
            "momentum 0.9": "running statistics keep 0.1 of the old value",
        },
    ),
    "norm_gradient": Convention(
        "layer",
        "backward",
        {
            "full": "batch norm's statistics are differentiated",
            "statistics detached": "batch norm's statistics are detached",
        },
    ),
    "skip": Convention(
        "block",
        "forward",
        {
            "before firing": "the skip is added before firing",
            "after firing": "the skip is added after firing",
            "missing": "the skip is missing",
        },
    ),
    "pooling": Convention(
        "network",
        "forward",
        {
            "mean": "global average pooling",
            "sum": "global sum pooling",
        },
    ),
    "readout": Convention(
        "network",
        "forward",
        {
            "mean": "logits averaged over time",
            "sum": "logits summed over time",
        },
    ),
    "branch_sum": Convention(
        "network",
        "forward",
        {
            "logits": "one cross-entropy of the summed logits",
            "losses": "a weighted sum of the branches' cross-entropies",
        },
    ),
    "branches_counted": Convention(
        "network",
        "forward",
        {
            "all": "every side branch counts once",
            "first missing": "the first side branch is missing",
            "last side missing": "the last side branch is missing",
            "main twice": "the main branch is counted as a side branch too",
            "detached": "side branches send no gradient below their own weights",
        },
    ),
    "loss": Convention(
        "network",
        "forward",
        {
            "mean": "loss averaged over the batch",
            "sum": "loss summed over the batch",
        },
    ),
    "lam_clock": Convention(
        "training",
        "forward",
        {
            "iteration": "λ counted from 1",
            "iteration from 0": "λ counted from 0",
            "epoch": "λ changes once per epoch",
            "constant": "λ stays constant",
        },
    ),
    "schedule": Convention(
        "training",
        "forward",
        {
            "from iteration 1": "the learning rate starts at lr",
            "one iteration ahead": "the learning rate is one iteration ahead",
            "constant": "the learning rate is constant",
        },
    ),
    "decay_form": Convention(
        "training",
        "backward",
        {
            "decoupled": "decoupled weight decay (AdamW)",
            "in the gradient": "weight decay goes through Adam's moments",
        },
    ),
    "decay_on": Convention(
        "training",
        "backward",
        {
            "all": "all parameters decay",
            "weights": "batch norm and biases do not decay",
        },
    ),
}

#: conventions whose values are positive numbers
NUMBERS: Conventions = {"tau": 0.5, "v_th": 1.0, "surrogate_shape": 0.5}
PAPER: Conventions = NUMBERS | {name: next(iter(c.values)) for name, c in CONVENTIONS.items()}

#: names in the first version of the vectors -> today's name, and old values -> today's values
RENAMED: dict[str, tuple[str, dict[Value, Value]]] = {
    "decay": ("leak", {}),
    "fire": ("fire_at_threshold", {">": False, ">=": True}),
    "state": ("initial_potential", {}),
    "lambda": ("lam_clock", {"1 - i/I, i from 1": "iteration", "i from 0": "iteration from 0"}),
    "weight_decay": ("decay_form", {}),
    "decay_on": ("decay_on", {"weights only": "weights"}),
}


def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return conventions of the vectors' first version by today's names and values."""
    found = {}
    for name, value in values.items():
        now, meant = RENAMED.get(name, (name, {}))
        found[now] = meant.get(value, value) if isinstance(value, str) else value
    return found


def make_conventions(given: Mapping[str, Value]) -> Conventions:
    """Return all conventions: the `given` ones, and the paper's for all others.

    ValueError for an unknown name or value.
    """
    for name, value in given.items():
        if name in NUMBERS:
            validate.positive(name, float(value))
        else:
            validate.one_of("convention", name, CONVENTIONS)
            validate.one_of(name, value, CONVENTIONS[name].values)
    return PAPER | dict(given)


def words(deviations: Mapping[str, Value]) -> str:
    """Describe deviations in words, as "fires at the threshold too (>=); detached reset".

    A value that is the paper's is a deviation in the cases that ask for another one.
    """
    texts = []
    for name, value in sorted(deviations.items(), key=lambda item: list(PAPER).index(item[0])):
        text = f"{name} = {value:g}" if name in NUMBERS else CONVENTIONS[name].values[value]
        if value == PAPER[name]:
            text += ", even where a case asks for another"
        texts.append(text)
    return "; ".join(texts) or "the cases' own conventions"
