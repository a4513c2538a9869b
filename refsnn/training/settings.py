"""The settings of a run in groups: each one's name, default, unit and allowed values.

The command line, `config.json` and `refsnn.fit` know a setting by the name of its field alone, so
no two groups share one. Its clauses are those of the ledger that list the name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data.load import AUGMENT, SLICES, Options
from refsnn.network import BLOCKS, Architecture, Network, architecture
from refsnn.ops import (
    CROSS_ENTROPY,
    EDGES,
    LIF,
    LOSSES,
    METHODS,
    NEURONS,
    NORMS,
    PLIF,
    POTENTIAL_LOSSES,
    PSPBN,
    RESET_GRADIENTS,
    RESETS,
    SURROGATES,
    TET,
    Array,
    BatchNorm,
    Diet,
    Distillation,
    Loss,
    Neuron,
    Norm,
    PotentialLoss,
    ShapeSearch,
    Surrogate,
    make_surrogate,
    validate,
)
from refsnn.references import load_object

MOST = 2**31 - 1  # of steps, epochs, images and pixels


def setting(
    default: Any,
    text: str,
    unit: str = "",
    choices: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    methods: tuple[str, ...] = (),
) -> Any:
    """Declare a setting: `text` and `unit` appear in --help; the value is one of `choices`, at
    least `least`, more than `above`, or, where `methods` are given, an object that has them."""
    facts = {
        "help": text,
        "unit": unit,
        "choices": choices,
        "least": least,
        "above": above,
        "methods": methods,
    }
    return field(default=default, metadata=facts)


class Settings:
    """A group of settings, checked when it is made.

    TypeError or ValueError names the setting, what came and what was wanted.
    """

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(record: Any) -> None:
    """Make each setting of a dataclass plain and check it; TypeError or ValueError names it."""
    for item in fields(record):
        if item.metadata:
            value = plain(getattr(record, item.name), bool(item.metadata["methods"]))
            object.__setattr__(record, item.name, value)
            check(item.name, value, item.default, item.metadata)


def plain(value: Any, is_object: bool) -> Any:
    """Return a setting as Python's own number or text, where it can be one.

    NumPy's numbers would change the arrays' dtype. Names in a list become a text with commas, a
    path a text, and a class of objects such as surrogates an object.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, list | tuple) and value and all(isinstance(x, str) for x in value):
        return ",".join(value)
    if isinstance(value, type) and is_object:
        return value()
    return str(value) if isinstance(value, Path) else value


def check(name: str, value: Any, default: Any, facts: Any) -> None:
    """Check a value's type and range; TypeError or ValueError names the setting."""
    if facts["methods"] and not isinstance(value, str):
        if all(callable(getattr(value, m, None)) for m in facts["methods"]):
            return
        got, methods = validate.shown(value), " and ".join(facts["methods"])
        raise TypeError(
            f"{name}: got {got}, want a name, module:object, or an object with {methods}"
        )
    check_type(name, value, default)
    if facts["choices"]:
        validate.one_of(name, value, facts["choices"])
    if value is None or isinstance(value, bool):
        return
    if isinstance(default, int) and facts["least"] is not None:
        validate.whole(name, value, facts["least"], None if name == "seed" else MOST)
    elif facts["least"] is not None:
        validate.at_least(name, value, facts["least"])
    elif facts["above"] is not None:
        validate.positive(name, value)


def check_type(name: str, value: Any, default: Any) -> None:
    """Check that a value is of its default's type, since settings may come from a file: a number
    must be a number, which True is not."""
    wanted = float if default is None else type(default)
    allowed = (int, float) if wanted is float else (wanted,)
    fits = isinstance(value, allowed) and isinstance(value, bool) == (wanted is bool)
    if fits or (value is None and default is None):
        return
    raise TypeError(f"{name}: got {validate.shown(value)}, want a value of type {wanted.__name__}")


def make_model(settings: Settings, name: str, kinds: Mapping[str, Any]) -> Any:
    """Return the model that a setting names, with its own options, or None where it has no class.

    Options are the settings MODEL_OPTION; ValueError where one of another model is given.
    """
    chosen, made = getattr(settings, name), None
    for model, kind in kinds.items():
        options = {item.name: getattr(settings, f"{model}_{item.name}") for item in fields(kind)}
        if model == chosen:
            made = kind(**options)
            continue
        for option, value in options.items():
            if value != getattr(kind, option):
                raise ValueError(
                    f"{model}_{option}: got {validate.shown(value)}, but {name} is {chosen}; only "
                    f"{model} has this option"
                )
    return made


