"""The command `refsnn ablation`: its options, the order of its steps, its output."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

from refsnn.data import load
from refsnn.experiments import ablation, ablation_plot, table
from refsnn.experiments.ablation import AXES, Planned, Settings, recipe_names, varying
from refsnn.experiments.presets import PRESETS, SIZES, DataSize, Grid
from refsnn.experiments.schedule import Stop, estimate, on_cluster, on_this_machine, train_all
from refsnn.experiments.table import recorded_results
from refsnn.files.writing import write_json
from refsnn.ops import METHODS, get_ops, validate
from refsnn.process import Signals
from refsnn.training.config import TrainConfig, decided_by_recipes, overlaid, recipe_of
from refsnn.training.options import add_recipe, add_settings, given_settings
from refsnn.training.teacher import features_of, load_teacher
from refsnn.training.trainer import Interrupted, network_for

RECORDED = "recorded.json"  # the results of runs that were trained elsewhere
SMALL = "digits"  # the preset that starts without printing an estimate


def add_options(parser: Any) -> None:
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        help="combinations and settings to start from, which options override: table1 to table4 "
        "of the paper; claim, the paper's claim on the digits, and regimes, with three heights of "
        "its surrogate (an hour each on two cores); images, both questions on images of CIFAR-10 "
        "(hours); methods, those of the literature (an hour or two), and methods-deep, in deep "
        "networks (an hour a seed); or digits, a few runs of resnet8 (default: digits)",
    )
    parser.add_argument(
        "--grid",
        type=Path,
        metavar="FILE",
        help="combinations from a .toml file instead: settings by name, where a list means each of "
        "its values; a table [[grid]] for each set of combinations",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="NAME",
        help=f"methods among {', '.join(METHODS)} (default: the preset's)",
    )
    parser.add_argument(
        "--archs",
        nargs="+",
        metavar="NAME",
        help="architectures, by name or as depths:widths (default: the preset's)",
    )
    parser.add_argument(
        "--steps",
        dest="times",
        nargs="+",
        type=int,
        metavar="N",
        help="lengths T of the simulation, in time steps (default: the preset's)",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="N",
        help="seeds; a single number N means the seeds 0 to N-1 (default: the preset's)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the runs, the table and the plot; later calls may add runs "
        "(default: runs/ablation-PRESET, or runs/ablation-grid-FILE)",
    )
    parser.add_argument(
        "--recorded",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="table.json with the accuracies of runs that were trained elsewhere: they are not "
        "trained again, and count in the tables",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="runs at the same time on this machine (default: 1)",
    )
    parser.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="send the runs to the Dask cluster at this address, whose workers see the same files",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads per run (default: cores / jobs; on a cluster 1)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="only print how long the remaining runs would take on this machine; needs neither "
        "the paper's data sets nor a folder",
    )
    held = {name for grids in PRESETS.values() for grid in grids for name in grid.settings}
    add_recipe(parser)
    add_settings(parser, leave_out=AXES, of_preset=held)


def combinations(arguments: argparse.Namespace) -> list[TrainConfig]:
    """Return the combinations of the preset, or those of the file of --grid."""
    if arguments.grid is None:
        return ablation.configs(grids(arguments))
    for option in ("preset", "methods", "archs", "times", "seeds"):
        if getattr(arguments, option) is not None:
            name = "steps" if option == "times" else option
            raise ValueError(f"{name}: got it beside --grid, whose file has the combinations")
    return ablation.read_grids(arguments.grid, given_settings(arguments))


def grids(arguments: argparse.Namespace) -> list[Grid]:
    """Return the preset's grids with the changes that the options make."""
    seeds = arguments.seeds
    if seeds is not None and len(seeds) == 1:
        validate.whole("seeds", seeds[0], 1)
        seeds = range(seeds[0])
    axes = {
        "methods": arguments.methods,
        "archs": arguments.archs,
        "steps": arguments.times,
        "seeds": seeds,
    }
    given = {name: tuple(values) for name, values in axes.items() if values is not None}
    settings = given_settings(arguments)
    return [
        replace(grid, settings=overlaid(grid.settings, settings), **given)
        for grid in PRESETS[arguments.preset or SMALL]
    ]


