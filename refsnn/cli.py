"""The command line: `refsnn train`, `refsnn evaluate RUN`, `refsnn ablation`,
`refsnn gradients [RUN]`, `refsnn data`, `refsnn bench`, `refsnn spec [CLAUSE]`.

Exit codes: 0 done; 1 a run diverged, or some of an ablation failed; 2 something was asked
that can't be done, said in one line; 128 + signal when stopped by one.
"""

import argparse
import json
import shlex
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

from refsnn import __version__


class Parser(argparse.ArgumentParser):
    """One line for an error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def entry() -> NoReturn:
    sys.exit(main())


def main(argv: list[str] | None = None) -> int:
    from refsnn.training.monitor import Diverged

    arguments = build_parser().parse_args(argv)
    try:
        code: int = arguments.run(arguments)
        return code
    except BrokenPipeError:  # the reader of a pipe went away
        sys.stderr.close()
        return 0
    except Diverged as error:
        print(f"refsnn: stopped: {error}", file=sys.stderr)
        return 1
    except (ValueError, TypeError, OSError) as error:
        text = str(error)
        if isinstance(error, OSError) and error.filename is not None:
            text = f"{error.strerror}: {error.filename}"
        print(f"refsnn: error: {' '.join(text.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(prog="refsnn", description="Spiking ResNets by shortcut back-propagation.")
    parser.add_argument("--version", action="version", version=f"refsnn {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    add_train(commands)
    add_evaluate(commands)
    add_ablation(commands)
    add_gradients(commands)
    add_data(commands)
    add_bench(commands)
    add_spec(commands)
    return parser


def add_train(commands: Any) -> None:
    from refsnn.training.config import PRESETS
    from refsnn.training.options import add_settings, add_threads, add_workers

    train = commands.add_parser(
        "train", help="train a network into a run folder",
        description="Train a spiking ResNet (Algorithm 1). Without options: evolutionary "
        "training on the handwritten digits that come with the package.",
    )  # fmt: skip
    train.add_argument(
        "--out", type=folder_name, metavar="DIR",
        help="run folder (default: a new one, runs/DATASET-ARCH-METHOD-seedS)",
    )  # fmt: skip
    train.add_argument(
        "--resume", nargs="?", const=True, metavar="RUN",
        help="go on with the run in the folder RUN, or in --out",
    )  # fmt: skip
    train.add_argument(
        "--preset", choices=PRESETS,
        help="settings to start from; options override them (default: digits)",
    )  # fmt: skip
    add_settings(train)
    add_threads(train)
    add_workers(train)
    train.set_defaults(run=run_train)


def folder_name(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("got an empty name")
    return Path(text)


def run_train(arguments: argparse.Namespace) -> int:
    from refsnn.process import Signals, keep_freed_memory, limit_threads
    from refsnn.training.config import make_config
    from refsnn.training.options import given_settings
    from refsnn.training.run import Interrupted, resume, start

    limit_threads(arguments.threads)
    keep_freed_memory()
    given = given_settings(arguments)
    if arguments.resume:
        if arguments.resume is True and arguments.out is None:
            raise ValueError("resume: which run? give its folder: --resume RUN")
        if arguments.resume is not True and arguments.out is not None:
            raise ValueError(
                f"out: got {arguments.out}, but --resume names the run's folder already"
            )
        folder = Path(arguments.out if arguments.resume is True else arguments.resume)
        if arguments.preset is not None:
            raise ValueError(f"preset: got {arguments.preset!r}, but {folder} has its settings")
        run = resume(folder)
        for name, value in given.items():
            has = getattr(run.config, name)
            if value != has:
                raise ValueError(f"{name}: got {value!r}, but the run to resume has {has!r}")
    else:
        config = make_config(arguments.preset or "digits", given)
        folder = arguments.out or unused_folder(config)
        run = start(folder, config)
    with Signals() as signals:
        try:
            run.train(lambda: signals.caught is not None, workers=arguments.workers)
        except Interrupted:
            again = f"refsnn train --resume {shlex.quote(str(folder))}"
            print(f"stopped; go on with: {again}", file=sys.stderr)
            return 128 + int(signals.caught or 0)
        summary = run.summarize()
    print(
        f"test accuracy {summary['test_accuracy']:.4f}, "
        f"{summary['images_per_second']:.0f} images/s, run folder {folder}"
    )
    return 0


def unused_folder(config: Any) -> Path:
    """runs/…, numbered where the name is taken."""
    stem = f"{Path(config.dataset).stem}-{config.arch}-{config.method}-seed{config.seed}"
    folder, number = Path("runs") / stem.replace(":", "_"), 2
    while folder.exists():
        folder, number = Path("runs") / f"{stem.replace(':', '_')}-{number}", number + 1
    return folder


def add_evaluate(commands: Any) -> None:
    from refsnn.training.options import add_threads, add_workers

    evaluate = commands.add_parser(
        "evaluate", help="test a trained network with its side branches removed",
        description="Accuracy of the main branch on the held-out split, side branches removed.",
    )  # fmt: skip
    evaluate.add_argument("folder", type=Path, metavar="RUN", help="the run's folder")
    evaluate.add_argument("--json", action="store_true", help="print one JSON object")
    add_threads(evaluate)
    add_workers(evaluate)
    evaluate.set_defaults(run=run_evaluate)


def run_evaluate(arguments: argparse.Namespace) -> int:
    from refsnn.process import limit_threads
    from refsnn.training.evaluate import evaluate_run

    limit_threads(arguments.threads)
    result = evaluate_run(arguments.folder, arguments.workers)
    if arguments.json:
        print(json.dumps(result, indent=2))
        return 0
    print(
        f"test accuracy {result['test_accuracy']:.4f}, test loss {result['test_loss']:.4f} "
        f"on {result['images']} images of {result['dataset']}\n"
        f"{result['parameters']} parameters; {result['parameters_removed']} of side branches "
        f"removed; after iteration {result['iteration']}"
    )
    return 0


def add_ablation(commands: Any) -> None:
    from refsnn.experiments.ablation_command import add_options, run

    ablation = commands.add_parser(
        "ablation", help="train methods x architectures x T x seeds and tabulate them",
        description="Trains every combination of method, architecture, T and seed, each into a "
        "run folder, and compares the methods: means, paired differences, a plot. Called again, "
        "it goes on where it stopped; finished runs are not run again.",
        allow_abbrev=False,  # --seed is not --seeds
    )  # fmt: skip
    add_options(ablation)
    ablation.set_defaults(run=run)


def add_data(commands: Any) -> None:
    from refsnn.data.command import add_options

    data = commands.add_parser(
        "data", help="data sets: which there are, and downloading them",
        description="The data sets that --dataset names.",
    )  # fmt: skip
    add_options(data)


def add_gradients(commands: Any) -> None:
    from refsnn.experiments.gradients_command import add_options, run

    gradients = commands.add_parser(
        "gradients", help="where the gradient goes: by layer, time step, branch and mechanism",
        description="Norms of the gradient at every layer of neurons, by branch and by Eq. 3's "
        "terms; Eq. 8's factors and Eq. 9's sum. Of a run, or of a network as initialised.",
    )  # fmt: skip
    add_options(gradients)
    gradients.set_defaults(run=run)


def add_bench(commands: Any) -> None:
    from refsnn.bench.command import add_options, run

    bench = commands.add_parser(
        "bench", help="time training steps and inference, alone or beside PyTorch",
        description="Images per second and peak memory of whole training steps and of inference, "
        "each in a process of its own.",
    )  # fmt: skip
    add_options(bench)
    bench.set_defaults(run=run)


def add_spec(commands: Any) -> None:
    spec = commands.add_parser(
        "spec", help="the ledger of equations and decisions",
        description="Every equation of the paper and every decision it leaves open, "
        "with the code that implements it.",
    )  # fmt: skip
    spec.add_argument("clause", nargs="?", metavar="CLAUSE", help="one clause whole, e.g. EQ3, D5")
    spec.add_argument("--json", action="store_true", help="print a list of objects")
    spec.set_defaults(run=run_spec)


def run_spec(arguments: argparse.Namespace) -> int:
    from refsnn import spec

    clauses = spec.CLAUSES if arguments.clause is None else [spec.clause(arguments.clause)]
    if arguments.json:
        print(json.dumps([spec.to_dict(c) for c in clauses], indent=2, ensure_ascii=False))
    elif arguments.clause is None:
        print(spec.table())
    else:
        print(spec.whole(clauses[0]))
    return 0
