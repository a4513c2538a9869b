"""CIFAR-10 and CIFAR-100 as their authors publish them: the binary and the Python version."""

import pickletools
from collections.abc import Sequence
from functools import partial as bind
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.data.cache import New, mapped
from refsnn.ops import Array, validate

PIXELS = 3 * 32 * 32  # planes of red, green, blue; each row by row


class Kind(NamedTuple):
    """File names are the Python version's; the binary version's end in .bin."""

    name: str
    folders: dict[str, str]  # suffix of the files -> folder
    train: tuple[str, ...]
    test: str
    train_images: int  # a file
    test_images: int
    labels: dict[str, int]  # key in the Python version -> classes; the last is what is used


CIFAR10 = Kind(
    "cifar10",
    {".bin": "cifar-10-batches-bin", "": "cifar-10-batches-py"},
    tuple(f"data_batch_{k}" for k in range(1, 6)), "test_batch", 10_000, 10_000,
    {"labels": 10},
)  # fmt: skip
CIFAR100 = Kind(
    "cifar100",
    {".bin": "cifar-100-binary", "": "cifar-100-python"},
    ("train",), "test", 50_000, 10_000,
    {"coarse_labels": 20, "fine_labels": 100},
)  # fmt: skip


class Arrays(NamedTuple):
    """Images (N, 32, 32, 3) of uint8 and labels (N,) of int64; read-only memory maps."""

    train_images: Array
    train_labels: Array
    test_images: Array
    test_labels: Array


def load_cifar10(data_dir: Path, partial: bool = False) -> Arrays:
    """50,000 and 10,000 images of 10 classes, from `data_dir` or the published folder in it.

    `partial` takes the training files that are there, and any number of images in each.
    ValueError, which names the file, where one is missing or holds something else.
    """
    return load(CIFAR10, data_dir, partial)


def load_cifar100(data_dir: Path, partial: bool = False) -> Arrays:
    """As `load_cifar10`, with the 100 fine labels."""
    return load(CIFAR100, data_dir, partial)


def load(kind: Kind, data_dir: Path, partial: bool) -> Arrays:
    train, test = find(kind, data_dir, partial)
    arrays = mapped(
        kind.name, [*train, test], {"partial": partial}, bind(fill, kind, train, test, partial)
    )
    return Arrays(**arrays)


def find(kind: Kind, data_dir: Path, partial: bool) -> tuple[list[Path], Path]:
    """The training files and the test file, of the version that has the most of them here."""
    versions = [
        [folder / f"{name}{suffix}" for name in (*kind.train, kind.test)]
        for suffix, published in kind.folders.items()
        for folder in (data_dir / published, data_dir)
    ]
    files = max(versions, key=lambda files: sum(path.is_file() for path in files))
    missing = [str(path) for path in files if not path.is_file()]
    if len(missing) == len(files):
        published = " or ".join(kind.folders.values())
        raise ValueError(f"dataset: {data_dir} holds no {kind.name}, want {published} in it")
    train, test = [path for path in files[:-1] if path.is_file()], files[-1]
    if missing and not (partial and train and test.is_file()):
        raise ValueError(
            f"dataset: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, "
            f"want all files of {kind.name}"
        )
    return train, test


def fill(kind: Kind, train: Sequence[Path], test: Path, partial: bool, new: New) -> None:
    for part, paths, count in (
        ("train", train, kind.train_images), ("test", [test], kind.test_images),
    ):  # fmt: skip
        pieces = [read(kind, path, None if partial else count) for path in paths]
        images, labels = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        new(f"{part}_images", images.shape, images.dtype)[:] = images
        new(f"{part}_labels", labels.shape, labels.dtype)[:] = labels


def read(kind: Kind, path: Path, count: int | None) -> tuple[Array, Array]:
    """Images and labels of one file, which holds `count` of them; None: at least one."""
    reader = read_binary if path.suffix == ".bin" else read_python
    pixels, labels = reader(path, list(kind.labels))
    if len(pixels) != count and (count or len(pixels) == 0):
        raise ValueError(f"dataset: {path}: got {len(pixels)} images, want {count or 'some'}")
    for (key, classes), values in zip(kind.labels.items(), labels, strict=True):
        validate.labels(f"dataset: {path}: {key}", values, len(pixels), classes)
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels[-1].astype(np.int64)


def read_binary(path: Path, keys: list[str]) -> tuple[Array, list[Array]]:
    """Records of one byte a label, then the pixels."""
    record = len(keys) + PIXELS
    size = path.stat().st_size
    if size % record:
        raise ValueError(f"dataset: {path}: got {size} bytes, want records of {record}")
    rows = np.fromfile(path, np.uint8).reshape(-1, record)
    return rows[:, len(keys) :], [rows[:, k] for k in range(len(keys))]


