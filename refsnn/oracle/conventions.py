"""The conventions in which implementations differ, with the values that each can take.

Each has the paper's value, or that of the decision in the specification (refsnn/spec.toml), which
also lists the clauses that a convention belongs to. A value is one of a few names, or a number.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from refsnn.ops import validate
from refsnn.oracle.slopes import FAMILIES, GIVEN, OWN, family_of, is_own

Value = str | float
Conventions = dict[str, Value]

LEVELS = ("surrogate", "neuron", "layer", "block", "network", "training")
PRECISIONS = ("float64", "float32", "float16", "bfloat16")  # from the highest


class Numbers(NamedTuple):
    """The numbers that a convention can be, from `low` to `high`."""

    text: str  # a description in words, with {} for the number
    low: float = -1e6
    high: float = 1e6
    whole: bool = False

    def wants(self) -> str:
        """Return in words which numbers are allowed."""
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:g} to {self.high:g}"

    def holds(self, value: Any) -> bool:
        """Tell whether the value is one of these numbers."""
        if isinstance(value, bool | str) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and not (self.whole and value != int(value))


class Convention(NamedTuple):
    """A choice in which implementations differ."""

    level: str  # the lowest level whose outputs it changes
    pass_: str  # the first pass that it changes: forward or backward
    values: dict[Value, str]  # names (or True and False) -> description in words
    numbers: Numbers | None = None
    paper: Value | None = None  # the paper's value; by default the first of `values`
    own: bool = False  # whether a user's slope, by its name, is a value too

    def allows(self, value: Any) -> bool:
        """Tell whether the convention can have this value."""
        if self.own and is_own(value):
            return value in GIVEN
        return is_named(value, self.values) or (
            self.numbers is not None and self.numbers.holds(value)
        )

    def describe(self, value: Value) -> str:
        """Return a value in words."""
        if is_named(value, self.values):
            return self.values[value]
        if self.own:
            return family_of(str(value)).words
        assert self.numbers is not None
        return self.numbers.text.format(shown(float(value)))


#: names are grouped by what they belong to, in the order in which they act
CONVENTIONS: dict[str, Convention] = {
    "tau": Convention(
        "neuron",
        "forward",
        {0.0: "no potential is kept (tau = 0)"},
        Numbers("tau = {}", 0, 1),
        paper=0.5,
    ),
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
    "recurrence": Convention(
        "neuron",
        "forward",
        {
            "none": "no connections among the neurons",
            "dense": "spikes add to the next step's currents, through weights v",
        },
    ),
    "input_gain": Convention(
        "neuron", "forward", {}, Numbers("the input is multiplied by {}"), paper=1.0
    ),
    "synapse": Convention(
        "neuron",
        "forward",
        {1.0: "a synaptic current sums the input and never decays"},
        Numbers("a synaptic current filters the input: i[t] = {} i[t-1] + c[t]", 0, 1),
        paper=0.0,
    ),
    "input_delay": Convention(
        "neuron",
        "forward",
        {1: "the input acts one time step late"},
        Numbers("the input acts {} time steps late", 0, 100, whole=True),
        paper=0,
    ),
    "v_th": Convention("surrogate", "forward", {}, Numbers("v_th = {}", 1e-6), paper=1.0),
    "fire_at_threshold": Convention(
        "neuron",
        "forward",
        {
            False: "fires above the threshold (>)",
            True: "fires at the threshold too (>=)",
        },
    ),
    "spikes": Convention(
        "neuron",
        "forward",
        {
            "one": "one spike per step at most",
            "several": "several spikes per step: one for each multiple of v_th that is passed",
        },
    ),
    "refractory": Convention(
        "neuron",
        "forward",
        {1: "no spike in the time step after a spike (refractory)"},
        Numbers("no spike in the {} time steps after a spike (refractory)", 0, 100, whole=True),
        paper=0,
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
            "subtract o - v_th": "o - v_th is subtracted, in the place of o v_th",
            "subtract o - v_th, next step": "o - v_th is subtracted, a step late",
        },
    ),
    "reset_potential": Convention(
        "neuron", "forward", {}, Numbers("the hard reset goes to {}, not to zero"), paper=0.0
    ),
    "reset_amount": Convention(
        "neuron",
        "forward",
        {"v_th": "the soft reset subtracts v_th"},
        Numbers("the soft reset subtracts {}, not v_th"),
    ),
    "output": Convention(
        "neuron",
        "forward",
        {
            "same step": "spikes in the step in which they arise",
            "one step late": "spikes are passed on one time step late",
        },
        Numbers("spikes are passed on {} time steps late", 2, 100, whole=True),
    ),
    "initial_potential": Convention(
        "neuron",
        "forward",
        {
            "zero": "potentials start at zero",
            "kept": "potentials are kept from the run before",
            "spikes kept": "the last spikes are kept from the run before, not the potentials",
        },
        Numbers("potentials start at {}"),
    ),
    "surrogate": Convention(
        "surrogate",
        "backward",
        {name: family.words for name, family in FAMILIES.items()},
        own=True,
    ),
    "surrogate_shape": Convention(
        "surrogate", "backward", {}, Numbers("surrogate_shape = {}", 1e-6), paper=0.5
    ),
    "surrogate_scale": Convention(
        "surrogate",
        "backward",
        {
            "as given": "surrogate's height as given",
            "without 1/a": "surrogate without 1/a",
            "without k": "surrogate without its factor k (or gamma)",
            "without any": "surrogate without its factor k, gamma or 1/a",
            0.0: "the slope is zero: no gradient gets through",
        },
        Numbers("the slope is {} times the expected everywhere"),
    ),
    "surrogate_edge": Convention(
        "surrogate",
        "backward",
        {
            "outside": "the rectangle's edge is outside",
            "inside": "the rectangle's edge counts as inside",
        },
    ),
    "surrogate_unit": Convention(
        "surrogate",
        "backward",
        {
            "1": "the slope is a function of u_pre - v_th",
            "v_th": "the slope is a function of (u_pre - v_th) / v_th, divided by v_th",
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
    "neuron_model": Convention(
        "neuron",
        "forward",
        {
            "lif": "plain LIF neurons",
            "plif": "parametric LIF neurons (PLIF)",
            "glif": "gated LIF neurons (GLIF)",
            "diet": "neurons of Diet-SNN",
            "mpbn": "batch norm of the potential (MPBN)",
            "real_spike": "spikes of a learnt size (Real Spike)",
        },
    ),
    "plif_input_decay": Convention(
        "neuron",
        "forward",
        {
            True: "PLIF's input is scaled by sigmoid(w)",
            False: "PLIF's input is not scaled by sigmoid(w)",
        },
    ),
    "plif_leak": Convention(
        "neuron",
        "forward",
        {
            "1 - sigmoid(w)": "PLIF keeps 1 - sigmoid(w) of the potential",
            "sigmoid(w)": "PLIF keeps sigmoid(w) of the potential, not 1 - sigmoid(w)",
        },
    ),
    "glif_gates": Convention(
        "neuron",
        "forward",
        {
            "as given": "GLIF's gates as given",
            "1 - gate": "GLIF's gates are 1 minus what they should be",
        },
    ),
    "glif_conductance": Convention(
        "neuron",
        "forward",
        {
            "each step": "GLIF's input has a conductance for each step",
            "first step": "GLIF's input has the first step's conductance at every step",
        },
    ),
    "diet_reset_leaks": Convention(
        "neuron",
        "forward",
        {
            True: "Diet's reset comes before the leak: leak (u_pre - v_th o)",
            False: "Diet's reset comes after the leak: leak u_pre - v_th o",
        },
    ),
    "mpbn_state": Convention(
        "neuron",
        "forward",
        {
            "potential": "MPBN keeps the potential as it is",
            "normalised": "MPBN keeps the normalised potential",
        },
    ),
    "real_spike_reset": Convention(
        "neuron",
        "forward",
        {
            "spike": "Real Spike's reset takes the spike, 0 or 1",
            "size": "Real Spike's reset takes the spike's size a o",
        },
    ),
    "sigmoid_gradient": Convention(
        "neuron",
        "backward",
        {
            "full": "the sigmoid of a neuron's parameter is differentiated",
            "missing": "gradients of neurons' parameters lack the sigmoid's derivative",
        },
    ),
    "diet_slope": Convention(
        "neuron",
        "backward",
        {
            "u_pre/v_th - 1": "Diet's slope is one of u_pre/v_th - 1",
            "without 1/v_th": "Diet's slope lacks the factor 1/v_th",
            "u_pre - v_th": "Diet's slope is a function of u_pre - v_th",
        },
    ),
    "diet_v_th_gradient": Convention(
        "neuron",
        "backward",
        {
            "full": "the threshold in Diet's reset is differentiated",
            "reset detached": "the threshold in Diet's reset is detached",
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
            "frozen": "batch norm trains with its running statistics, which stay as they are",
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
        "layer", "forward", {}, Numbers("batch norm's eps is {}", 0, 1), paper=1e-5
    ),
    "norm_scale": Convention(
        "layer",
        "forward",
        {
            "1": "normalised values as they are",
            "v_th": "normalised values times v_th (tdBN)",
        },
        Numbers("normalised values times {}"),
    ),
    "norm_running": Convention(
        "layer",
        "forward",
        {
            "unbiased": "the running variance is unbiased",
            "biased": "the running variance is biased",
        },
    ),
    "norm_momentum": Convention(
        "layer", "forward", {}, Numbers("running statistics take {} of the new", 0, 1), paper=0.1
    ),
    "norm_gradient": Convention(
        "layer",
        "backward",
        {
            "full": "batch norm's statistics are differentiated",
            "statistics detached": "batch norm's statistics are detached",
        },
    ),
    "norm_model": Convention(
        "layer",
        "forward",
        {
            "bn": "batch norm with gamma and beta",
            "tebn": "temporal effective batch norm (TEBN)",
            "bntt": "batch norm through time (BNTT)",
            "psp": "a norm of what the convolution takes (PSP-BN)",
        },
    ),
    "tebn_bias": Convention(
        "layer",
        "forward",
        {
            True: "TEBN's p[t] multiplies beta too",
            False: "TEBN's p[t] multiplies the normalised values alone, not beta",
        },
    ),
    "bntt_weight": Convention(
        "layer",
        "forward",
        {
            "each step": "BNTT has a weight for each step",
            "first step": "BNTT has the first step's weight at every step",
        },
    ),
    "psp_root": Convention(
        "layer",
        "forward",
        {
            True: "PSP-BN divides by the root of the second moment",
            False: "PSP-BN divides by the second moment, not by its root",
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
    "block": Convention(
        "block",
        "forward",
        {
            "basic": "the paper's block",
            "sew_add": "block of SEW-ResNet, which adds spikes (ADD)",
            "sew_and": "block of SEW-ResNet, which multiplies spikes (AND)",
            "sew_iand": "block of SEW-ResNet, which passes the skip where it is silent (IAND)",
            "ms": "block of MS-ResNet, whose skip passes on currents",
        },
    ),
    "sew_iand": Convention(
        "block",
        "forward",
        {
            "(1 - a) s": "IAND is (1 - a) s: spikes of the skip where the block is silent",
            "a (1 - s)": "IAND is a (1 - s): spikes of the block where the skip is silent",
        },
    ),
    "sew_gradient": Convention(
        "block",
        "backward",
        {
            "full": "the product of AND or IAND is differentiated",
            "as a sum": "the gradient goes to both terms of AND or IAND as if they were added",
            "block only": "AND or IAND sends no gradient to the skip",
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
    "loss_at": Convention(
        "network",
        "forward",
        {
            "mean": "the loss of the logits over time",
            "each step": "the mean of a loss of each time step's logits",
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
    "tet_lam": Convention(
        "network",
        "forward",
        {},
        Numbers("{} of the loss pulls all logits to a constant (TET)", 0, 1),
        paper=0.0,
    ),
    "tet_phi": Convention(
        "network",
        "forward",
        {"v_th": "TET pulls the logits to v_th"},
        Numbers("TET pulls the logits to {}"),
    ),
    "tet_mean": Convention(
        "network",
        "forward",
        {
            "classes": "TET's squared distance is a mean over classes too",
            "images": "TET's squared distance is a sum over classes",
        },
    ),
    "potential_loss": Convention(
        "network",
        "forward",
        {
            "none": "no loss of potentials",
            "im": "a loss pulls each layer's mean potential to v_th (IM-Loss)",
            "mpd_reconstructed": "a loss of badly spread potentials (RecDis-SNN's, reconstructed)",
        },
    ),
    "potential_lam": Convention(
        "network",
        "forward",
        {"as published": "the loss of potentials has the weight of its method"},
        Numbers("the loss of potentials has the weight {}", 0),
    ),
    "potential_layers": Convention(
        "network",
        "forward",
        {
            "as published": "potentials count in the layers of the method",
            "opposite": "potentials inside of blocks count where the method leaves them out, or "
            "the other way round",
        },
    ),
    "potential_gradient": Convention(
        "network",
        "backward",
        {
            "carried back": "the gradient of the loss of potentials goes back in time",
            "own step": "the gradient of the loss of potentials stays in its own time step",
        },
    ),
    "teacher_loss": Convention(
        "network",
        "forward",
        {
            "none": "no teacher",
            "logits": "the logits learn from a teacher's (KDSNN)",
        },
    ),
    "teacher_weight": Convention(
        "network", "forward", {}, Numbers("the teacher counts {} of the loss", 0, 1), paper=0.7
    ),
    "teacher_temperature": Convention(
        "network", "forward", {}, Numbers("the teacher's temperature is {}", 1e-3), paper=4.0
    ),
    "teacher_factor": Convention(
        "network",
        "forward",
        {
            "temperature squared": "the teacher's loss is multiplied by the temperature squared",
            "none": "the teacher's loss lacks the factor of the temperature squared",
        },
    ),
    "teacher_divergence": Convention(
        "network",
        "forward",
        {
            "KL(teacher, student)": "KL divergence from the teacher's probabilities",
            "KL(student, teacher)": "the arguments of the KL divergence are swapped",
            "mean over classes": "the KL divergence is a mean over classes too",
        },
    ),
    "lam": Convention(
        "training", "forward", {"as given": "λ as the settings say"}, Numbers("λ = {}", 0)
    ),
    "shortcut_weight": Convention(
        "training",
        "forward",
        {"as given": "the side branches' weight as the settings say"},
        Numbers("side branches count {} times (method shortcut)", 0),
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
    "lr": Convention(
        "training",
        "forward",
        {"as given": "the learning rate as the settings say"},
        Numbers("lr = {}", 1e-12),
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
    "momentum": Convention(
        "training",
        "backward",
        {"as given": "SGD's momentum as the settings say"},
        Numbers("SGD's momentum is {}", 0, 0.999999),
    ),
    "nesterov": Convention(
        "training",
        "backward",
        {
            False: "SGD's plain momentum",
            True: "SGD's step looks ahead (Nesterov's momentum)",
        },
    ),
    "adam_beta1": Convention(
        "training", "backward", {}, Numbers("Adam's beta1 is {}", 0, 0.999999), paper=0.9
    ),
    "adam_beta2": Convention(
        "training", "backward", {}, Numbers("Adam's beta2 is {}", 0, 0.999999), paper=0.999
    ),
    "adam_eps": Convention(
        "training", "backward", {}, Numbers("Adam's eps is {}", 1e-30, 1), paper=1e-8
    ),
    "optimizer_bias_correction": Convention(
        "training",
        "backward",
        {
            True: "Adam's moments are corrected for their start at zero",
            False: "Adam's moments are not corrected for their start at zero",
        },
    ),
    "weight_decay": Convention(
        "training",
        "backward",
        {"as given": "weight decay as the settings say"},
        Numbers("weight decay is {}", 0),
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

PAPER: Conventions = {
    name: next(iter(c.values)) if c.paper is None else c.paper for name, c in CONVENTIONS.items()
}
#: the numbers of which the cases ask for different ones
VARIED = ("tau", "v_th", "surrogate_shape")
#: conventions that are numbers in every case
NUMBERS = tuple(name for name, c in CONVENTIONS.items() if isinstance(c.paper, int | float))

#: numbers of a training that override its settings of the same names, unless they are "as given"
FROM_SETTINGS = ("lam", "shortcut_weight", "lr", "momentum", "weight_decay")

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
    """Return conventions of the vectors' first version by today's names and values.

    A name of then may be another convention's now: the value tells them apart.
    """
    found = {}
    for name, value in values.items():
        now, meant = RENAMED.get(name, (name, {}))
        if name in CONVENTIONS and CONVENTIONS[name].allows(value):
            now, meant = name, {}
        found[now] = meant.get(value, value) if isinstance(value, str) else value
    return found


def with_old_names(conventions: Mapping[str, Value]) -> Conventions:
    """Add the names of the vectors' first version, which older implementations read.

    Names that are another convention's now are left out.
    """
    old: Conventions = {}
    for name, (now, meant) in RENAMED.items():
        if name not in CONVENTIONS:
            value = conventions[now]
            back = {v: k for k, v in meant.items() if type(v) is type(value)}
            old[name] = back.get(value, value)
    return {**conventions, **old}


def is_named(value: Any, values: Iterable[Value]) -> bool:
    """Tell whether a value is one of these; True is not 1."""
    return any(
        value == known and isinstance(value, bool) == isinstance(known, bool) for known in values
    )


#: names that libraries have for conventions
ELSEWHERE = {
    **{"beta": "tau", "decay": "leak", "threshold": "v_th", "v_threshold": "v_th"},
    **{"v_reset": "reset_potential", "alpha": "surrogate_shape", "slope": "surrogate_shape"},
    **{"detach_reset": "reset_gradient", "reset_mechanism": "reset"},
    **{"fire": "fire_at_threshold", "fires": "fire_at_threshold"},
}


def require_name(name: str) -> None:
    """Check that there is such a convention; ValueError names the one that is meant."""
    if name in ELSEWHERE:
        raise ValueError(f"convention: got {name!r}, did you mean {ELSEWHERE[name]}?")
    if name not in CONVENTIONS:
        got, hint = validate.shown(name), validate.nearest(name, CONVENTIONS)
        if hint.startswith(", want"):  # all names are too many for a message
            hint = ", want one of those that `refsnn diagnose --help` lists"
        raise ValueError(f"convention: got {got}{hint}")


def check(name: str, value: Any) -> None:
    """Check a convention's value; ValueError for an unknown name or value."""
    require_name(name)
    convention = CONVENTIONS[name]
    if convention.allows(value):
        return
    if convention.own and is_own(value):
        raise ValueError(
            f"{name}: {value!r} is not known here; declare it with "
            f"--as {name}={value.removeprefix(OWN)}"
        )
    wanted = [repr(known) for known in convention.values if isinstance(known, str | bool)]
    wanted += [convention.numbers.wants()] if convention.numbers else []
    raise ValueError(f"{name}: got {validate.shown(value)}, want {' or '.join(wanted)}")


