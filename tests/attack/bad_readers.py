"""Readers that are wrong in every way that the campaign must notice, where a file is damaged."""

import os
import pickle
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import good_files as good
from containers import Canary
from readers import Reader

GOOD = bytes(range(200))


def reader(act: Callable[[Path], object], **settings: object) -> Reader:
    def read(path: Path) -> None:
        if path.read_bytes() != GOOD:
            act(path)

    return Reader("bytes", "", good.file("a", lambda: GOOD), read, **settings)


def refuse(message: str) -> None:
    raise ValueError(message)


def forever(path: Path) -> None:
    while True:
        pass


def fill(path: Path) -> None:
    b"x" * (1 << 27)


#: how a reader is wrong -> the reader, and how its failure begins
BAD: dict[str, tuple[Reader, str]] = {
    "another error": (reader(lambda path: {}["key"]), "KeyError at"),
    "no message": (reader(lambda path: refuse(" ")), "ValueError says nothing"),
    "two lines": (reader(lambda path: refuse(f"{path}\nand more")), "several lines"),
    "too long": (reader(lambda path: refuse(f"{path}" + "x" * 2000)), "a long message"),
    "by accident": (reader(lambda path: int("one")), "accidental ValueError"),
    "hangs": (reader(forever, seconds=0.2), "hangs"),
    "fills the memory": (reader(fill, memory=1 << 24), "takes memory"),
    "runs a command": (reader(lambda path: os.system("true")), "executes os.system"),
    "executes a pickle": (
        reader(lambda path: pickle.loads(pickle.dumps(Canary()))),
        "executes pickle.find_class",
    ),
    "writes here": (reader(lambda path: Path("canary").touch()), "writes outside"),
    "makes a folder": (
        reader(lambda path: os.mkdir(path.parent.with_name("x"))),
        "changes outside",
    ),
    "warns": (reader(lambda path: warnings.warn("odd", stacklevel=1)), "warns: UserWarning"),
    "exits": (reader(lambda path: sys.exit(0)), "SystemExit at"),
    "ends": (reader(lambda path: os._exit(0)), "the process ends with 0"),
    "dies": (reader(lambda path: os.kill(os.getpid(), signal.SIGKILL)), "the process ends with -9"),
    "refuses what is good": (
        Reader("bytes", "", good.file("a", lambda: GOOD), lambda path: refuse("no")),
        "does not read what is good",
    ),
}
RIGHT = reader(lambda path: refuse(f"{path}: is damaged"))
READERS = {name: reader for name, (reader, _) in BAD.items()} | {"right": RIGHT}