def read_python(path: Path, keys: list[str]) -> tuple[Array, list[Array]]:
    """A pickled dictionary, read as the data it is: nothing that a pickle can call is called."""
    content = path.read_bytes()
    try:
        fields = play(content)
        if not isinstance(fields, dict):
            raise ValueError(f"got {type(fields).__name__}, want a dictionary")
        for key in ("data", *keys):
            if key not in fields:
                raise ValueError(f"{key} is missing")
        return pixels_of(fields["data"]), [labels_of(key, fields[key]) for key in keys]
    except Exception as error:  # a wrong opcode can do whatever to the stack
        raise ValueError(
            f"dataset: {path}: not of CIFAR's Python version: {error!s:.200}"
        ) from None


def pixels_of(value: Any) -> Array:
    """The array (N, 3072) of uint8 that a call of NumPy's _reconstruct would make."""
    match value:
        case Call(
            _, ("numpy ndarray", *_), (_, shape, Call("numpy dtype", ("u1", *_)), order, raw)
        ):
            raw = raw.encode("latin-1") if isinstance(raw, str) else raw
            pixels = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if order else "C")
        case Call(state=(_, _, Call("numpy dtype", (str() as dtype, *_)), *_)):
            raise ValueError(f"data: got dtype {dtype!r}, want u1")
        case _:
            raise ValueError(f"data: got {type(value).__name__}, want an array")
    if pixels.shape[1:] != (PIXELS,):
        raise ValueError(f"data: got shape {pixels.shape}, want (N, {PIXELS})")
    return pixels


def labels_of(key: str, values: Any) -> Array:
    if not all(type(value) is int for value in values):
        raise ValueError(f"{key}: want a list of integers")
    return np.array(values, np.int64)


class Call(NamedTuple):
    """What a pickle would have called, and set the result's state to."""

    function: str
    arguments: Any
    state: Any = None


CALLABLE = (
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct",
    "numpy ndarray", "numpy dtype",
)  # fmt: skip
VALUES = {
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "INT", "BININT", "BININT1", "BININT2",
}  # fmt: skip
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
PUT = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
GET = {"GET", "BINGET", "LONG_BINGET"}
TAKES = {  # how many values from the stack; None: those above the last mark
    "EMPTY_LIST": 0, "LIST": None, "APPEND": 1, "APPENDS": None,
    "EMPTY_DICT": 0, "DICT": None, "SETITEM": 2, "SETITEMS": None,
    "EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "TUPLE": None,
    "GLOBAL": 0, "STACK_GLOBAL": 2, "REDUCE": 2, "BUILD": 1,
}  # fmt: skip
BYTES_PER_OPCODE = 300  # at least, as most of a file is pixels; else lists could fill the memory


def play(content: bytes) -> Any:
    """The value of a pickle of strings, integers, lists, tuples, dictionaries and `Call`s."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[Any, Any] = {}
    most = 1000 + len(content) // BYTES_PER_OPCODE
    for count, (opcode, argument, _) in enumerate(pickletools.genops(content)):
        name = opcode.name
        if count == most:
            raise ValueError(f"want at most {most} opcodes")
        if name in VALUES:
            stack.append(argument)
        elif name in PUT:
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in GET:
            stack.append(memo[argument])
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name == "MARK":
            marks.append(len(stack))
        elif name in TAKES:
            taken = TAKES[name]
            start = marks.pop() if taken is None else len(stack) - taken
            if start < 0:
                raise ValueError(f"{name} finds no value")
            values = stack[start:]
            del stack[start:]
            combine(name, argument, values, stack)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"{name} {argument!r} is not allowed")
    return stack.pop()


def combine(name: str, argument: Any, values: list[Any], stack: list[Any]) -> None:
    match name:
        case "EMPTY_LIST" | "LIST":
            stack.append(values)
        case "APPEND" | "APPENDS":
            stack[-1].extend(values)
        case "EMPTY_DICT" | "DICT":
            stack.append(dictionary(values))
        case "SETITEM" | "SETITEMS":
            stack[-1].update(dictionary(values))
        case "GLOBAL" | "STACK_GLOBAL":
            function = argument or " ".join(values)
            if function not in CALLABLE:
                raise ValueError(f"{function!r} is not allowed")
            stack.append(function)
        case "REDUCE":
            stack.append(Call(*values))
        case "BUILD":
            stack.append(stack.pop()._replace(state=values[0]))
        case _:
            stack.append(tuple(values))


def dictionary(values: list[Any]) -> dict[str, Any]:
    keys = [key if isinstance(key, str) else key.decode() for key in values[::2]]
    return dict(zip(keys, values[1::2], strict=True))
