"""Conversion of a network's description to JSON and back, checking all that is read."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any

from refsnn.files.documents import parse_json
from refsnn.files.reading import one_line
from refsnn.files.schema import Rules, object_with, violation
from refsnn.network import Architecture, Network, Stem
from refsnn.ops import (
    LIF,
    NEURONS,
    NORMS,
    SURROGATES,
    AvgPool,
    BatchNorm,
    Folded,
    FoldedByStep,
    Thresholds,
)

CONFIG = "refsnn.config"  # the key of the network's description, a JSON text
FORMAT = 2
COUNT: Rules = {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
NUMBER, FLAG, TEXT, COUNTS = (
    {"type": "number"},
    {"type": "boolean"},
    {"type": "string"},
    {"type": "array", "items": COUNT},
)
POOL: Rules = {"type": ["object", "null"], "additionalProperties": COUNT | {"minimum": 0}}
STEM = object_with({"kernel": COUNT, "stride": COUNT, "convs": COUNT, "pool": POOL})
ARCH = object_with(
    {
        "depths": COUNTS,
        "widths": COUNTS,
        "stem_width": COUNT,
        "stem": STEM,
        "hidden": COUNT | {"minimum": 0},
    }
)
SURROGATE = object_with({"name": TEXT}, {"edge": TEXT}) | {
    "additionalProperties": {"type": ["number", "null"]}
}
LIF_RULES = object_with(
    {
        "tau": NUMBER,
        "v_th": NUMBER,
        "surrogate": SURROGATE,
        "reset_gradient": TEXT,
        "fire_at_threshold": FLAG,
        "smooth": FLAG,
    },
    {"reset": TEXT, "reset_amount": {"type": ["number", "null"]}},
)
NORM = object_with({"statistics": TEXT, "scale": NUMBER, "eps": NUMBER, "momentum": NUMBER})
MODEL = object_with({"name": TEXT}) | {"additionalProperties": FLAG}
MODELS: dict[str, Mapping[str, type[Any]]] = {
    "neuron_model": {**NEURONS, "thresholds": Thresholds},
    "norm_model": {**NORMS, "folded": Folded, "folded_by_step": FoldedByStep},
}
NEWER = ("block", "zero_init", "merge_scale", "norm_identity", "steps", "aligned")
NETWORK = object_with(
    {
        "arch": ARCH,
        "in_channels": COUNT,
        "num_classes": COUNT,
        "branches": TEXT,
        "lif": LIF_RULES,
        "norm": NORM,
        "downsample": TEXT,
        "readout": TEXT,
    },
    {
        "neuron_model": MODEL,
        "norm_model": MODEL,
        "block": TEXT,
        "zero_init": FLAG,
        "merge_scale": NUMBER,
        "norm_identity": FLAG,
        "steps": COUNT,
        "aligned": COUNT,
    },
)
#: fields that had other names in format 1
FORMER = object_with(
    {
        "format": {"const": 1},
        "network": object_with(
            {
                "lif": object_with(
                    {
                        "detach_reset": FLAG,
                        "inclusive": FLAG,
                        "surrogate": object_with({}, {"inclusive": FLAG}),
                    }
                )
            }
        ),
    }
)
TRAINING = object_with(
    {
        "settings": {"type": "object"},
        "iteration": COUNT | {"minimum": 0, "maximum": 2**53},
        "mean": {"type": "array", "items": NUMBER},
        "std": {"type": "array", "items": NUMBER},
    }
)
RULES = object_with({"format": {"const": FORMAT}, "network": NETWORK}, {"training": TRAINING})


class MissingConfig(ValueError):
    """Raised for a file that does not say which network its arrays belong to."""


def network_to_json(net: Network, training: dict[str, Any] | None = None) -> str:
    """Describe a network, and how it was trained where that is given, as JSON."""
    config = {"format": FORMAT, "network": network_to_dict(net)}
    whole = config if training is None else config | {"training": training}
    return json.dumps(whole, sort_keys=True)


def network_to_dict(net: Network) -> dict[str, Any]:
    """Describe a network by values that JSON can hold, for `network_from_dict`.

    TypeError where a part is of a class that isn't refsnn's own, which could not be rebuilt.
    """
    surrogate = net.lif.surrogate
    names = {cls: name for name, cls in SURROGATES.items()}
    if type(surrogate) not in names:
        raise TypeError(
            f"surrogate: got {type(surrogate).__name__}, want one of {', '.join(SURROGATES)}"
        )
    parts = (net, Network), (net.lif, LIF), (net.norm, BatchNorm), (net.arch, Architecture)
    for part, cls in parts:
        if type(part) is not cls:
            raise TypeError(f"net: got {type(part).__name__}, want exactly {cls.__name__}")
    values = asdict(net)
    values["lif"]["surrogate"]["name"] = names[type(surrogate)]
    for field, known in MODELS.items():
        model = getattr(net, field)
        name_of = {cls: name for name, cls in known.items()}
        if model is None:
            del values[field]
        elif type(model) not in name_of:
            got, want = type(model).__name__, ", ".join(known)
            raise TypeError(f"{field}: got {got}, want one of {want}")
        else:
            values[field]["name"] = name_of[type(model)]
    for item in fields(net):  # what older versions did not have
        newer = item.name in NEWER
        if newer and getattr(net, item.name) == item.default:
            del values[item.name]
    return values


def network_from_dict(values: Mapping[str, Any]) -> Network:
    """Make the network that values describe; ValueError, TypeError or KeyError if they don't."""
    arch, lif = dict(values["arch"]), dict(values["lif"])
    stem, surrogate = dict(arch["stem"]), dict(lif["surrogate"])
    if stem["pool"] is not None:
        stem["pool"] = AvgPool(**stem["pool"])
    arch |= {name: tuple(arch[name]) for name in ("depths", "widths")}
    lif["surrogate"] = SURROGATES[surrogate.pop("name")](**surrogate)
    parts: dict[str, Any] = {
        "arch": Architecture(**arch | {"stem": Stem(**stem)}),
        "lif": LIF(**lif),
        "norm": BatchNorm(**values["norm"]),
    }
    for field, known in MODELS.items():
        if field in values:
            options = dict(values[field])
            parts[field] = known[options.pop("name")](**options)
    return Network(**dict(values) | parts)


