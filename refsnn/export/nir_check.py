"""Checks of a NIR graph's content: the nodes' types, their fields, and the edges.

Fields are in PyTorch's axis order, as NIR requires; shapes are those of one image, without T and N.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from refsnn.export.parameters import as_array
from refsnn.ops import Array, validate

MOST = 2**31 - 1  # the largest whole number
Fields = dict[str, Any]
Parser = Callable[[str, Any], Any]  # (field's name, value) -> checked value


class Node(NamedTuple):
    kind: str
    fields: Fields  # an optional field that is missing is None


class Graph(NamedTuple):
    nodes: dict[str, Node]
    before: dict[str, list[str]]  # node -> nodes that its input comes from, in the edges' order


def check_graph(nodes: Mapping[str, tuple[str, Mapping[str, Any]]], edges: Iterable[Any]) -> Graph:
    """Check edges, and nodes given as (type, fields); ValueError names node and field."""
    check_types({name: kind for name, (kind, _) in nodes.items()})
    checked = {}
    for name, (kind, fields) in nodes.items():
        try:
            checked[name] = Node(kind, check_fields(kind, fields))
        except (ValueError, TypeError) as error:
            raise ValueError(f"node {name} ({kind}): {error}") from None
    return Graph(checked, check_edges(checked, edges))


def check_types(kinds: Mapping[str, str]) -> None:
    for name, kind in kinds.items():
        if kind not in FIELDS:
            raise ValueError(f"node {name}: got type {kind}, want one of {', '.join(FIELDS)}")
    for kind in ("Input", "Output"):
        count = list(kinds.values()).count(kind)
        if count != 1:
            raise ValueError(f"graph: got {count} nodes of type {kind}, want 1")


def check_edges(nodes: Mapping[str, Node], edges: Iterable[Any]) -> dict[str, list[str]]:
    before: dict[str, list[str]] = {name: [] for name in nodes}
    for edge in edges:
        if len(edge) != 2:
            raise ValueError(f"graph: got the edge {edge}, want two names")
        source, target = map(str, edge)
        if source not in nodes or target not in nodes:
            lost = source if source not in nodes else target
            raise ValueError(f"graph: got the edge {source} -> {target}, but no node {lost}")
        if source in before[target]:
            raise ValueError(f"graph: got the edge {source} -> {target} twice, want it once")
        before[target].append(source)
    for name, sources in before.items():
        is_input = nodes[name].kind == "Input"
        if not sources and not is_input:
            raise ValueError(f"node {name}: got no edge that leads to it, want at least one")
        if sources and is_input:
            raise ValueError(f"node {name}: got an edge that leads to it, want none to an Input")
    return before


def check_fields(kind: str, fields: Mapping[str, Any]) -> Fields:
    """Parse the fields of a node of this type, and check that their shapes fit."""
    known = FIELDS[kind]
    surplus = set(fields) - set(known)
    if surplus:
        raise ValueError(f"{min(surplus)}: surplus, want only {', '.join(known)}")
    found: Fields = {}
    for field, parse in known.items():
        value = fields.get(field)
        if value is None and field not in OPTIONAL:
            raise ValueError(f"{field}: missing")
        found[field] = None if value is None else parse(field, value)
    if found.get("bias") is not None and found["bias"].shape != found["weight"].shape[:1]:
        raise ValueError(
            f"bias: got shape {found['bias'].shape}, want {found['weight'].shape[:1]} like weight"
        )
    if "v_threshold" in found:
        if found["v_reset"] is None:
            found["v_reset"] = np.zeros_like(found["v_threshold"])
        for field, value in found.items():
            if value.shape != found["r"].shape:
                raise ValueError(
                    f"{field}: got shape {value.shape}, want {found['r'].shape} like r"
                )
    return found


def numbers(field: str, value: Any) -> Array:
    """Parse finite numbers of any shape."""
    x = as_array(field, value)
    if x.dtype.kind not in "iuf":
        raise ValueError(f"{field}: got dtype {x.dtype}, want numbers")
    if not x.size:
        raise ValueError(f"{field}: got shape {x.shape}, want at least one number")
    refuse(field, x, ~np.isfinite(x), "finite numbers")
    return x


def refuse(field: str, x: Array, bad: Array, wanted: str) -> None:
    """Check that no number is bad; ValueError shows the first that is."""
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"{field}: got {x[where]}{f' at {where}' if where else ''}, want {wanted}")


def positive(field: str, value: Any) -> Array:
    x = numbers(field, value)
    refuse(field, x, x <= 0, "finite numbers above 0")
    return x


def with_axes(axes: int) -> Parser:
    def parse(field: str, value: Any) -> Array:
        x = numbers(field, value)
        if x.ndim != axes:
            raise ValueError(f"{field}: got shape {x.shape}, want {axes} axes")
        return x

    return parse


def whole_numbers(field: str, value: Any, least: int) -> Array:
    x = numbers(field, value)
    bad = (x != np.floor(x)) | (x < least) | (x > MOST)
    refuse(field, x, bad, f"whole numbers from {least} to {MOST}")
    return x


def whole(least: int) -> Parser:
    def parse(field: str, value: Any) -> int:
        x = whole_numbers(field, value, least)
        if x.size != 1:
            raise ValueError(f"{field}: got shape {x.shape}, want one number")
        return int(x.item())

    return parse


def pair(least: int) -> Parser:
    """Return a parser of (rows, columns), or of one number for both, of at least `least`."""

    def parse(field: str, value: Any) -> tuple[int, int]:
        if isinstance(value, str | bytes):
            raise ValueError(f"{field}: got {value!r}, want numbers of pixels")
        x = whole_numbers(field, value, least)
        if x.shape not in ((), (1,), (2,)):
            raise ValueError(f"{field}: got shape {x.shape}, want one or two numbers")
        rows, columns = np.broadcast_to(x, 2)
        return int(rows), int(columns)

    return parse


def shape(field: str, value: Any) -> tuple[int, ...]:
    """Parse (features,) or (C, H, W), or either with the batch axis before it that some write."""
    x = whole_numbers(field, value, 1)
    if x.ndim != 1 or len(x) > 4:
        raise ValueError(f"{field}: got {x.tolist()}, want (features,) or (C, H, W)")
    return tuple(map(int, x))


def has_batch(shape: tuple[int, ...]) -> bool:
    return len(shape) % 2 == 0


NEURON: dict[str, Parser] = {"r": positive, "v_threshold": numbers, "v_reset": numbers}
POOL: dict[str, Parser] = {"kernel_size": pair(1), "stride": pair(1), "padding": pair(0)}
OPTIONAL = ("bias", "input_shape", "input_type", "v_reset")
#: type of node -> its fields' names in NIR's files, with their parsers
FIELDS: dict[str, dict[str, Parser]] = {
    "Input": {"shape": shape},
    "Output": {"shape": shape},
    "Conv2d": {
        "input_shape": pair(1),
        "weight": with_axes(4),
        "stride": pair(1),
        "padding": pair(0),
        "dilation": pair(1),
        "groups": whole(1),
        "bias": with_axes(1),
    },
    "AvgPool2d": POOL,
    "Flatten": {"start_dim": whole(-4), "end_dim": whole(-4), "input_type": shape},
    "Affine": {"weight": with_axes(2), "bias": with_axes(1)},
    "Linear": {"weight": with_axes(2)},
    "LIF": {"tau": positive, "v_leak": numbers} | NEURON,
    "IF": NEURON,
}


def fields_of(node: Any) -> Fields:
    """Return the fields of a node of the package `nir`, with their names in a file."""
    fields = {
        name: value
        for name, value in vars(node).items()
        if name not in ("input_type", "output_type", "metadata")
    }
    kind = type(node).__name__
    if kind in ("Input", "Output"):
        fields["shape"] = node.input_type["input"]
    elif kind == "Flatten":
        fields["input_type"] = node.input_type["input"]
    return fields


def positive_number(name: str, value: Any) -> float:
    """Return a finite number above 0 as float; ValueError or TypeError for other values."""
    x = np.asarray(value)
    if x.size != 1 or x.dtype.kind not in "iuf":
        raise TypeError(f"{name}: got {value!r:.60}, want a number")
    number = float(x.item())
    validate.positive(name, number)
    return number
