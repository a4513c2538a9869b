"""Good files of every format, small and always the same. A maker is given a folder, and returns
the file in it that is to be damaged."""

import contextlib
import gzip
import io
import json
import os
import pickle
import runpy
import sys
import tarfile
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.data import aedat
from refsnn.data import cache as array_cache
from refsnn.experiments import ablation, table
from refsnn.export.parameters import save_parameters
from refsnn.files import npy
from refsnn.network import Network, architecture, init_buffers, init_params
from refsnn.oracle import vectors
from refsnn.oracle.cases import build
from refsnn.oracle.recipes import recipes
from refsnn.training.config import make_config
from refsnn.training.run import start
from refsnn.training.trainer import Interrupted

ROOT = Path(__file__).parents[2]
RNG = partial(np.random.default_rng, 0)
Maker = Callable[[Path], Path]


def file(name: str, content: Callable[[], bytes]) -> Maker:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content())
        return path

    return make


def npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def dataset() -> bytes:
    pixels, labels = RNG().integers(0, 17, (12, 4, 4), dtype=np.uint8), np.arange(12) % 3
    return npz(
        train_images=pixels, train_labels=labels, test_images=pixels[:6], test_labels=labels[:6]
    )


def teacher() -> bytes:
    return npz(logits=np.random.default_rng(0).normal(size=(12, 3)))


def events() -> bytes:
    rng = RNG()
    return npz(
        t=np.sort(rng.integers(0, 10**6, 50)),
        x=rng.integers(0, 128, 50),
        y=rng.integers(0, 128, 50),
        p=rng.integers(0, 2, 50),
    )


def aedat2() -> bytes:
    pairs = np.stack([RNG().integers(0, 1 << 15, 40), np.arange(40) * 100], 1).astype(">u4")
    return b"#!AER-DAT2.0\r\n# a comment\r\n" + pairs.tobytes()


def aedat3() -> bytes:
    """Three packets, one of them of another kind of event."""
    rng, content = RNG(), b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"
    for part, kind in enumerate((1, 2, 1)):
        word = rng.integers(0, 128, 20) << 17 | rng.integers(0, 128, 20) << 2 | 1
        body = np.stack([word, np.arange(20) + 100 * part], 1).astype("<u4").tobytes()
        content += aedat.PACKET.pack(kind, 1, 8, 4, 0, 20, 20, 20) + body
    return content


def atis() -> bytes:
    rows = RNG().integers(0, 256, (60, 5))
    rows[:, :2] %= 34
    return rows.astype(np.uint8).tobytes()


def matlab(compressed: bool) -> bytes:
    """Return the bytes that SciPy writes, without the date."""
    from scipy.io import savemat

    rng, buffer = RNG(), io.BytesIO()
    rows = np.stack([np.arange(30), *rng.integers(0, 128, (4, 30)), rng.integers(0, 2, 30)], 1)
    savemat(buffer, {"out1": rows.astype(float)}, do_compression=compressed)
    return b"MATLAB 5.0 MAT-file".ljust(116) + buffer.getvalue()[116:]


def cifar_binary() -> bytes:
    rows = RNG().integers(0, 256, (3, 3073), dtype=np.uint8)
    rows[:, 0] %= 10
    return rows.tobytes()


def cifar_pickle(protocol: int) -> bytes:
    pixels = RNG().integers(0, 256, (2, 3072), dtype=np.uint8)
    fields = {"batch_label": "one", "labels": [3, 7], "data": pixels, "filenames": ["a", "b"]}
    return pickle.dumps(fields, protocol)


def picture(kind: str, mode: str = "RGB", side: int = 24, **options: Any) -> bytes:
    from PIL import Image

    rows = np.indices((side, side)).sum(0) * 255 // (2 * side)
    image = Image.fromarray(np.stack([rows, rows.T, 255 - rows], -1).astype(np.uint8)).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


MEMBERS = [("set/a.bin", bytes(range(256)) * 4), ("set/deep/b.txt", b"text"), ("set/empty", b"")]


def tar_gz() -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in MEMBERS:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), 1, mtime=0)


def fill_cache(new: array_cache.New) -> None:
    new("a", (3,), np.int64)[:] = np.arange(3)
    new("b", (3,), np.float32)[:] = 1


@contextlib.contextmanager
def cache_in(folder: Path) -> Any:
    os.environ["REFSNN_CACHE"] = str(folder)
    try:
        yield
    finally:
        del os.environ["REFSNN_CACHE"]


def cached(folder: Path) -> Path:
    with cache_in(folder / "cache"):
        array_cache.mapped("x", [], {"n": 3}, fill_cache)
    (path,) = folder.glob("cache/x-*/contents.json")
    return path


