"""Reader of NIR files."""

from pathlib import Path
from typing import Any

import numpy as np

from refsnn.export.hdf5 import Tree, parse_tree
from refsnn.export.nir_check import FIELDS, check_graph
from refsnn.files.extras import import_extra
from refsnn.files.reading import one_line, read_bytes

ABOUT = ("type", "metadata")  # entries of a node besides its fields


def read_nir(path: Path | str) -> Any:
    """Read a `nir.NIRGraph` from a file.

    Shapes are not inferred, and may have a batch axis, which `run_nir` ignores. Raises ValueError,
    which names the file and what is wrong with it or the node that refsnn can't run, and OSError
    where the file can't be opened.
    """
    nir, path = import_extra("nir", "nir"), Path(path)
    import_extra("h5py", "nir")
    content = read_bytes(path)
    try:
        graph = parse_tree(content)["node"]
        nodes, edges = graph["nodes"], pairs(graph["edges"])
        kinds = {name: node["type"] for name, node in nodes.items()}
        if graph["type"] != "NIRGraph" or not all(isinstance(k, str) for k in kinds.values()):
            raise ValueError("a type is not a text, or the graph's is not NIRGraph")
    except KeyError as error:
        raise ValueError(f"{path}: no NIR graph, or damaged (has no {one_line(error)})") from None
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: no NIR graph, or damaged ({one_line(error)})") from None
    try:
        check_graph({n: (kinds[n], fields(node)) for n, node in nodes.items()}, edges)
        made = {name: make(nir, name, node) for name, node in nodes.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {one_line(error)}") from None
    return nir.NIRGraph(made, edges, graph.get("metadata", {}), type_check=False)


def pairs(edges: Any) -> list[tuple[str, str]]:
    names = np.asarray(edges)
    if names.ndim != 2 or names.shape[1] != 2 or names.dtype.kind != "U":
        raise ValueError(f"edges: got {names.dtype} of shape {names.shape}, want pairs of names")
    return [(str(source), str(target)) for source, target in names]


def fields(node: Tree) -> Tree:
    return {name: value for name, value in node.items() if name not in ABOUT}


def make(nir: Any, name: str, node: Tree) -> Any:
    """Make the package's node, with None for fields that the file leaves out."""
    kind = node["type"]
    try:
        return nir.dict2NIRNode(dict.fromkeys(FIELDS[kind]) | node)
    except Exception as error:  # nir checks more than `check_graph` does
        raise ValueError(
            f"node {name} ({kind}): nir does not take it ({one_line(error)})"
        ) from None
