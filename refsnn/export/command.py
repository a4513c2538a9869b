"""The command `refsnn export`, which writes a run's network to a file for other programs."""

import argparse
from pathlib import Path
from typing import Any

from refsnn.data import load
from refsnn.export.parameters import save_parameters, trained_in
from refsnn.files.arrays import SUFFIXES
from refsnn.network import Network, Params, fold, without_branches
from refsnn.ops import validate
from refsnn.training.config import TrainConfig
from refsnn.training.folder import open_run
from refsnn.training.options import add_best

NIR = ".nir"
ONLY_NIR = ("image_size", "dt")


def add_options(parser: Any) -> None:
    parser.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=".npz or .safetensors: all parameters and running statistics, with the names and axis "
        "order of a PyTorch state_dict; .nir: the main branch as a NIR graph, with batch norm "
        "folded into the convolutions",
    )
    add_best(parser)
    parser.add_argument(
        "--folded",
        action="store_true",
        help="write the network as inference computes it: batch norm and other constants of "
        "training go into weights, biases and thresholds, and side branches are left out (a .nir "
        "file always is so)",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="N",
        help="side in pixels of the images that a NIR graph takes (default: the data set's)",
    )
    parser.add_argument(
        "--dt",
        type=float,
        metavar="X",
        help="length of a NIR graph's time step in seconds (default: 1e-4)",
    )


def run(arguments: argparse.Namespace) -> int:
    path: Path = arguments.file
    validate.one_of("file", path.suffix, (*SUFFIXES, NIR))
    if not path.parent.is_dir():
        raise ValueError(f"file: got {path}, but there is no folder {path.parent}")
    for name in ONLY_NIR:
        if path.suffix != NIR and getattr(arguments, name) is not None:
            raise ValueError(f"{name}: got one for a {path.suffix} file, want it only for {NIR}")
    config, net, state = open_run(arguments.folder, arguments.best)
    params, buffers = state.params, state.buffers
    if path.suffix == NIR:
        written = export_nir(path, net, params, buffers, config, arguments)
    else:
        if arguments.folded:
            (net, params), buffers = fold(net, params, buffers), {}
        save_parameters(path, net, params, buffers, trained_in(config, state))
        what = "folded for inference" if arguments.folded else "with its running statistics"
        written = f"{net.count_parameters()} parameters of {config.network.arch} {what}"
    print(f"{path}: {written}")
    return 0


def export_nir(
    path: Path,
    net: Network,
    params: Params,
    buffers: Params,
    config: TrainConfig,
    arguments: argparse.Namespace,
) -> str:
    """Write the NIR graph, and return a description of it."""
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