def run_of(folder: Path, epochs: int = 2, batches: int = 4) -> Path:
    """A run that was stopped after so many batches, of which an epoch has 3."""
    (folder / "data.npz").write_bytes(dataset())
    config = make_config(
        arch="1-1:2-2",
        steps=1,
        batch_size=4,
        epochs=epochs,
        ops="numpy",
        dataset=str(folder / "data.npz"),
    )
    run, left = start(folder / "run", config), iter(range(batches))
    with contextlib.suppress(Interrupted):
        run.train(lambda: next(left, None) is None, quiet=True)
    return folder / "run"


def in_run(name: str, **settings: Any) -> Maker:
    return lambda folder: run_of(folder, **settings) / name


def finished(folder: Path) -> Path:
    run = run_of(folder, epochs=1)
    (run / "summary.json").write_text(json.dumps({"test_accuracy": 0.5, "epochs": 1}))
    return run / "summary.json"


GRID = [
    make_config(arch="1-1:2-2", ops="numpy", method=method, seed=seed)
    for method in ("vanilla", "evolutionary")
    for seed in (0, 1)
]


def ablation_folder(folder: Path) -> Path:
    out = folder / "ablation"
    ablation.prepare(out, ablation.settings_of(out, GRID))
    return out / "ablation.json"


def made_table() -> bytes:
    results = [ablation.Result(config, "finished", 0.5 + 0.1 * config.seed, 10) for config in GRID]
    return json.dumps(table.tabulate(results)).encode()


def script(name: str) -> Any:
    """A script of figures/, which is no package."""
    if str(ROOT / "figures") not in sys.path:
        sys.path.append(str(ROOT / "figures"))
    return import_module(name)


def recorded(name: str, **given: Any) -> Maker:
    """Record what the figure is drawn from, as its option --record does."""

    def make(folder: Path) -> Path:
        script("_style").measure(name, script(name).compute, given, folder / "data.json")
        return folder / "data.json"

    return make


def tested(name: str) -> Maker:
    """The data that the tests of that figure draw, as of --record."""

    def make(folder: Path) -> Path:
        found = runpy.run_path(str(ROOT / "tests" / "figures" / f"test_{name}.py"))["DATA"]
        (folder / "data.json").write_text(json.dumps({"figure": name} | found))
        return folder / "data.json"

    return make


@cache
def numbers() -> tuple[Network, Any, Any]:
    net = Network(architecture("1-1:2-2"), 1, 3)
    return net, init_params(net, RNG(), np.float32), init_buffers(net, np.float32)


def parameters(suffix: str) -> Maker:
    def make(folder: Path) -> Path:
        save_parameters(folder / f"net{suffix}", *numbers())
        return folder / f"net{suffix}"

    return make


def nir_file(folder: Path) -> Path:
    from refsnn.export.nir import to_nir, write_nir

    write_nir(folder / "net.nir", to_nir(*numbers(), (4, 4), about={"steps": 2}))
    return folder / "net.nir"


def nir_tree(folder: Path) -> Path:
    """Answer for a NIR file as the process that reads HDF5 does."""
    from refsnn.export import hdf5_worker

    with open(nir_file(folder), "rb") as content:
        (folder / "tree.npz").write_bytes(hdf5_worker.dump_tree(content, 1 << 20))
    return folder / "tree.npz"


@cache
def cases() -> list[vectors.Case]:
    return [build(r) for r in recipes() if r.id in ("neuron/tie", "surrogate/tanh")]


def in_vectors(name: str = "", suffix: str = ".npz") -> Maker:
    """A file of a folder of test vectors; "": that of the first case."""

    def make(folder: Path) -> Path:
        vectors.write(cases(), folder / "vectors", suffix)
        return folder / "vectors" / (name or f"{cases()[0].id}{suffix}")

    return make


def answer(folder: Path) -> Path:
    for name, array in cases()[0].outputs.items():
        (folder / f"{name}.npy").write_bytes(npy.dump(array))
    return folder / f"{next(iter(cases()[0].outputs))}.npy"


def worker_answer() -> bytes:
    return npz(**cases()[0].outputs)


def faults() -> bytes:
    """Two that the code can take: the first lines of two modules."""
    names = ("refsnn/ops.py", "refsnn/spec.py")
    found = [
        {
            "id": n,
            "file": n,
            "old": (ROOT / n).read_text().splitlines()[0],
            "new": "",
            "clause": "D1",
        }
        for n in names
    ]
    return json.dumps(found).encode()


EXPECTED = '[cases]\n"neuron/tie*" = "fires on the threshold"\n"layer/*" = "no batch norm yet"\n'
