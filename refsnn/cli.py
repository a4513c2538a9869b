"""The command line: `refsnn train`, `refsnn evaluate RUN`, `refsnn ablation`,
`refsnn gradients [RUN]`, `refsnn export RUN FILE`, `refsnn data`, `refsnn warmup`, `refsnn bench`,
`refsnn vectors`, `refsnn compare`, `refsnn diagnose`, `refsnn conform ADAPTER`,
`refsnn spec [CLAUSE]`.

Exit codes: 0 done; 1 a run diverged, some of an ablation or a conformance case failed; 2 something
was asked that can't be done, said in one line; 128 + signal when stopped by one.
"""

import argparse
import difflib
import errno
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from errno import ENOSPC
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from refsnn.version import __version__


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, with the nearest known word."""

    def error(self, message: str) -> NoReturn:
        """Print the message and where help is, and exit with code 2."""
        if found := re.search(r"invalid choice: '(.*)' \(choose from (.*)\)", message):
            message += did_you_mean(found[1], re.findall(r"[\w.-]+", found[2]))
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def did_you_mean(word: str, known: list[str]) -> str:
    """Return a question that names the known word that is most like this one, or nothing."""
    like_it = difflib.get_close_matches(word.split("=")[0], known, 1)
    return f"; did you mean {like_it[0]}?" if like_it else ""


class CommandParser(Parser):
    """The parser of a command, which gets its options only when that command is parsed.

    So other commands' modules are not imported, and their libraries need not be installed.
    """

    add_options: Callable[[Any], None] | None = None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        add, self.add_options = self.add_options, None
        if add is not None:
            add(self)
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            options = [name for action in self._actions for name in action.option_strings]
            hint = did_you_mean(unknown[0], options)
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return parsed, unknown


def main(argv: list[str] | None = None) -> int:
    """Run a command line, given as a list of words, and return its exit code."""
    return run(build_parser().parse_args(argv))


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was asked for and return its exit code."""
    from refsnn.process import exit_code, interrupt_behind

    try:
        code: int = arguments.run(arguments)
        return code
    except (Exception, KeyboardInterrupt) as error:
        stop = interrupt_behind(error)
        return explain(error) if stop is None else exit_code(stop)


def explain(error: BaseException) -> int:
    """Print the error in one line and return the exit code; raise an unexpected error again."""
    from refsnn.training.monitor import Diverged

    if isinstance(error, BrokenPipeError):  # the reader of a pipe went away
        return 0
    if isinstance(error, Diverged):
        tell(f"stopped: {error}")
        return 1
    if isinstance(error, MemoryError):
        tell(f"error: not enough memory: {error if error.args else 'the system gives no more'}")
    elif isinstance(error, OSError):
        tell(f"error: {of_system(error)}")
    elif isinstance(error, ValueError | TypeError):
        tell(f"error: {error}")
    else:
        raise error
    return 2


def tell(text: str) -> None:
    """Print a line to standard error."""
    print(f"refsnn: {' '.join(text.split())}", file=sys.stderr)


def of_system(error: OSError) -> str:
    """Return the system's reason and the file; for a full disk, also the space left on it."""
    from refsnn.process import STREAMS

    name, text = error.filename, error.strerror
    if text is None:  # of our own
        return str(error)
    if error.errno in (ENOSPC, getattr(errno, "EDQUOT", ENOSPC)) and name not in STREAMS:
        folders = used() if name is None else [Path(str(name)).absolute().parent]
        free, folder = min((shutil.disk_usage(f).free, f) for f in folders if f.is_dir())
        text += f" ({free / 2**20:.1f} MiB are free on the disk of {folder})"
    return text if name is None else f"{text}: {name}"


