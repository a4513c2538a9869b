"""`refsnn ablation`: options, order of things, output."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from refsnn.data import load
from refsnn.experiments import ablation, table
from refsnn.experiments.ablation import AXES, Planned, varying
from refsnn.experiments.presets import PRESETS, SIZES, DataSize, Grid
from refsnn.experiments.schedule import estimate, on_cluster, on_this_machine, train_all
from refsnn.ops import METHODS, validate
from refsnn.process import Signals
from refsnn.training.config import TrainConfig
from refsnn.training.options import add_settings, given_settings

SMALL = "digits"  # the preset that runs without an estimate before it


def add_options(parser: Any) -> None:
    parser.add_argument(
        "--preset", default=SMALL, choices=PRESETS,
        help="combinations and settings to start from, which options override: the paper's "
        "tables, its claim on digits (under an hour on two cores), or digits, a few runs of "
        "resnet8 (default: digits)",
    )  # fmt: skip
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, metavar="NAME",
        help=f"of {', '.join(METHODS)} (default: the preset's)",
    )  # fmt: skip
    parser.add_argument(
        "--archs", nargs="+", metavar="NAME",
        help="architectures, by name or as depths:widths (default: the preset's)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", dest="times", nargs="+", type=int, metavar="N",
        help="lengths T of the simulation, in time steps (default: the preset's)",
    )  # fmt: skip
    parser.add_argument(
        "--seeds", nargs="+", type=int, metavar="N",
        help="one number for how many (0 to N-1), several for which (default: the preset's)",
    )  # fmt: skip
    parser.add_argument(
        "--out", metavar="DIR",
        help="folder of the runs, table and plot, to which later calls may add "
        "(default: runs/ablation-PRESET)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N",
        help="runs at the same time on this machine (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--scheduler", metavar="ADDRESS",
        help="send the runs to the Dask cluster there, whose workers see the same files",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N",
        help="threads of each run (default: cores / jobs; on a cluster 1)",
    )  # fmt: skip
    parser.add_argument(
        "--estimate", action="store_true",
        help="only say how long it would take on this machine; needs no data set of the paper",
    )  # fmt: skip
    add_settings(parser, leave_out=AXES)


def grids(arguments: argparse.Namespace) -> list[Grid]:
    """The preset's, with what the options say instead."""
    seeds = arguments.seeds
    if seeds is not None and len(seeds) == 1:
        validate.whole("seeds", seeds[0], 1)
        seeds = range(seeds[0])
    axes = {
        "methods": arguments.methods, "archs": arguments.archs, "steps": arguments.times,
        "seeds": seeds,
    }  # fmt: skip
    given = {name: tuple(values) for name, values in axes.items() if values is not None}
    settings = given_settings(arguments)
    return [
        replace(grid, settings=grid.settings | settings, **given)
        for grid in PRESETS[arguments.preset]
    ]


def run(arguments: argparse.Namespace) -> int:
    wanted = ablation.configs(grids(arguments))
    out = Path(arguments.out or f"runs/ablation-{arguments.preset}").resolve()
    settings = ablation.settings_of(out, wanted)
    known = ablation.plan(out, {*wanted, *ablation.existing(out, settings)}, settings)
    runs = [r for r in known if r.config in wanted and ablation.result(r).state == "missing"]
    validate.whole("jobs", arguments.jobs, 1)
    threads = threads_of(arguments)
    if not (arguments.estimate or arguments.scheduler):
        for name, options in {(r.config.dataset, r.config.data_options()) for r in runs}:
            load(name, options)  # or all runs would fail of it
    if arguments.estimate or (arguments.preset != SMALL and not arguments.scheduler):
        tell_estimate(runs, arguments.jobs, threads)
    if arguments.estimate:
        return 0
    ablation.prepare(out, settings)
    place = (
        on_cluster(arguments.scheduler, threads)
        if arguments.scheduler
        else on_this_machine(arguments.jobs, threads)
    )
    with Signals() as signals, place as workers:
        states = train_all(runs, workers, lambda: signals.caught is not None)
    if states["interrupted"]:
        print("stopped; the same command goes on", file=sys.stderr)
        return 128 + int(signals.caught or 0)
    found = table.tabulate([ablation.result(r) for r in known])
    table.write(out, found)
    print(table.to_markdown(found))
    print(f"table.json, table.md, ablation.png and ablation.svg are in {out}")
    if states["failed"]:
        print(f"{states['failed']} of {len(runs)} runs failed", file=sys.stderr)
        return 1
    return 0


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
    if config.dataset in SIZES:
        return SIZES[config.dataset]
    data = load(config.dataset, config.data_options())
    shape = data.train.images.shape[1:]
    return DataSize(len(data.train.labels), len(data.test.labels), shape, data.num_classes)


def tell_estimate(runs: Sequence[Planned], jobs: int, threads: int) -> None:
    some = {run.config.dataset: run.config for run in runs}
    sizes = {name: size_of(config) for name, config in some.items()}
    with on_this_machine(jobs, threads) as workers:
        found = estimate(runs, sizes, workers)
    if not found:
        print("nothing is left to run")
        return
    print(f"on this machine (runs at a time: {jobs}, threads of each: {threads}), measured on")
    print("random images, without reading and augmenting real ones:")
    names = [n for n in varying([r.config.to_dict() for r in found]) if n not in AXES]
    for row in found:
        words = [row.config.arch, f"T = {row.config.steps}"]
        words += [f"{name} {getattr(row.config, name)}" for name in names]
        print(f"  {', '.join(words)}: {row.runs} runs, {duration(row.seconds)}")
    longest = max(row.seconds / row.runs for row in found)
    total = max(longest, sum(row.seconds for row in found) / jobs)
    print(f"together {duration(total)}", flush=True)


def duration(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} s"
