"""`refsnn bench`: options, order of the measurements, output."""

import argparse
import json
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from refsnn.bench import report
from refsnn.bench.machine import describe_machine
from refsnn.bench.measure import compare
from refsnn.bench.processes import single
from refsnn.bench.scaling import scaling
from refsnn.bench.workload import LIBRARIES, PHASES, Spec, check_stem
from refsnn.network import architecture
from refsnn.ops import CONV_METHODS, validate
from refsnn.output import open_output, say
from refsnn.system import load_average, usable_cores

DEFAULT_ARCHS = ("resnet20", "resnet18")
BATCH_SIZES = {"resnet20": 32}
OTHER_BATCH_SIZE = 16
INFERENCE_DENSITY = 0.15


def add_options(parser: Any) -> None:
    parser.add_argument(
        "--arch",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="architectures, by name or as depths:widths (default: resnet20 resnet18)",
    )
    for name, default, text in (
        ("steps", 4, "length T of the simulation, in time steps (default: 4)"),
        ("batch-size", None, "images in a batch (default: 32 for resnet20, otherwise 16)"),
        ("size", 32, "side of the images, in pixels (default: 32)"),
        ("threads", None, "threads of every library (default: as the environment says)"),
        ("repeats", 5, "rounds, of which medians are taken (default: 5)"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    parser.add_argument(
        "--density",
        type=float,
        metavar="X",
        help="spikes a neuron and step, reached by shifting batch norm's biases (default: "
        f"training as initialised, inference {INFERENCE_DENSITY})",
    )
    parser.add_argument(
        "--ops",
        default="numba",
        choices=("numba", "numpy"),
        help="kernels or reference equations (default: numba)",
    )
    parser.add_argument(
        "--conv",
        default="auto",
        choices=CONV_METHODS,
        help="the way of convolving, where it can be used, else dense (default: auto, by shape "
        "and density)",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="the same in PyTorch: SpikingJelly, snnTorch and a plain loop",
    )
    parser.add_argument(
        "--contiguous",
        action="store_true",
        help="peers keep images as (N, C, H, W) in memory, not channels last",
    )
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="then how a training step's time and memory grow with T and with the batch",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="write one JSON object too; - prints it, and nothing else"
    )


def specs(arguments: argparse.Namespace) -> list[Spec]:
    """A spec for each architecture and phase, all checked before anything runs."""
    made = []
    for arch in dict.fromkeys(arguments.arch or DEFAULT_ARCHS):
        size = arguments.batch_size
        for phase in PHASES:
            density = arguments.density
            if density is None and phase == "inference":
                density = INFERENCE_DENSITY
            made.append(
                Spec(
                    arch=arch,
                    phase=phase,
                    steps=arguments.steps,
                    size=arguments.size,
                    batch_size=BATCH_SIZES.get(arch, OTHER_BATCH_SIZE) if size is None else size,
                    density=density,
                    threads=arguments.threads,
                    ops=arguments.ops,
                    conv=arguments.conv,
                    channels_last=not arguments.contiguous,
                )
            )
    return made


def check(arguments: argparse.Namespace, made: list[Spec]) -> None:
    """ValueError for what would fail only after a while."""
    validate.whole("repeats", arguments.repeats, 1)
    if arguments.threads is not None and arguments.threads > usable_cores():
        raise ValueError(
            f"threads: got {arguments.threads}, want at most {usable_cores()}, the cores"
        )
    if arguments.peers:
        for name in LIBRARIES[:0:-1]:  # torch first: the others need it
            if find_spec(name) is None:
                raise ValueError(f"peers: {name} is not installed; pip install 'refsnn[peers]'")
        for spec in made:
            check_stem(architecture(spec.arch))


def run(arguments: argparse.Namespace) -> int:
    made = specs(arguments)
    check(arguments, made)
    with open_output(arguments.json) as write:
        write(json.dumps(measure_all(arguments, made), indent=2))
    return 0


def measure_all(arguments: argparse.Namespace, made: list[Spec]) -> dict[str, Any]:
    """All measurements, told as they come; the whole of them as one object."""

    def show(text: str) -> None:
        if arguments.json != "-":
            print(text, end="\n\n", flush=True)

    say("peaks of the machine")
    load = load_average()
    peaks = single(replace(made[0], task="peaks"))
    machine = describe_machine(peaks, load)
    show(report.machine_lines(machine))
    libraries = LIBRARIES if arguments.peers else LIBRARIES[:1]
    found: dict[str, Any] = {"machine": machine, "results": [], "ratios": []}
    for spec in made:
        results, ratios = compare(spec, libraries, arguments.repeats, peaks, say)
        found["results"] += results
        found["ratios"] += ratios
        show(report.workload(results, ratios))
    if arguments.scaling:
        found["scaling"] = []
        for spec in (spec for spec in made if spec.phase == "train"):
            for row in scaling(spec, arguments.repeats, say):
                found["scaling"].append(row)
                show(report.scaling_table(row))
    say("")
    return found
