"""The command `refsnn bench`: its options, the order of its measurements, its output."""

import argparse
import json
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from refsnn.bench import linear_lif, report
from refsnn.bench.machine import describe_machine
from refsnn.bench.measure import compare, prepared
from refsnn.bench.processes import single
from refsnn.bench.scaling import scaling
from refsnn.bench.workload import LIBRARIES, LINEAR_LIF, PHASES, Spec
from refsnn.ops import CONV_METHODS, validate
from refsnn.output import open_output, say
from refsnn.system import load_average, usable_cores
from refsnn.training.recipes import self_contained

DEFAULT_ARCHS = ("resnet20", "resnet18")
BATCH_SIZES = {"resnet20": 32}
OTHER_BATCH_SIZE = 16
STEPS = 4
INFERENCE_DENSITY = 0.15
UNROLLING = ("torch.compile",)  # it would compile each of 500 steps


def add_options(parser: Any) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "--arch",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="architectures by name, or as depths:widths, or linear-lif, a linear layer and LIF "
        "neurons (linear-lif:N of N neurons) (default: resnet20 resnet18)",
    )
    parser.add_argument(
        "--recipe",
        nargs="+",
        default=[],
        metavar="NAME",
        help="also measure the same architecture by methods of the literature, beside the paper's "
        "(refsnn methods lists them; all: each of them)",
    )
    for name, default, text in (
        ("steps", None, "time steps T (default: 4, or 500 for linear-lif)"),
        ("batch-size", None, "images per batch (default: 32 for resnet20, otherwise 16)"),
        ("size", 32, "height and width of the images in pixels (default: 32)"),
        ("threads", None, "threads per library (default: as set by the environment)"),
        ("repeats", 5, "rounds; results are medians over them (default: 5)"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=text)
    parser.add_argument(
        "--density",
        type=float,
        metavar="X",
        help="mean firing rate, in spikes per neuron and time step, which batch norm's biases are "
        "shifted to reach (default: in training as initialised, in inference "
        f"{INFERENCE_DENSITY})",
    )
    parser.add_argument(
        "--ops",
        default="numba",
        choices=("numba", "numpy"),
        help="Numba kernels or the NumPy reference (default: numba)",
    )
    parser.add_argument(
        "--conv",
        default="auto",
        choices=CONV_METHODS,
        help="convolution algorithm; a layer for which it does not work uses dense (default: auto, "
        "which chooses by shape and firing rate)",
    )
    parser.add_argument(
        "--memory",
        default="normal",
        choices=("normal", "low"),
        help="low: refsnn keeps spikes alone in training, and computes the rest again (default: "
        "normal)",
    )
    parser.add_argument(
        "--peers",
        action="store_true",
        help="also measure the same network in PyTorch: with a plain loop over time, under "
        "torch.compile and without, and with the neurons of SpikingJelly and of snnTorch",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="give ratios to the other libraries even where other programs use the cores",
    )
    parser.add_argument(
        "--contiguous",
        action="store_true",
        help="run PyTorch in its default memory format (N, C, H, W) instead of channels last",
    )
    parser.add_argument(
        "--scaling",
        action="store_true",
        help="also measure how time and memory of a training step change with T, batch size and "
        "threads",
    )
    parser.add_argument(
        "--choices",
        action="store_true",
        help="also time every algorithm of each convolution, beside the one that is chosen",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write all results as JSON; - prints only the JSON"
    )


def specs(arguments: argparse.Namespace) -> list[Spec]:
    """Return a spec for each architecture and phase; ValueError for a setting that is wrong."""
    made = []
    given = [one for arch in arguments.arch or DEFAULT_ARCHS for one in linear_lif.names(arch)]
    for arch in dict.fromkeys(given):
        size, is_linear = arguments.batch_size, arch.startswith(LINEAR_LIF)
        if is_linear:
            linear_lif.width_of(arch)
        steps = linear_lif.STEPS if is_linear else STEPS
        for phase in PHASES:
            density = arguments.density
            if density is None and phase == "inference" and not (is_linear or arguments.recipe):
                density = INFERENCE_DENSITY
            made.append(
                Spec(
                    arch=arch,
                    phase=phase,
                    steps=steps if arguments.steps is None else arguments.steps,
                    size=arguments.size,
                    batch_size=BATCH_SIZES.get(arch, OTHER_BATCH_SIZE) if size is None else size,
                    density=density,
                    threads=arguments.threads,
                    ops=arguments.ops,
                    conv=arguments.conv,
                    memory=arguments.memory,
                    channels_last=not arguments.contiguous,
                )
            )
    return made


def recipes_of(arguments: argparse.Namespace) -> list[str]:
    """Return the recipes to measure by name."""
    if arguments.recipe == ["all"]:
        return self_contained()
    return list(dict.fromkeys(arguments.recipe))


def check(arguments: argparse.Namespace, made: list[Spec]) -> None:
    """Raise ValueError for a setting that would fail only after some time."""
    if arguments.choices and (arguments.ops, arguments.conv) != ("numba", "auto"):
        given = f"--ops {arguments.ops} --conv {arguments.conv}"
        raise ValueError(f"choices: got {given}, which leave no choice")
    validate.whole("repeats", arguments.repeats, 1)
    if arguments.recipe:
        if arguments.peers:
            raise ValueError("peers: got it beside --recipe, want one of both")
        for spec in made:
            for recipe in recipes_of(arguments):
                replace(spec, recipe=recipe)  # refuses what does not fit
    if arguments.threads is not None and arguments.threads > usable_cores():
        raise ValueError(
            f"threads: got {arguments.threads}, want at most {usable_cores()} (the cores)"
        )
    if arguments.peers:
        for name in LIBRARIES[:0:-1]:  # torch first: the others need it
            if find_spec(name.partition(".")[0]) is None:
                raise ValueError(f"peers: {name} is not installed; pip install 'refsnn[peers]'")


def run(arguments: argparse.Namespace) -> int:
    """Measure, print, and write the JSON file; return the exit code."""
    made = specs(arguments)
    check(arguments, made)
    with open_output(arguments.json) as write:
        write(json.dumps(measure_all(arguments, made), indent=2))
    return 0


def measure_all(arguments: argparse.Namespace, made: list[Spec]) -> dict[str, Any]:
    """Measure everything, print each result as it comes, and return all as one object."""

    def show(text: str) -> None:
        if arguments.json != "-":
            print(text, end="\n\n", flush=True)

    say("peaks of the machine")
    load = load_average()
    peaks = single(replace(made[0], task="peaks"))
    machine = describe_machine(peaks, load)
    show(report.machine_lines(machine))
    libraries = LIBRARIES if arguments.peers else LIBRARIES[:1]
    busy = machine["load"] > report.BUSY and not arguments.force
    found: dict[str, Any] = {"machine": machine, "results": [], "ratios": []}
    for spec in made:
        some = [name for name in libraries if not (spec.is_linear and name in UNROLLING)]
        given = recipes_of(arguments)
        results, ratios = compare(spec, some, arguments.repeats, peaks, say, given)
        found["results"] += results
        ratios = [] if busy else ratios
        found["ratios"] += ratios
        show(report.workload(results, ratios))
    if arguments.scaling:
        found["scaling"] = []
        for spec in (spec for spec in made if spec.phase == "train" and not spec.is_linear):
            for row in scaling(spec, arguments.repeats, say):
                found["scaling"].append(row)
                show(report.scaling_table(row))
    if arguments.choices:
        found["choices"] = []
        for spec in (spec for spec in made if not spec.is_linear):
            say(f"{spec.arch} {spec.phase}: choices")
            with prepared(spec) as (ready, _):
                rows = single(replace(ready, task="choices"))["choices"]
            found["choices"] += [{"arch": spec.arch, "phase": spec.phase, **row} for row in rows]
            show(report.choices_table(spec.arch, spec.phase, rows))
    say("")
    return found
