"""The network that the numbers in a file belong to, as JSON and back, without trust."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from refsnn.files.documents import parse_json
from refsnn.files.reading import one_line
from refsnn.files.schema import Rules, object_with, violation
from refsnn.network import Architecture, Network, Stem
from refsnn.ops import LIF, SURROGATES, AvgPool, BatchNorm

CONFIG = "refsnn.config"  # the key of what rebuilds the network, a JSON text
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
    }
)
NORM = object_with({"statistics": TEXT, "scale": NUMBER, "eps": NUMBER, "momentum": NUMBER})
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
    }
)
#: what format 1 called otherwise
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
RULES = object_with({"format": {"const": FORMAT}, "network": NETWORK})


def network_to_json(net: Network) -> str:
    return json.dumps({"format": FORMAT, "network": network_to_dict(net)}, sort_keys=True)


def network_to_dict(net: Network) -> dict[str, Any]:
    """Describe a network by values that JSON can hold, for `network_from_dict`.

    TypeError where a part is of a class that isn't refsnn's own, which nothing could make again.
    """
    surrogate = net.lif.surrogate
    names = {kind: name for name, kind in SURROGATES.items()}
    if type(surrogate) not in names:
        raise TypeError(
            f"surrogate: got {type(surrogate).__name__}, want one of {', '.join(SURROGATES)}"
        )
    parts = (net, Network), (net.lif, LIF), (net.norm, BatchNorm), (net.arch, Architecture)
    for part, kind in parts:
        if type(part) is not kind:
            raise TypeError(f"net: got {type(part).__name__}, want exactly {kind.__name__}")
    values = asdict(net)
    values["lif"]["surrogate"]["name"] = names[type(surrogate)]
    return values


def network_from_dict(values: Mapping[str, Any]) -> Network:
    """ValueError, TypeError or KeyError where the values make no network."""
    arch, lif = dict(values["arch"]), dict(values["lif"])
    stem, surrogate = dict(arch["stem"]), dict(lif["surrogate"])
    if stem["pool"] is not None:
        stem["pool"] = AvgPool(**stem["pool"])
    arch |= {name: tuple(arch[name]) for name in ("depths", "widths")}
    lif["surrogate"] = SURROGATES[surrogate.pop("name")](**surrogate)
    parts = {
        "arch": Architecture(**arch | {"stem": Stem(**stem)}),
        "lif": LIF(**lif),
        "norm": BatchNorm(**values["norm"]),
    }
    return Network(**dict(values) | parts)


def from_former(config: dict[str, Any]) -> dict[str, Any]:
    """Return what a file of format 1 holds as format 2 has it; what is wrong stays wrong."""
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


def network_from_json(text: Any, arrays: int) -> Network:
    """The network of a file with so many arrays; ValueError says why there is none."""
    if text is None:
        raise ValueError(f"{CONFIG}: missing, so net is wanted: the network that this belongs to")
    wrong = f"{CONFIG}: describes no network"
    config = from_former(parse_json(str(text), wrong, {"type": "object"}))
    if found := violation(config, RULES):
        raise ValueError(f"{wrong}: {found}")
    arch = config["network"]["arch"]
    if sum(arch["depths"]) + arch["stem"]["convs"] > arrays:  # before they are counted through
        raise ValueError(f"{wrong}: got more blocks than the file has arrays, {arrays}")
    try:
        return network_from_dict(config["network"])
    except (KeyError, ValueError, TypeError) as error:
        raise ValueError(f"{wrong}: {one_line(error)}") from None
