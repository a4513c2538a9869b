"""`refsnn ablation`: options, order of things, output."""

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
from refsnn.experiments import ablation, table
from refsnn.experiments.ablation import AXES, Planned, Settings, varying
from refsnn.experiments.presets import PRESETS, SIZES, DataSize, Grid
from refsnn.experiments.schedule import Stop, estimate, on_cluster, on_this_machine, train_all
from refsnn.ops import METHODS, get_ops, validate
from refsnn.process import Signals
from refsnn.training.config import TrainConfig
from refsnn.training.options import add_settings, given_settings
from refsnn.training.trainer import Interrupted, network_for

SMALL = "digits"  # the preset that runs without an estimate before it


def add_options(parser: Any) -> None:
    parser.add_argument(
        "--preset",
        default=SMALL,
        choices=PRESETS,
        help="combinations and settings to start from, which options override: the paper's "
        "tables, its claim on digits (under an hour on two cores), or digits, a few runs of "
        "resnet8 (default: digits)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        metavar="NAME",
        help=f"of {', '.join(METHODS)} (default: the preset's)",
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
        help="one number for how many (0 to N-1), several for which (default: the preset's)",
    )
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder of the runs, table and plot, to which later calls may add "
        "(default: runs/ablation-PRESET)",
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
        help="send the runs to the Dask cluster there, whose workers see the same files",
    )
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of each run (default: cores / jobs; on a cluster 1)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="only say how long what is left would take on this machine; needs no data set of the "
        "paper, and no folder",
    )
    held = {name for grids in PRESETS.values() for grid in grids for name in grid.settings}
    add_settings(parser, leave_out=AXES, of_preset=held)


def grids(arguments: argparse.Namespace) -> list[Grid]:
    """The preset's, with what the options say instead."""
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
        replace(grid, settings=grid.settings | settings, **given)
        for grid in PRESETS[arguments.preset]
    ]


def run(arguments: argparse.Namespace) -> int:
    wanted = ablation.configs(grids(arguments))
    out = Path(arguments.out or f"runs/ablation-{arguments.preset}").resolve()
    settings, known, unread = planned(arguments, out, wanted)
    runs = [r for r in known if r.config in wanted and ablation.result(r).state == "missing"]
    validate.whole("jobs", arguments.jobs, 1)
    threads = threads_of(arguments)
    if not (arguments.estimate or arguments.scheduler):
        check_data(runs)  # or all of them would fail of it
    with Signals() as signals:
        try:
            if arguments.estimate or (arguments.preset != SMALL and not arguments.scheduler):
                tell_estimate(runs, arguments.jobs, threads, lambda: signals.caught is not None)
        except Interrupted:
            return 128 + int(signals.caught or 0)
        if arguments.estimate:
            return 0
        ablation.prepare(out, settings)
        states = train(arguments, runs, threads, lambda: signals.caught is not None)
    if states["interrupted"] or states["waiting"]:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + int(signals.caught or 0)
    results = [ablation.result(r) for r in known]
    found = table.tabulate(results)
    names = table.write(out, found)
    print(table.to_markdown(found))
    print(f"{', '.join(names)} are in {out}")
    damaged = dict.fromkeys([*unread, *(r.reason for r in results if r.state == "damaged")])
    for line in damaged:
        print(f"left out: {line}; remove the run's folder to train it again", file=sys.stderr)
    if states["failed"]:
        print(f"{states['failed']} of {len(runs)} runs failed", file=sys.stderr)
    return 1 if states["failed"] or damaged else 0


def planned(
    arguments: argparse.Namespace, out: Path, wanted: Sequence[TrainConfig]
) -> tuple[list[Settings], list[Planned], list[str]]:
    """The fixed settings, the runs that are wanted or there already, and a line for each there
    whose settings can't be read.

    An estimate is of the new folder that the runs would need, where the default one is for others.
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
    """ValueError where the data of a new run is not there, or does not fit its network."""
    loaded = cache(load)
    new = [run.config for run in runs if not (run.folder / "checkpoint.npz").exists()]
    for config in {config.changed(method="vanilla", seed=0) for config in new}:
        network_for(config, loaded(config.data.dataset, config.data_options()))


def train(
    arguments: argparse.Namespace, runs: Sequence[Planned], threads: int, stopping: Stop
) -> Counter[str]:
    """How many of the runs ended in which state; none is a reason to start no worker."""
    if not runs:
        return Counter()
    get_ops(runs[0].config.ops)  # finds where compiled code is kept: the runs share it
    place = (
        on_cluster(arguments.scheduler, threads)
        if arguments.scheduler
        else on_this_machine(arguments.jobs, threads)
    )
    with place as workers:
        return train_all(runs, workers, stopping)


def threads_of(arguments: argparse.Namespace) -> int:
    """Threads of each run; how many a cluster's machines have is known there only."""
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
    """A line as soon as its network is measured; Interrupted when `stopping`."""
    if not runs:
        print("nothing is left to run")
        return
    some = {run.config.data.dataset: run.config for run in runs}
    sizes = {name: size_of(config) for name, config in some.items()}
    print(f"on this machine (runs at a time: {jobs}, threads of each: {threads}), measured on")
    print("random images, without reading and augmenting real ones:", flush=True)
    names = [n for n in varying([run.config.to_dict() for run in runs]) if n not in AXES]
    found = []
    with on_this_machine(jobs, threads, at_once=True) as workers:
        for row in estimate(runs, sizes, workers, stopping):
            words = [row.config.network.arch, f"T = {row.config.steps}"]
            words += [f"{name} {row.config.to_dict()[name]}" for name in names]
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