@dataclass(frozen=True)
class NetworkSettings(Settings):
    arch: str = setting("resnet8", "architecture by name, or depths:widths such as 2-2-2:16-32-64")
    width: float = setting(1.0, "factor on all widths", above=0)
    branches: str = setting(
        Network.branches,
        "side branches after each stage or block, or after the blocks of these names, such as "
        "stage1.block0,stage2.block0",
    )
    readout: str = setting(Network.readout, "logits over time", choices=("mean", "sum"))
    downsample: str = setting(
        Network.downsample, "skip where the size halves", choices=("conv", "avgpool")
    )

    block: str = setting(
        Network.block,
        "blocks: the paper's, SEW-ResNet's by how they join spikes, or MS-ResNet's",
        choices=BLOCKS,
    )
    zero_init: bool = setting(
        Network.zero_init, "blocks start as their skips: their last batch norm's weight at 0"
    )

    def architecture(self) -> Architecture:
        """Return the architecture with its widths scaled."""
        return architecture(self.arch).scaled(self.width)


@dataclass(frozen=True)
class NeuronSettings(Settings):
    tau: float = setting(
        LIF.tau, "leak factor tau of the membrane potential per time step, in (0, 1]"
    )
    v_th: float = setting(LIF.v_th, "firing threshold, in units of the membrane potential")
    surrogate: str | Surrogate = setting(
        "tanh",
        f"surrogate slope: {', '.join(SURROGATES)}, or a module:object",
        methods=("slope",),
    )
    surrogate_shape: float | None = setting(
        None,
        "the surrogate's k, a, gamma, alpha, sigma or b; none: its usual one",
        above=0,
    )
    surrogate_end: float | None = setting(
        None,
        "the surrogate's number after the last epoch; it goes there epoch by epoch, by equal "
        "factors",
        above=0,
    )
    surrogate_search: bool = setting(
        False,
        "choose the surrogate's number anew before each epoch: the one whose gradient of the first "
        "layer is most along the loss's differences, as for dspike",
    )
    search_eps: float = setting(
        ShapeSearch.eps, "how far the search moves weights, in their deviations", above=0
    )
    search_step: float = setting(
        ShapeSearch.step, "how far the search moves the number in an epoch", above=0
    )
    search_weights: int = setting(
        ShapeSearch.weights, "weights that the search moves, each one forward pass; 0: all", least=0
    )
    surrogate_edge: str = setting("outside", "edge of the rectangular surrogate", choices=EDGES)
    reset_gradient: str = setting(
        LIF.reset_gradient, "differentiate the reset, or detach it", choices=RESET_GRADIENTS
    )
    reset: str = setting(LIF.reset, "reset to zero, or by subtraction", choices=RESETS)
    reset_amount: float | None = setting(
        None, "amount that a reset by subtraction takes off; none: v_th"
    )
    fire_at_threshold: bool = setting(LIF.fire_at_threshold, "fire at u_pre == v_th too")
    neuron_model: str = setting(
        "lif",
        "neurons: the paper's LIFs, or neurons with parameters that start at its settings",
        choices=("lif", *NEURONS),
    )
    plif_input_decay: bool = setting(PLIF.input_decay, "plif's current is s c[t], not c[t]")
    diet_reset_leaks: bool = setting(
        Diet.reset_leaks, "diet's potential leaks after its reset, not before"
    )

    def lif(self) -> LIF:
        """Return the neuron."""
        return LIF(
            self.tau,
            self.v_th,
            self.make_surrogate(),
            reset_gradient=self.reset_gradient,
            fire_at_threshold=self.fire_at_threshold,
            reset=self.reset,
            reset_amount=self.reset_amount,
        )

    def model(self) -> Neuron | None:
        """Return the neurons with parameters, or None for plain LIFs."""
        return make_model(self, "neuron_model", NEURONS)

    def search(self) -> ShapeSearch | None:
        """Return how the surrogate's number is chosen anew, or None; ValueError where it can't."""
        if self.surrogate_search:
            if self.surrogate_end is not None:
                raise ValueError("surrogate_search: got True, but surrogate_end moves the number")
            if not isinstance(self.surrogate, str) or ":" in self.surrogate:
                raise ValueError(f"surrogate_search: want it for {', '.join(SURROGATES)} alone")
            return ShapeSearch(self.search_eps, self.search_step, self.search_weights)
        for name in ("search_eps", "search_step", "search_weights"):
            if (value := getattr(self, name)) != getattr(NeuronSettings, name):
                raise ValueError(f"{name}: got {value}, but surrogate_search is off")
        return None

    def first_shape(self) -> float:
        """Return the surrogate's number before the first epoch."""
        start = self.make_surrogate()
        return float(getattr(start, fields(start)[0].name))  # type: ignore[arg-type]

    def with_shape(self, shape: float) -> Surrogate:
        """Return the surrogate with another number."""
        return make_surrogate(str(self.surrogate), shape, self.surrogate_edge)

    def surrogate_in(self, epoch: int, epochs: int) -> Surrogate:
        """Return the surrogate in an epoch, from 0; its number goes to `surrogate_end`.

            ln(K(i)) = ln(K_0) + ln(K_end/K_0) i/N

        Source: ESG, M11.
        """
        if self.surrogate_end is None:
            return self.make_surrogate()
        first = self.first_shape()
        shape = first * (self.surrogate_end / first) ** (epoch / epochs)  # ESG  # M11
        return self.with_shape(shape)

    def make_surrogate(self) -> Surrogate:
        """Return the surrogate: refsnn's own by its name, or one of the user's own."""
        if isinstance(self.surrogate, str) and ":" not in self.surrogate:
            return make_surrogate(self.surrogate, self.surrogate_shape, self.surrogate_edge)
        for name in ("surrogate_shape", "surrogate_edge", "surrogate_end"):
            if getattr(self, name) != getattr(NeuronSettings, name):
                raise ValueError(f"{name}: want it for {', '.join(SURROGATES)} alone")
        if isinstance(self.surrogate, str):
            return load_object("surrogate", self.surrogate)
        return self.surrogate