def make_conventions(given: Mapping[str, Value]) -> Conventions:
    """Return all conventions: the `given` ones, and the paper's for all others.

    ValueError for an unknown name or value.
    """
    for name, value in given.items():
        if value is not PAPER.get(name):  # most are the paper's, in thousands of comparisons
            check(name, value)
    return PAPER | dict(given)


def words(deviations: Mapping[str, Value], always: bool = True) -> str:
    """Describe deviations in words, as "fires at the threshold too (>=); detached reset".

    Cases ask for different numbers, and a value that is the paper's is a deviation where a case
    asks for another; these get the word "always", unless the conventions are a case's own.
    """
    texts = []
    for name, value in sorted(deviations.items(), key=lambda item: list(PAPER).index(item[0])):
        text = CONVENTIONS[name].describe(value)
        if name == "surrogate_shape" and "surrogate" in deviations:
            continue
        if name == "surrogate" and "surrogate_shape" in deviations:
            parameter = family_of(str(value)).parameter
            shape = shown(float(deviations["surrogate_shape"]))
            text += f", {parameter} = {shape}" if parameter else ""
        elif always and (value == PAPER[name] or name in VARIED):
            text += " always"
        texts.append(text)
    return "; ".join(texts) or "the cases' own conventions"


def shown(number: float) -> str:
    """Return a number with six digits, and as exp(-1/n) where it is one."""
    text = f"{number:.6g}"
    if 0 < abs(number) < 1e6 and float(text) != number:
        for name, value in (("/π", number * math.pi), ("π", number / math.pi)):
            if abs(value - round(value)) < 1e-9 * abs(value):
                times = f"{round(value)}" if name == "/π" or round(value) != 1 else ""
                text = f"{number:.4g} (= {times}{name})"
    n = -1 / math.log(number) if 0 < number < 1 else 0.0
    if n > 1.5 and abs(n - round(n)) < 1e-6 * n:
        text = f"{number:.4g} (= exp(-1/{round(n)}))"
    return text