def used() -> list[Path]:
    """List the folders written to without being named in errors: current, temporary, caches."""
    compiled = [os.environ[name] for name in ("NUMBA_CACHE_DIR", "HOME") if os.environ.get(name)]
    return [Path(name) for name in (os.getcwd(), tempfile.gettempdir(), *compiled)]


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="refsnn",
        description="Spiking ResNets by shortcut back-propagation.",
        epilog="refsnn COMMAND --help lists a command's options; refsnn spec --glossary explains "
        "the words.",
    )
    parser.add_argument("--version", action="version", version=f"refsnn {__version__}")
    commands = parser.add_subparsers(
        title="commands", required=True, metavar="COMMAND", parser_class=CommandParser
    )
    train = commands.add_parser(
        "train",
        help="train a network into a run folder",
        description="Train a spiking ResNet (Algorithm 1). Without options: evolutionary "
        "training on the handwritten digits that come with the package.",
    )
    train.add_options = add_train
    for name, (module, text, description) in COMMANDS.items():
        # no abbreviations: --seed is not --seeds
        command = commands.add_parser(name, help=text, description=description, allow_abbrev=False)
        command.add_options = partial(add_command, module)
    spec = commands.add_parser(
        "spec",
        help="print the equations and decisions that refsnn implements",
        description="Print every equation of the paper and every decision that the paper leaves "
        "open, with the code that implements it.",
    )
    spec.add_options = add_spec
    return parser


#: name -> module with `add_options` and, unless it has actions of its own, `run`; help; description
COMMANDS = {
    "evaluate": (
        "refsnn.training.evaluate_command",
        "test a trained network: accuracy by class and time step, confusion, predictions",
        "Compute the accuracy of the main branch on the held-out images, with the side branches "
        "removed: as a whole, by class and by time step, and which classes are confused.",
    ),
    "show": (
        "refsnn.experiments.show_command",
        "draw a run: firing rates, potentials, spikes, weights, curves; compare runs",
        "Draw what a trained network's neurons do on the held-out images, its first weights and "
        "the curves of its training; with several runs, all their curves, and which images one "
        "classifies correctly and the other does not.",
    ),
    "energy": (
        "refsnn.experiments.energy_command",
        "count a trained network's synaptic operations, and the energy that they would take",
        "Count the operations of a trained network on the held-out images: a spike's additions to "
        "the neurons it reaches, with borders and strides exact, multiply-accumulates of numbers, "
        "updates of neurons; beside them the usual estimate, firing rate x FLOPs, and the dense "
        "network of the same shape.",
    ),
    "find-lr": (
        "refsnn.experiments.find_lr_command",
        "try rising learning rates on a new network, and say where its loss falls",
        "Train a new network for a number of iterations in which the learning rate rises from a "
        "low to a high value (a learning-rate range test), and print the loss at each. Nothing is "
        "kept of the network.",
    ),
    "warmup": (
        "refsnn.training.warmup_command",
        "compile the kernels now, not at the first training",
        "Compile the kernels that training calls, and keep them in Numba's cache, so that the "
        "first training starts at once: for an image of a container, or a cache of a CI.",
    ),
    "ablation": (
        "refsnn.experiments.ablation_command",
        "train methods x architectures x T x seeds and tabulate them",
        "Train every combination of method, architecture, T and seed, each into a run folder, "
        "and compare the methods: means, paired differences, a plot. Called again, it goes on "
        "where it stopped; finished runs are not run again.",
    ),
    "gradients": (
        "refsnn.experiments.gradients_command",
        "measure the gradient by layer, time step, branch and mechanism",
        "Report the norm of the gradient at every layer of neurons, by branch and by term of "
        "Eq. 3, the factors of Eq. 8 and the sum of Eq. 9, for the network of a run or for a newly "
        "initialised network.",
    ),
    "vectors": (
        "refsnn.oracle.vectors_command",
        "write test vectors: inputs and expected outputs for other implementations",
        "Write test vectors: cases with inputs, parameters, and every expected activation and "
        "gradient, as files for an implementation in any language. refsnn compare compares its "
        "arrays with them.",
    ),
    "compare": (
        "refsnn.oracle.compare_command",
        "compare another implementation's arrays with the test vectors",
        "Compare arrays with the test vectors. Report by clause of the specification, and name "
        "the first divergence of each case in the order of computing: tensor, time step, index. "
        "Exit code 1 if a case fails.",
    ),
    "diagnose": (
        "refsnn.oracle.diagnose_command",
        "find the conventions that reproduce another implementation's arrays",
        "Try the conventions in which implementations are known to differ, alone and together, "
        "and name in words those that reproduce the numbers. Exit code 1 if none do.",
    ),
    "conform": (
        "refsnn.oracle.conform_command",
        "check another implementation: run the test vectors through it and name its mistakes",
        "Run test cases through your implementation, in a separate process, and report by level "
        "and by clause of the specification. Exit code 1 if a case fails, or passes although it is "
        "listed as an expected failure. On Windows there is no memory limit, and the report does "
        "not say in which line a case hung.",
    ),
    "export": (
        "refsnn.export.command",
        "write a trained network for PyTorch (.npz, .safetensors) or NIR (.nir)",
        "Write a run's network as a file for other programs; the suffix says which.",
    ),
    "methods": (
        "refsnn.training.methods_command",
        "list the methods of the literature that --recipe knows",
        "List the methods of the literature: what each changes, its clauses in the ledger, and "
        "its accuracy on the digits. With a NAME, also its settings, the code that computes it, "
        "how that is checked, and where it differs from what its authors do.",
    ),
    "data": (
        "refsnn.data.command",
        "list and download data sets",
        "List and download the data sets that --dataset accepts.",
    ),
    "bench": (
        "refsnn.bench.command",
        "time training steps and inference, alone or beside PyTorch",
        "Measure images per second and peak memory of whole training steps and of inference, "
        "each in a separate process.",
    ),
}


