"""`refsnn export`: a run's network as a file for other programs."""

import argparse
from pathlib import Path
from typing import Any

from refsnn.data import load
from refsnn.export.parameters import save_parameters, trained_in
from refsnn.files.arrays import SUFFIXES
from refsnn.network import Network, Params, without_branches
from refsnn.ops import validate
from refsnn.training.config import TrainConfig
from refsnn.training.folder import open_run

NIR = ".nir"
ONLY_NIR = ("image_size", "dt")


def add_options(parser: Any) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=".npz or .safetensors: all parameters and running statistics, named and ordered as "
        "in a PyTorch state_dict; .nir: the main branch as a NIR graph, batch norm folded",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side of the images that a NIR graph is for, in pixels (default: the data set's)",
    )
    parser.add_argument(
        "--dt",
        type=float,
        metavar="X",
        help="a time step of a NIR graph in seconds (default: 1e-4)",
    )


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    validate.one_of("file", path.suffix, (*SUFFIXES, NIR))
    if not path.parent.is_dir():
        raise ValueError(f"file: got {path}, but there is no folder {path.parent}")
    for name in ONLY_NIR:
        if path.suffix != NIR and getattr(arguments, name) is not None:
            raise ValueError(f"{name}: got one for a {path.suffix} file, want it for {NIR} alone")
    config, net, state = open_run(arguments.folder)
    params, buffers = state.params, state.buffers
    if path.suffix == NIR:
        what = export_nir(path, net, params, buffers, config, arguments)
    else:
        save_parameters(path, net, params, buffers, trained_in(config, state))
        arch = config.network.arch
        what = f"{net.count_parameters()} parameters of {arch} with its running statistics"
    print(f"{path}: {what}")
    return 0


def export_nir(
    path: Path,
    net: Network,
    params: Params,
    buffers: Params,
    config: TrainConfig,
    arguments: argparse.Namespace,
) -> str:
    """Writes, and says what."""
    from refsnn.export.nir import DT, to_nir, write_nir

    if arguments.image_size is not None:
        height = width = arguments.image_size
    else:
        height, width = load(
            config.data.dataset, config.data_options(begun=True)
        ).train.images.shape[-3:-1]
    dt = DT if arguments.dt is None else arguments.dt
    graph = to_nir(net, params, buffers, (height, width), dt, {"steps": config.steps})
    write_nir(path, graph)
    dropped = net.count_parameters() - without_branches(net, params)[0].count_parameters()
    return (
        f"NIR graph of {config.network.arch}, {len(graph.nodes)} nodes, for {config.steps} steps "
        f"of {height}x{width} pixels; {dropped} parameters of side branches dropped"
    )