@dataclass(frozen=True)
class NormSettings(Settings):
    norm_statistics: str = setting(
        BatchNorm.statistics, "batch norm's statistics", choices=("pooled", "per_step")
    )
    norm_model: str = setting(
        "bn",
        "batch norm: the paper's, one with parameters for each time step, or psp's before weights",
        choices=("bn", *NORMS),
    )
    psp_root: bool = setting(PSPBN.root, "psp divides by the root of the second moment")
    norm_scale: float = setting(
        BatchNorm.scale, "factor on normalised values; the value of v_th makes tdBN", above=0
    )

    norm_merge_scale: float = setting(
        Network.merge_scale, "factor on both batch norms that meet in a block's sum", above=0
    )
    norm_identity: bool = setting(
        Network.norm_identity, "a batch norm on skips without a convolution too"
    )

    def norm(self) -> BatchNorm:
        """Return the batch norm."""
        return BatchNorm(self.norm_statistics, self.norm_scale)

    def model(self) -> Norm | None:
        """Return the batch norm's model, or None for the paper's."""
        return make_model(self, "norm_model", NORMS)


@dataclass(frozen=True)
class ObjectiveSettings(Settings):
    method: str = setting("evolutionary", "training method", choices=METHODS)
    lam: float = setting(0.25, "lambda, the side branches' weight at the start", least=0)
    lam_clock: str = setting(
        "iteration",
        "lambda falls with each iteration or each epoch",
        choices=("iteration", "epoch"),
    )
    shortcut_weight: float = setting(1.0, "side branches' weight with method shortcut", least=0)
    branch_sum: str = setting(
        "logits", "add the branches' logits, or their losses", choices=("logits", "losses")
    )
    loss: str | Loss = setting(
        "cross_entropy",
        "loss function: cross_entropy, tet (at every time step), or a module:object",
        methods=("forward", "backward"),
    )
    tet_lam: float = setting(TET.lam, "weight of tet's pull on the logits, in [0, 1]")
    tet_phi: float | None = setting(None, "what tet pulls all logits to; none: v_th")

    potential_loss: str = setting(
        "none",
        "loss of each layer's potentials beside that of the logits",
        choices=("none", *POTENTIAL_LOSSES),
    )
    potential_lam: float | None = setting(None, "weight of the loss of potentials", least=0)

    teacher: str = setting(
        "",
        "what to learn from beside the labels: the folder of a run, or a .npz file with logits or "
        "features of all training images in order",
    )
    teacher_loss: str = setting(
        "logits", "learn the teacher's logits, or its last features", choices=("logits", "features")
    )
    teacher_temperature: float = setting(
        Distillation.temperature, "what both logits are divided by, to be learnt", above=0
    )
    teacher_weight: float | None = setting(
        None,
        "weight of the teacher: in [0, 1], of which the rest is the labels' (logits), or of the "
        "features' squared error; none: 0.7, or 7e-5",
        least=0,
    )

    def make_potential_loss(self) -> PotentialLoss | None:
        """Return the loss of potentials, or None."""
        if self.potential_loss == "none":
            if self.potential_lam is not None:
                got = validate.shown(self.potential_lam)
                raise ValueError(f"potential_lam: got {got}, but potential_loss is none")
            return None
        kind = POTENTIAL_LOSSES[self.potential_loss]
        return kind() if self.potential_lam is None else kind(self.potential_lam)

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ("teacher_loss", "teacher_temperature", "teacher_weight")
        given = [name for name in names if getattr(self, name) != getattr(ObjectiveSettings, name)]
        if given and not self.teacher:
            raise ValueError(
                f"teacher: missing, but {given[0]} is {validate.shown(getattr(self, given[0]))}; "
                "want the folder of a run, or a .npz file with the teacher's answers"
            )
        if self.learns_features and "teacher_temperature" in given:
            got = validate.shown(self.teacher_temperature)
            raise ValueError(f"teacher_temperature: got {got}, but teacher_loss is features")
        if self.teacher and self.loss != "cross_entropy":
            got = validate.shown(self.loss)
            raise ValueError(f"loss: got {got}, but with a teacher it is cross_entropy")
        if self.teacher and not self.learns_features:
            self.make_distillation(np.zeros((1, 2)))

    @property
    def learns_features(self) -> bool:
        """Tell whether features are compared with a teacher's."""
        return bool(self.teacher) and self.teacher_loss == "features"

    @property
    def feature_weight(self) -> float:
        """Return the weight of the features' squared error."""
        return 7e-5 if self.teacher_weight is None else self.teacher_weight  # M16

    def make_distillation(self, logits: Array) -> Distillation:
        """Return the loss beside a teacher with these logits (N, K)."""
        alpha = Distillation.alpha if self.teacher_weight is None else self.teacher_weight
        try:
            return Distillation(logits, self.teacher_temperature, alpha)
        except ValueError as error:
            raise ValueError(f"teacher_weight: {str(error).removeprefix('alpha: ')}") from None

    def make_loss(self, v_th: float) -> Loss:
        """Return the loss: one of refsnn's by its name, or one of the user's own."""
        if self.loss == "tet":
            try:
                return TET(self.tet_lam, v_th if self.tet_phi is None else self.tet_phi)
            except (ValueError, TypeError) as error:
                raise type(error)(f"tet_{error}") from None
        for name in ("tet_lam", "tet_phi"):
            if (value := getattr(self, name)) != getattr(ObjectiveSettings, name):
                got = validate.shown(value)
                raise ValueError(f"{name}: got {got}, want it for loss tet alone")
        if self.loss == "cross_entropy":
            return CROSS_ENTROPY
        if isinstance(self.loss, str) and ":" not in self.loss:
            known = validate.nearest(self.loss, LOSSES)
            raise ValueError(f"loss: got {validate.shown(self.loss)}{known}, or a module:object")
        loss = load_object("loss", self.loss) if isinstance(self.loss, str) else self.loss
        for name in ("forward", "backward"):
            if not callable(getattr(loss, name, None)):
                got = validate.shown(loss)
                raise TypeError(
                    f"loss: got {got}, want an object with forward(logits, labels) and "
                    "backward(cache)"
                )
        return loss


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    optimizer: str = setting("adamw", "optimiser", choices=("adamw", "sgd"))
    lr: float = setting(0.01, "learning rate at the start; falls towards 0 as a cosine", above=0)
    momentum: float = setting(0.9, "momentum of sgd, in [0, 1)")
    weight_decay: float = setting(0.02, "weight decay", least=0)
    decay_on: str = setting(
        "all", "parameters that decay: all, or weights alone", choices=("all", "weights")
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.momentum < 1:
            got = validate.shown(self.momentum)
            raise ValueError(f"momentum: got {got}, want a number in [0, 1)")


@dataclass(frozen=True)
class DataSettings(Settings):
    dataset: str = setting("digits", "name (see refsnn data list), or a .npz file of arrays")
    augment: str = setting(
        Options.augment, "augmentation; basic is without AutoAugment", choices=AUGMENT
    )
    cutout: int = setting(Options.cutout, "side of Cutout's square, 0 for none", "pixels", least=0)
    image_size: int = setting(
        Options.image_size, "side of images and frames, 0 for the data set's own", "pixels", least=0
    )
    event_slices: str = setting(
        Options.event_slices, "events in a frame: equal count or duration", choices=SLICES
    )
    any_range: bool = setting(
        Options.any_range,
        "training and test images of a .npz file may differ in unit or kind of number",
    )
    skip_unreadable: bool = setting(
        Options.skip_unreadable,
        "leave out files that can't be read (imagefolder, cifar10dvs, nmnist)",
    )
    data_dir: str = setting(
        Options.data_dir, "folder of the data sets (default: $REFSNN_DATA, or the cache's)"
    )