def add_command(module: str, parser: Any) -> None:
    """Add the options of the command that is in a module."""
    code = import_module(module)
    code.add_options(parser)
    if hasattr(code, "run"):
        parser.set_defaults(run=code.run)


def add_train(train: Any) -> None:
    from refsnn.training.config import PRESETS
    from refsnn.training.options import add_recipe, add_settings, add_threads, add_workers

    train.add_argument(
        "--out",
        type=folder_name,
        metavar="DIR",
        help="run folder (default: a new one, runs/DATASET-ARCH-METHOD-seedS)",
    )
    train.add_argument(
        "--resume",
        nargs="?",
        const=True,
        metavar="RUN",
        help="continue the run in the folder RUN (default: the folder of --out)",
    )
    train.add_argument(
        "--preset",
        choices=PRESETS,
        help="settings to start from; options override them (default: digits)",
    )
    add_recipe(train)
    train.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings by name from a .toml file, or from the config.json of a run, over those of "
        "the preset; options override them",
    )
    train.add_argument(
        "--callback",
        action="append",
        default=[],
        metavar="MODULE:OBJECT",
        help="call a function of yours with each epoch's figures, a dict, after they are saved; "
        "may be given several times",
    )
    train.add_argument(
        "--tensorboard",
        action="store_true",
        help="write each epoch's figures for TensorBoard too, into the run's folder tensorboard",
    )
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
    from refsnn.training.callbacks import TensorBoard, load_callback, summary_writer
    from refsnn.training.config import make_config, overlaid
    from refsnn.training.folder import read_settings
    from refsnn.training.options import given_settings
    from refsnn.training.run import resume, start
    from refsnn.training.trainer import Interrupted

    limit_threads(arguments.threads)
    given = given_settings(arguments)
    callbacks = [load_callback(reference) for reference in arguments.callback]
    if arguments.tensorboard:
        summary_writer()  # before anything is written
    if arguments.resume:
        if arguments.resume is True and arguments.out is None:
            raise ValueError("resume: which run? give its folder: --resume RUN")
        if arguments.resume is not True and arguments.out is not None:
            raise ValueError(
                f"out: got {arguments.out}, but --resume names the run's folder already"
            )
        folder = Path(arguments.out if arguments.resume is True else arguments.resume)
        for name in ("preset", "config", "recipe"):
            if (value := getattr(arguments, name, None)) is not None:
                raise ValueError(
                    f"{name}: got {str(value)!r}, but {folder} goes on with its own settings; "
                    f"leave --{name} out"
                )
        run = resume(folder, given)
        if run.is_over():
            print(f"{folder} is at its end; --epochs N trains it longer")
    else:
        base = {} if arguments.config is None else read_settings(arguments.config)
        config = make_config(arguments.preset or "digits", **overlaid(base, given))
        folder = arguments.out or unused_folder(config, given.get("recipe"))
        run = start(folder, config)
    keep_freed_memory(large=run.keeps_all)
    if arguments.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard"))
    with Signals() as signals:
        try:
            run.train(
                lambda: signals.caught is not None,
                workers=arguments.workers,
                callbacks=callbacks,
            )
        except Interrupted:
            again = f"refsnn train --resume {shlex.quote(str(folder))}"
            print(f"stopped; go on with: {again}", file=sys.stderr)
            return 128 + int(signals.caught or 0)
        summary = run.summarize()
    print(
        f"test accuracy {summary['test_accuracy']:.4f}, "
        f"{summary['images_per_second']:.0f} images/s, run folder {folder}"
    )
    if "best_epoch" in summary:
        if summary["stopped_early"]:
            print(
                f"stopped early, in epoch {summary['epochs']} of {run.config.epochs}: no better "
                f"epoch for {run.config.patience} epochs (patience)"
            )
        print(
            f"best epoch {summary['best_epoch']} of {summary['epochs']} by the images left out: "
            f"accuracy on them {summary['best_validation_accuracy']:.4f}, "
            f"test accuracy {summary['best_test_accuracy']:.4f}"
        )
    return 0