def run(arguments: argparse.Namespace) -> int:
    wanted = combinations(arguments)
    small = arguments.grid is None and arguments.preset in (None, SMALL)
    name = arguments.preset or SMALL if arguments.grid is None else f"grid-{arguments.grid.stem}"
    out = Path(arguments.out or f"runs/ablation-{name}").resolve()
    settings, known, unread = planned(arguments, out, wanted)
    recorded = read_recorded(out, arguments.recorded, settings)
    if recorded:
        known = ablation.plan(out, {run.config for run in known} | recorded.keys(), settings)

    def result(run: Planned) -> ablation.Result:
        own = ablation.result(run)
        return own if own.state != "missing" else recorded.get(run.config, own)

    runs = [r for r in known if r.config in wanted and result(r).state == "missing"]
    validate.whole("jobs", arguments.jobs, 1)
    threads = threads_of(arguments)
    if not (arguments.estimate or arguments.scheduler):
        check_data(runs)  # else all of them would fail with the same error
    with Signals() as signals:
        try:
            if arguments.estimate or (not small and not arguments.scheduler):
                tell_estimate(runs, arguments.jobs, threads, lambda: signals.caught is not None)
        except Interrupted:
            return 128 + int(signals.caught or 0)
        if arguments.estimate:
            return 0
        ablation.prepare(out, settings)
        if recorded:  # later calls count them too
            rows = ablation.plan(out, recorded, settings)
            write_json(out / RECORDED, table.tabulate([recorded[run.config] for run in rows]))
        states = train(arguments, runs, threads, lambda: signals.caught is not None)
    if states["interrupted"] or states["waiting"]:
        print("stopped; the same command continues", file=sys.stderr)
        return 128 + int(signals.caught or 0)
    results = [result(r) for r in known]
    found = table.tabulate(results)
    names = [*table.write(out, found), *ablation_plot.write(out, found, known)]
    print(table.to_markdown(found))
    print(f"{', '.join(names)} are in {out}")
    damaged = dict.fromkeys([*unread, *(r.reason for r in results if r.state == "damaged")])
    for reason in damaged:
        print(f"left out: {reason}; remove the run's folder to train it again", file=sys.stderr)
    if states["failed"]:
        print(f"{states['failed']} of {len(runs)} runs failed", file=sys.stderr)
    return 1 if states["failed"] or damaged else 0


def read_recorded(
    out: Path, files: Sequence[Path], settings: Sequence[Settings]
) -> dict[TrainConfig, ablation.Result]:
    """Read the results that an earlier call recorded in the folder, and those of the files.

    ValueError where a file has runs of other settings, or two disagree about a run.
    """
    kept = [out / RECORDED] if (out / RECORDED).exists() else []
    found: dict[TrainConfig, ablation.Result] = {}
    for path in [*kept, *files]:
        for config, result in recorded_results(path).items():
            if ablation.fixed(config) not in settings:
                names = varying([settings[0], ablation.fixed(config)])
                raise ValueError(
                    f"recorded: {path} has runs of another {' and '.join(names)} than {out}"
                )
            before = found.setdefault(config, result)
            if before.accuracy != result.accuracy:
                raise ValueError(
                    f"recorded: {path} has accuracy {result.accuracy} for a run (method "
                    f"{config.objective.method}, seed {config.seed}) that another table has with "
                    f"{before.accuracy}"
                )
    return found


