"""Every reader of files from outside: how a good file is made, and how it is read.

A new reader is an entry of `READERS`; a module that opens files and is in none, nor in `TRUSTED`
with a reason, fails `test_campaign.py`.
"""

import contextlib
import hashlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import good_files as good
import numpy as np
from containers import zipped

from refsnn.cli import build_parser
from refsnn.data import Dataset, Split, cifar, imagefolder, unpack
from refsnn.data import cache as array_cache
from refsnn.data.arrays import from_npz
from refsnn.data.recordings import read_recording
from refsnn.experiments import ablation, table
from refsnn.export import hdf5
from refsnn.export.parameters import load_parameters, read_run
from refsnn.files.arrays import LIMIT
from refsnn.oracle import conform, declare, isolate, own_slope, vectors
from refsnn.oracle.actual import read_actual
from refsnn.oracle.adapters import program
from refsnn.oracle.compare import compare_case
from refsnn.training import checkpoint
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.folder import read_config, read_metrics
from refsnn.training.monitor import Diverged
from refsnn.training.run import resume
from refsnn.training.teacher import load_teacher
from verification import mutants


@dataclass(frozen=True)
class Reader:
    """`make(folder)` writes what is good and returns the file that is to be damaged; `read` gets
    that file. `seal` makes checksums right again after the damage, for half of the inputs."""

    form: str  # of `containers.FORMS`, or bytes
    modules: str  # those that open the file, apart by spaces
    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    share: float = 1.0  # of the inputs, beside the others'
    seal: Callable[[Path], None] | None = None
    refusals: tuple[type[BaseException], ...] = ()  # beside ValueError, TypeError and OSError
    memory: int = LIMIT  # bytes that it says it takes at most
    seconds: float = 10.0  # that it may take
    needs: str = ""  # an optional package
    starts: frozenset[str] = frozenset()  # audit events of processes of its own


def unpacked(path: Path) -> None:
    out = path.parent / "out"
    try:
        unpack.unpack(path, out, 10**6)
    finally:
        shutil.rmtree(out, ignore_errors=True)


def from_cache(path: Path) -> None:
    root = next(p for p in path.parents if p.name == "cache")
    with good.cache_in(root):
        found = array_cache.mapped("x", [], {"n": 3}, good.fill_cache)
    assert set(found) == {"a", "b"}, f"the cache gave {found}"


DECLARATION = 'profile = "snntorch"\ntau = 0.8\nreset = "subtract"\nsurrogate_shape = 3.0\n'
SLOPE = "x,h\n-1,0\n0,1\n1,0\n"