def unused_folder(config: Any, recipe: str | None = None) -> Path:
    """Return the first unused folder name runs/…, with a number if the plain name is taken."""
    data, arch, method = config.data.dataset, config.network.arch, config.objective.method
    parts = [Path(data).stem, *([recipe] if recipe else []), arch, method, f"seed{config.seed}"]
    stem = "-".join(parts)
    folder, number = Path("runs") / stem.replace(":", "_"), 2
    while folder.exists():
        folder, number = Path("runs") / f"{stem.replace(':', '_')}-{number}", number + 1
    return folder


def add_spec(spec: Any) -> None:
    spec.add_argument(
        "clause", nargs="?", metavar="CLAUSE", help="print this clause in full, e.g. EQ3, D5"
    )
    form = spec.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a list of objects")
    form.add_argument(
        "--markdown",
        action="store_true",
        help="print the guide with rendered formulas, refsnn/equations/README.md, "
        "or the clause's part of it",
    )
    form.add_argument("--glossary", action="store_true", help="print the symbols and terms")
    spec.set_defaults(run=run_spec)


def run_spec(arguments: argparse.Namespace) -> int:
    from refsnn import spec
    from refsnn.output import print_json

    clauses = spec.CLAUSES if arguments.clause is None else [spec.clause(arguments.clause)]
    if arguments.glossary:
        if arguments.clause is not None:
            raise ValueError(f"--glossary: got {arguments.clause} beside it, want no clause")
        print(spec.glossary())
    elif arguments.markdown:
        print(spec.guide() if arguments.clause is None else spec.section(clauses[0]))
    elif arguments.json:
        print_json(json.dumps([spec.to_dict(c) for c in clauses], indent=2, ensure_ascii=False))
    elif arguments.clause is None:
        print(spec.table())
    else:
        print(spec.whole(clauses[0]))
    return 0