def from_former(config: dict[str, Any]) -> dict[str, Any]:
    """Convert a description of format 1 to format 2; return any other one unchanged."""
    if violation(config, FORMER):
        return config
    network = dict(config["network"])
    lif = dict(network["lif"])
    lif["reset_gradient"] = "detached" if lif.pop("detach_reset") else "full"
    lif["fire_at_threshold"] = lif.pop("inclusive")
    surrogate = dict(lif["surrogate"])
    if "inclusive" in surrogate:
        surrogate["edge"] = "inside" if surrogate.pop("inclusive") else "outside"
    return config | {"format": FORMAT, "network": network | {"lif": lif | {"surrogate": surrogate}}}


def network_from_json(text: Any, arrays: int) -> tuple[Network, dict[str, Any] | None]:
    """Read the network of a file with so many arrays, and how it was trained or None.

    ValueError says why there is none.
    """
    if text is None:
        raise MissingConfig(f"{CONFIG}: missing, want the argument net, these arrays' network")
    wrong = f"{CONFIG}: describes no network"
    config = from_former(parse_json(str(text), wrong, {"type": "object"}))
    if found := violation(config, RULES):
        raise ValueError(f"{wrong}: {found}")
    arch = config["network"]["arch"]
    if sum(arch["depths"]) + arch["stem"]["convs"] > arrays:  # before billions of them are listed
        raise ValueError(f"{wrong}: got more blocks than the file has arrays, {arrays}")
    try:
        return network_from_dict(config["network"]), config.get("training")
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{wrong}: {one_line(error)}") from None