def planned(
    arguments: argparse.Namespace, out: Path, wanted: Sequence[TrainConfig]
) -> tuple[list[Settings], list[Planned], list[str]]:
    """Return the fixed settings, wanted and existing runs, and a message per unreadable run.

    If the default folder has other settings, an estimate is made for a new folder.
    """
    try:
        settings = ablation.settings_of(out, wanted)
        there, unread = ablation.existing(out, settings)
    except ValueError:
        if arguments.out or not arguments.estimate:
            raise
        out = next(p for n in count(2) if not (p := out.with_name(f"{out.name}-{n}")).exists())
        settings, there, unread = ablation.settings_of(out, wanted), [], []
    return settings, ablation.plan(out, {*wanted, *there}, settings), unread


def check_data(runs: Sequence[Planned]) -> None:
    """Check that each new run's data is there and fits its network; ValueError says why not."""
    loaded = cache(load)
    new = [run.config for run in runs if not (run.folder / "checkpoint.npz").exists()]
    for config in {config.changed(method="vanilla", seed=0) for config in new}:
        dataset = loaded(config.data.dataset, config.data_options())
        network_for(config, dataset, features_of(load_teacher(config, dataset), config))


def train(
    arguments: argparse.Namespace, runs: Sequence[Planned], threads: int, stopping: Stop
) -> Counter[str]:
    """Train the runs and count the states in which they end; start no worker if there are none."""
    if not runs:
        return Counter()
    get_ops(runs[0].config.ops)  # finds the folder of compiled code, which the runs share
    pool = (
        on_cluster(arguments.scheduler, threads)
        if arguments.scheduler
        else on_this_machine(arguments.jobs, threads)
    )
    with pool as workers:
        return train_all(runs, workers, stopping)


def threads_of(arguments: argparse.Namespace) -> int:
    """Return the number of threads per run, checked against the cores unless on a cluster."""
    threads: int | None = arguments.threads
    if arguments.scheduler:
        threads = 1 if threads is None else threads
    else:
        from numba import config

        cores: int = config.NUMBA_NUM_THREADS
        threads = max(1, cores // arguments.jobs) if threads is None else threads
        if threads > cores:
            raise ValueError(f"threads: got {threads}, want 1 to {cores} (the cores)")
    validate.whole("threads", threads, 1)
    return threads


def size_of(config: TrainConfig) -> DataSize:
    if config.data.dataset in SIZES:
        return SIZES[config.data.dataset]
    data = load(config.data.dataset, config.data_options())
    shape = data.train.images.shape[1:]
    return DataSize(len(data.train.labels), len(data.test.labels), shape, data.num_classes)


def tell_estimate(runs: Sequence[Planned], jobs: int, threads: int, stopping: Stop) -> None:
    """Print the estimate line by line as networks are measured; Interrupted if `stopping`."""
    if not runs:
        print("no runs are left")
        return
    some = {run.config.data.dataset: run.config for run in runs}
    sizes = {name: size_of(config) for name, config in some.items()}
    print(f"time on this machine (runs at a time: {jobs}, threads per run: {threads}), measured on")
    print("random images, without reading and augmenting real ones:", flush=True)
    settings = [run.config.to_dict() for run in runs]
    names = [name for name in varying(settings) if name not in AXES]
    by_recipe = bool(names) and recipe_names(settings) is not None
    if by_recipe:
        names = [name for name in names if name not in decided_by_recipes()]
    found = []
    with on_this_machine(jobs, threads, at_once=True) as workers:
        for row in estimate(runs, sizes, workers, stopping):
            words = [row.config.network.arch, f"T = {row.config.steps}"]
            values = row.config.to_dict()
            words += [f"recipe {recipe_of(values)}"] if by_recipe else []
            words += [f"{name} {values[name]}" for name in names]
            print(f"  {', '.join(words)}: {row.runs} runs, {duration(row.seconds)}", flush=True)
            found.append(row)
    longest = max(row.seconds / row.runs for row in found)
    total = max(longest, sum(row.seconds for row in found) / jobs)
    print(f"together {duration(total)}", flush=True)


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
