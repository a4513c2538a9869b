"""The command `refsnn gradients`: its options, the network and batch they select, its output."""

import argparse
import json
from math import hypot
from pathlib import Path
from typing import Any

from refsnn.data import Dataset, load
from refsnn.experiments.gradient_flow import SMALL, Ledger, ledger
from refsnn.network import Network
from refsnn.ops import get_ops
from refsnn.output import open_output, table
from refsnn.training.config import PRESETS, TrainConfig, make_config
from refsnn.training.folder import load_state, read_config
from refsnn.training.options import add_recipe, add_settings, add_threads, given_settings
from refsnn.training.teacher import load_teacher
from refsnn.training.trainer import batches_of, initial_state, network_for
from refsnn.training.validation import divide

#: settings that no gradient depends on; images are not augmented
LEFT_OUT = ("lr", "optimizer", "momentum", "weight_decay", "decay_all", "cutout", "augment")
LEFT = ("layer", "at", "branch")  # columns that are aligned to the left
OWN = ("batch_size", "ops")  # settings that may differ from the run's


def add_options(parser: Any) -> None:
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="folder of a run; --batch-size and --ops may differ from the run's "
        "(default: an untrained network with the settings below)",
    )
    parser.add_argument(
        "--side",
        type=float,
        metavar="X",
        help="weight of the side branches (default: the method's at the next iteration)",
    )
    parser.add_argument(
        "--json", metavar="FILE", help="also write a JSON object; - prints it and nothing else"
    )
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="settings to start from; options override them (default: digits)",
    )
    add_recipe(parser)
    add_settings(parser, LEFT_OUT)
    add_threads(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compute and print the ledger, and write it as JSON.

    The JSON object has the fields of `Ledger`, `config` (all settings), `iteration` (the run's; 0
    for an untrained network) and `images` (their number in the batch).
    """
    from refsnn.process import limit_threads

    limit_threads(arguments.threads)
    with open_output(arguments.json) as write:
        config, iteration, images, found = measure(arguments)
        about = {"config": config.to_dict(), "iteration": iteration, "images": images}
        write(json.dumps(about | found._asdict(), indent=2, allow_nan=False))
    if arguments.json != "-":
        print(title(config, iteration, images, found), report(found), sep="\n\n")
    return 0


def measure(arguments: argparse.Namespace) -> tuple[TrainConfig, int, int, Ledger]:
    """Return the settings, the run's iteration, the number of images, and their ledger."""
    config, dataset, net = subject(arguments)
    if config.objective.learns_features:
        raise ValueError(
            "teacher_loss: got features, want logits: the ledger splits the gradient of the loss "
            "of the logits"
        )
    begun = initial_state(config, net)
    state = begun if arguments.folder is None else load_state(arguments.folder, config, net)
    side = side_weight(config, dataset, state.iteration, arguments.side)
    config = config.changed(**own(arguments))
    order = begun.rng.permutation(divide(dataset.train.labels, config).training)  # first epoch's
    if config.objective.make_potential_loss() is not None:
        raise ValueError(
            f"potential_loss: got {config.objective.potential_loss}, want none: the ledger splits "
            "the gradient of the loss of the logits"
        )
    batches = batches_of(config, dataset)
    net = config.in_epoch(net, max(state.iteration - 1, 0) // batches, state.surrogate_shape)
    images, labels = dataset.batch(dataset.train, order[: config.batch_size], config.dtype)
    teacher, criterion = load_teacher(config, dataset), config.make_loss()
    if teacher is not None:
        answers = teacher.answers(images, order[: config.batch_size])
        criterion = config.objective.make_distillation(answers)
    found = ledger(
        net,
        state.params,
        state.buffers,
        images,
        labels,
        config.steps,
        get_ops(config.ops),
        side,
        config.objective.branch_sum,
        criterion,
    )
    return config, state.iteration, len(labels), found


def own(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in given_settings(arguments).items() if name in OWN}


def subject(arguments: argparse.Namespace) -> tuple[TrainConfig, Dataset, Network]:
    """Return the settings of the run or those given, with their data set and network."""
    given, folder = given_settings(arguments), arguments.folder
    if folder is None:
        config = make_config(arguments.preset or "digits", **given)
    else:
        config = read_config(folder)
        for name in ("preset", "recipe"):
            if (value := getattr(arguments, name, None)) is not None:
                raise ValueError(
                    f"{name}: got {value!r}, but {folder} has its own settings; leave --{name} out"
                )
        for name, value in given.items():
            has = config.to_dict()[name]
            if name not in OWN and value != has:
                raise ValueError(f"{name}: got {value!r}, but the run has {has!r}")
    dataset = load(config.data.dataset, config.data_options(begun=folder is not None))
    return config, dataset, network_for(config, dataset)


def side_weight(
    config: TrainConfig, dataset: Dataset, iteration: int, given: float | None
) -> float:
    """Return the weight `given`, or that of the next iteration (of a finished run: the last)."""
    if given is None:
        batches = batches_of(config, dataset)
        return config.side_coefficient(min(iteration + 1, config.epochs * batches), batches)
    if config.objective.method == "vanilla":
        raise ValueError(f"side: got {given!r}, but a vanilla network has no side branches")
    return given


def title(config: TrainConfig, iteration: int, images: int, found: Ledger) -> str:
    arch, method = config.network.arch, config.objective.method
    return (
        f"{arch}, {method}, after iteration {iteration}: T = {config.steps}, "
        f"{images} images of {config.data.dataset}, surrogate {config.neuron.surrogate}\n"
        f"side branches weighted {found.side:.4g}, loss {found.loss:.4f}"
    )


def report(found: Ledger) -> str:
    """Format three tables: layers, Eq. 8 and Eq. 9."""
    first = found.first_layer
    return "\n\n".join(
        [
            "norms of dL/du_pre over all steps: total, through each branch, by mechanism (Eq. 3);\n"
            f"small slopes: below {SMALL:g} times the slope at the threshold\n"
            + layers_table(found)
            + weightless(found),
            "Eq. 8: norm of the gradient at every block's output through the main branch alone,\n"
            "and factor to the row above; the factors multiply to the last norm\n"
            + chain_table(found),
            f"Eq. 9: each branch's part of dL/dW1 ({first['parameter']})\n" + first_table(found),
            f"relative rounding error: {mechanism_rest(found):.0e} of firing + leak + reset, "
            f"{ratio(first['rest'], first['norm']):.0e} of the sum over branches",
        ]
    )


def weightless(found: Ledger) -> str:
    """Explain why the side branches' columns are zero, where they are."""
    if found.side or len(found.branches) == 1:
        return ""
    return (
        "\nthe side branches' columns are 0, since evolutionary training has reduced their weight"
        " to 0\n--side X shows them at another weight"
    )


def layers_table(found: Ledger) -> str:
    branches = [*found.branches[-1:], *found.branches[:-1]]  # the main one first
    mechanisms = ("firing", "leak", "reset")
    rows = []
    for row in found.layers:
        norms = [row["total"], *(row["through"][branch] for branch in branches)]
        norms += [row[name] for name in mechanisms]
        shares = [f"{mean(row['rate']):.3f}", f"{mean(row['small_slope']):.1%}"]
        rows.append([row["layer"], *shares, *(f"{hypot(*steps):.2e}" for steps in norms)])
    shown = map(branch_name, branches)
    return table(["layer", "firing rate", "small slopes", "total", *shown, *mechanisms], rows, LEFT)


def chain_table(found: Ledger) -> str:
    rows = [[row["at"], f"{row['norm']:.2e}", number(row["factor"])] for row in found.chain]
    return table(["at", "norm", "factor"], rows, LEFT)


def first_table(found: Ledger) -> str:
    rows = [
        [branch_name(name), f"{row['norm']:.2e}", number(row["cosine"]), number(row["share"])]
        for name, row in found.first_layer["branches"].items()
    ]
    rows.append(["sum", f"{found.first_layer['norm']:.2e}", "", ""])
    return table(["branch", "norm", "cosine to the sum", "share of it"], rows, LEFT)


def branch_name(name: str) -> str:
    return "main" if name == "head" else name.removeprefix("branch.")


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def mechanism_rest(found: Ledger) -> float:
    """Return the largest rest of any layer and step, relative to the sum of the terms' norms."""
    return max(
        ratio(rest, sum(terms))
        for row in found.layers
        for rest, *terms in zip(row["rest"], row["firing"], row["leak"], row["reset"], strict=True)
    )