def table_of_a_slope() -> bytes:
    file = io.BytesIO()
    np.save(file, [[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    return file.getvalue()


@contextlib.contextmanager
def silent():
    with contextlib.redirect_stdout(io.StringIO()), np.errstate(all="ignore"):
        yield


@contextlib.contextmanager
def copied(folder: Path):
    """A copy, for what writes."""
    copy = folder.with_name("copy")
    shutil.copytree(folder, copy)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def resumed(path: Path) -> None:
    with copied(path.parent) as folder, silent():
        resume(folder).train(quiet=True)


def summarized(path: Path) -> None:
    with copied(path.parent) as folder:
        resume(folder).summarize()


def seal_checkpoint(path: Path) -> None:
    with np.load(io.BytesIO(path.read_bytes())) as archive:
        arrays = {name: archive[name] for name in archive.files if name != "sha256"}
    digest = np.frombuffer(checkpoint.digest(arrays), np.uint8)
    path.write_bytes(good.npz(**arrays, sha256=digest))


def read_settings(path: Path) -> None:
    ablation.existing(path.parent, ablation.settings_of(path.parent, good.GRID))


@cache
def config_of(folder: Path) -> TrainConfig:
    return read_config(folder)


def tabulated(path: Path) -> None:
    found = ablation.result(ablation.Planned(path.parent, config_of(path.parent)))
    table.to_markdown(table.tabulate([found]))


def drawn_table(path: Path) -> None:
    script = good.script("ablation")
    script.draw(script.compute(str(path)))


def figure(name: str, make: good.Maker | None = None) -> Reader:
    """The data of a figure in figures/, by default those of its tests."""

    def draw(path: Path) -> None:
        good.script("_style").draw_recorded(path, name, good.script(name).draw)

    return Reader("json", "figures._style", make or good.tested(name), draw, 0.02)


def run_nir(path: Path) -> None:
    from refsnn.export.nir_read import read_nir
    from refsnn.export.nir_run import run_nir

    with silent():
        run_nir(read_nir(path), np.ones((2, 1, 4, 4, 1)))


def run_tree(path: Path) -> None:
    """What the process that reads HDF5 answers is in the file."""
    real, hdf5.ask = hdf5.ask, lambda content, limit: content
    try:
        run_nir(path)
    finally:
        hdf5.ask = real


def read_vectors(path: Path) -> None:
    vectors.read(next(p for p in path.parents if p.name == "vectors"))


def listed(path: Path) -> None:
    """What `refsnn vectors list` shows of the folder."""
    arguments = build_parser().parse_args(["vectors", "list", str(path.parent)])
    with silent():
        arguments.run(arguments)


def generated_again(path: Path) -> None:
    """Files that the manifest names are removed."""
    with copied(path.parent) as folder:
        vectors.write([], folder)


def seal_vectors(path: Path) -> None:
    manifest = path.parents[1] / "manifest.json"
    content = json.loads(manifest.read_text())
    for entry in content["cases"]:
        if path.match(entry["file"]):
            entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest.write_text(json.dumps(content))


def compared(path: Path) -> None:
    case = good.cases()[0]
    found = read_actual(path, [case.id])
    if case.id in found.got:
        with silent():
            compare_case(case, found.got[case.id])


def read_faults(path: Path) -> None:
    found = mutants.read(path)
    mutants.require_unique(found)
    for fault in found:
        mutants.mutated(fault)


#: bytes of a picture within Pillow's limit: three a pixel, and four where it has transparency
PIXELS = 7 * 89_478_485
DATA, TRAINING, EXPERIMENTS = "refsnn.data.", "refsnn.training.", "refsnn.experiments."
EXPORT, ORACLE = "refsnn.export.", "refsnn.oracle."
read_cifar = partial(cifar.read, cifar.CIFAR10, count=None)


def read_teacher(path: Path) -> None:
    """Read a teacher's answers to a dozen images, and use all of them."""
    images, labels = np.zeros((12, 4, 4, 1), np.uint8), np.arange(12) % 3
    split = Split(images, labels)
    data = Dataset("dozen", split, split, 3, np.zeros(1), np.ones(1))
    config = make_config(teacher=str(path), augment="none")
    teacher = load_teacher(config, data)
    assert teacher is not None
    answers = teacher.answers(images.astype(np.float32), np.arange(12))
    assert np.isfinite(answers).all()


READERS: dict[str, Reader] = {
    "dataset.npz": Reader(
        "npz",
        DATA + "arrays refsnn.files.arrays refsnn.files.reading",
        good.file("d.npz", good.dataset),
        from_npz,
        2,
    ),
    "events.npz": Reader(
        "npz", DATA + "recordings", good.file("r.npz", good.events), read_recording, 2
    ),
    "aedat 2.0": Reader(
        "bytes", DATA + "aedat", good.file("r.aedat", good.aedat2), read_recording, 2
    ),
    "aedat 3.1": Reader(
        "bytes", DATA + "aedat", good.file("r.aedat", good.aedat3), read_recording, 2
    ),
    "nmnist.bin": Reader(
        "bytes", DATA + "recordings", good.file("r.bin", good.atis), read_recording
    ),
    "events.mat": Reader(
        "mat",
        DATA + "recordings",
        good.file("r.mat", partial(good.matlab, False)),
        read_recording,
        2,
        memory=1 << 30,
    ),
    "compressed.mat": Reader(
        "mat",
        DATA + "recordings",
        good.file("r.mat", partial(good.matlab, True)),
        read_recording,
        2,
        memory=1 << 30,
    ),
    "cifar10.bin": Reader(
        "bytes", DATA + "cifar", good.file("data_batch_1.bin", good.cifar_binary), read_cifar
    ),
    "cifar pickle 2": Reader(
        "pickle",
        DATA + "cifar",
        good.file("data_batch_1", partial(good.cifar_pickle, 2)),
        read_cifar,
        2,
    ),
    "cifar pickle 4": Reader(
        "pickle",
        DATA + "cifar",
        good.file("data_batch_1", partial(good.cifar_pickle, 4)),
        read_cifar,
    ),
    "picture.jpg": Reader(
        "jpeg",
        DATA + "imagefolder",
        good.file("a.jpg", partial(good.picture, "JPEG")),
        partial(imagefolder.read, size=8),
        memory=PIXELS,
    ),
    "large.jpg": Reader(
        "jpeg",
        DATA + "imagefolder",
        good.file("a.jpg", partial(good.picture, "JPEG", side=80, progressive=True)),
        lambda path: imagefolder.read(path, 4, good.RNG()),
        memory=PIXELS,
    ),
    "picture.png": Reader(
        "png",
        DATA + "imagefolder",
        good.file("a.png", partial(good.picture, "PNG")),
        partial(imagefolder.read, size=8),
        memory=PIXELS,
    ),
    "palette.png": Reader(
        "png",
        DATA + "imagefolder",
        good.file("a.png", partial(good.picture, "PNG", "P")),
        partial(imagefolder.read, size=8),
        memory=PIXELS,
    ),
    "archive.tar.gz": Reader(
        "tar.gz", DATA + "unpack", good.file("a.tar.gz", good.tar_gz), unpacked
    ),
    "archive.zip": Reader(
        "zip", DATA + "unpack", good.file("a.zip", partial(zipped, good.MEMBERS, 8)), unpacked
    ),
    "contents.json": Reader("json", DATA + "cache", good.cached, from_cache, 0.3),
    "cached.npy": Reader(
        "npy",
        DATA + "cache",
        lambda folder: good.cached(folder).with_name("a.npy"),
        from_cache,
        0.3,
    ),
    "config.json": Reader(
        "json",
        TRAINING + "folder refsnn.files.documents",
        good.in_run("config.json"),
        lambda path: read_config(path.parent),
        2,
    ),
    "checkpoint.npz": Reader(
        "npz",
        TRAINING + "checkpoint",
        good.in_run("checkpoint.npz"),
        lambda path: read_run(path.parent),
        0.5,
        seal_checkpoint,
    ),
    "resumed checkpoint": Reader(
        "npz",
        TRAINING + "checkpoint",
        good.in_run("checkpoint.npz"),
        resumed,
        0.15,
        seal_checkpoint,
        (Diverged,),
    ),
    "teacher.npz": Reader(
        "npz", TRAINING + "teacher", good.file("t.npz", good.teacher), read_teacher, 2
    ),
    "metrics.jsonl": Reader(
        "lines",
        TRAINING + "folder",
        good.in_run("metrics.jsonl"),
        lambda path: read_metrics(path.parent),
    ),
    "resumed metrics": Reader(
        "lines", TRAINING + "folder", good.in_run("metrics.jsonl", epochs=1), resumed, 0.2
    ),
    "summarized metrics": Reader(
        "lines", TRAINING + "folder", good.in_run("metrics.jsonl", batches=9), summarized, 0.02
    ),
    "summary.json": Reader("json", EXPERIMENTS + "ablation", good.finished, tabulated),
    "ablation.json": Reader("json", EXPERIMENTS + "ablation", good.ablation_folder, read_settings),
    "table.json": Reader(
        "json", EXPERIMENTS + "table", good.file("table.json", good.made_table), drawn_table, 0.05
    ),
    "figure of an ablation": figure("ablation", good.recorded("ablation")),
    "figure of lambda": figure(
        "lambda_schedule", good.recorded("lambda_schedule", epochs=2, batches=3)
    ),
    "figure of surrogates": figure("surrogates", good.recorded("surrogates")),
    "figure of a network": figure("workflow", good.recorded("workflow", arch="1-1:2-2")),
    "figure of depths": figure("gradient_by_depth"),
    "figure of gradients": figure("gradient_distribution"),
    "figure of regimes": figure("gradient_regimes"),
    "figure of spikes": figure("spike_raster"),
    "parameters.npz": Reader(
        "npz",
        EXPORT + "parameters " + EXPORT + "network_json",
        good.parameters(".npz"),
        load_parameters,
    ),
    "parameters.safetensors": Reader(
        "safetensors",
        EXPORT + "parameters",
        good.parameters(".safetensors"),
        load_parameters,
        needs="safetensors",
    ),
    "network.nir": Reader(
        "hdf5",
        EXPORT + "nir_read",
        good.nir_file,
        run_nir,
        0.05,
        needs="nir",
        starts=frozenset({"subprocess.Popen", "os.posix_spawn", "os.fork"}),
        seconds=60,
    ),
    "tree of a .nir": Reader("npz", EXPORT + "nir_read", good.nir_tree, run_tree, needs="nir"),
    "case.npz": Reader("npz", ORACLE + "vectors", good.in_vectors(), read_vectors, 1, seal_vectors),
    "manifest.json": Reader(
        "json", ORACLE + "vectors", good.in_vectors("manifest.json"), read_vectors, 2
    ),
    "listed manifest": Reader(
        "json", ORACLE + "vectors", good.in_vectors("manifest.json"), listed, 0.2
    ),
    "former manifest": Reader(
        "json", ORACLE + "vectors", good.in_vectors("manifest.json"), generated_again, 0.3
    ),
    "actual.npz": Reader("npz", ORACLE + "actual", good.in_vectors(), compared, 2),
    "actual.safetensors": Reader(
        "safetensors",
        ORACLE + "actual",
        good.in_vectors(suffix=".safetensors"),
        compared,
        needs="safetensors",
    ),
    "expected.toml": Reader(
        "toml",
        ORACLE + "conform",
        good.file("expected.toml", good.EXPECTED.encode),
        conform.read_expected,
    ),
    "declaration.toml": Reader(
        "toml",
        ORACLE + "declare",
        good.file("mine.toml", DECLARATION.encode),
        declare.declared,
    ),
    "slope.csv": Reader(
        "bytes",
        ORACLE + "own_slope",
        good.file("slope.csv", SLOPE.encode),
        own_slope.read_table,
    ),
    "slope.npy": Reader(
        "npy",
        ORACLE + "own_slope",
        good.file("slope.npy", table_of_a_slope),
        own_slope.read_table,
    ),
    "program's answer": Reader(
        "npy",
        ORACLE + "adapters.program",
        good.answer,
        lambda path: program.read_outputs(path.parent, good.cases()[0]),
        refusals=(program.ProgramFailed,),
    ),
    "worker's answer": Reader(
        "npz",
        ORACLE + "isolate",
        good.file("answer.npz", good.worker_answer),
        lambda path: isolate.read_answer(path, good.cases()[0]),
        refusals=(isolate.Ended,),
    ),
    "mutants.json": Reader(
        "json",
        "verification.mutants",
        good.file("mutants.json", good.faults),
        read_faults,
    ),
}

#: modules that open files which nobody else writes, and why they may trust them
TRUSTED = {
    "refsnn.bench.machine": "/proc/cpuinfo is the kernel's",
    "refsnn.bench.processes": "lines of a process that it started itself",
    "refsnn.bench.worker": "arguments and lines of the process that started it",
    "refsnn.bench.workload": "numbers that the benchmark wrote into a temporary folder",
    "refsnn.data.digits": "a file of the package",
    "refsnn.data.fetch": "bytes for a checksum and a length; unpacking is the reader unpack's",
    "refsnn.export.hdf5_worker": "reads for network.nir, in a process that may crash",
    "refsnn.experiments.schedule": "counts the lines of a file of its own runs",
    "refsnn.files.unfinished": "an empty file",
    "refsnn.files.writing": "writes",
    "refsnn.oracle.schema": "a file of the package",
    "refsnn.oracle.supervisor": "the null device",
    "refsnn.oracle.worker": "a case that conform wrote into a temporary folder",
    "refsnn.output": "writes",
    "refsnn.process": "the null device",
    "refsnn.spec": "a file of the package",
    "refsnn.training.recipes": "the methods, in the package",
    "refsnn.system": "the kernel's files in /proc; folders, to flush them",
    "refsnn.training.lock": "an empty file",
    "verification.learning": "compares the bytes of two checkpoints that it made",
    "verification.runs": "compares the bytes of two checkpoints that it made",
}
