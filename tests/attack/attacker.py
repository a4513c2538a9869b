"""One process of the campaign: it damages good files and watches how they are read.

    python attacker.py FOLDER TABLE SEED TOTAL PART JOBS [READER/INDEX]

reads every JOBSth input of each reader, after the one named, and writes what is wrong to the
standard output, a JSON list a line.
"""

import contextlib
import importlib.util
import json
import os
import resource
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LONGEST = 1000  # characters of a message
END = "the end/0"
SIGN = 80  # bytes that say where a process is
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
EXECUTES = {
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "subprocess.Popen",
    "pickle.find_class",
    "socket.connect",
    "socket.getaddrinfo",
}
CHANGES = {
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.rename",
    "os.truncate",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.utime",
}


class Failure(NamedTuple):
    reader: str
    seed: int
    index: int
    what: str  # the kind of fault, and where it shows
    detail: str
    saved: str = ""  # the input


class Hang(BaseException):
    """Reading took more time than it may."""


class Watch:
    """An audit hook that notes what reading must not do: execute, or write outside its folder."""

    def __init__(self) -> None:
        self.on, self.folder, self.starts, self.seen = False, "", frozenset[str](), list[str]()
        sys.addaudithook(self.hook)
        warnings.simplefilter("always")
        warnings.showwarning = self.warned

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in EXECUTES - self.starts:
            self.seen.append(f"executes {event} {str(arguments)[:200]}")
        elif event == "open":
            path, _, flags = arguments
            if flags & WRITES and not self.inside(path, -1):
                self.seen.append(f"writes outside: {path}")
        elif event in CHANGES:
            names = arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]
            outside = [name for name in names if not self.inside(name, arguments[-1])]
            self.seen += [f"changes outside: {event} {name}" for name in outside]

    def inside(self, path: Any, folder: Any) -> bool:
        if isinstance(path, int):
            return True  # a file that is open already
        path = os.fsdecode(path)
        if isinstance(folder, int) and folder >= 0:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
        return path == os.devnull or os.path.abspath(path).startswith(self.folder + os.sep)

    def warned(self, message: Any, category: Any, *_: Any) -> None:
        if self.on:
            self.seen.append(f"warns: {category.__name__} {str(message)[:100]}")


def resident(field: str) -> int:
    """Bytes of memory of this process that are, or were at most (VmHWM), in use."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{field}:")[1].split()[0])


class Attack:
    """A reader with its good file, in a folder of its own."""

    def __init__(self, folder: Path, name: str, reader: Any, seed: int, watch: Watch) -> None:
        self.name, self.reader, self.seed, self.watch = name, reader, seed, watch
        self.failing, self.home = folder / "failing", folder / "home"
        self.place = (
            folder / f"input-{os.getpid()}" / "".join(c if c.isalnum() else "-" for c in name)
        )
        self.place.mkdir(parents=True)
        watch.folder, watch.starts = str(self.place), reader.starts
        self.path = reader.make(self.place)
        self.good = {p: p.read_bytes() for p in self.place.rglob("*") if p.is_file()}
        unlimited = resource.RLIM_INFINITY
        resource.setrlimit(resource.RLIMIT_AS, (unlimited, unlimited))
        reader.read(self.path)
        size = 4096 * int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (size + 3 * reader.memory + 2**28, unlimited))

    def write(self, index: int) -> None:
        """The input of that number."""
        from containers import mutated

        rng = Random(f"{self.seed}/{self.name}/{index}")
        put(self.path, mutated(self.good[self.path], self.reader.form, rng))
        if self.reader.seal and rng.random() < 0.5:
            with contextlib.suppress(Exception):  # too damaged to have a checksum
                self.reader.seal(self.path)

    def restore(self) -> None:
        for path, content in self.good.items():
            if path != self.path and not (path.exists() and path.read_bytes() == content):
                put(path, content)

    def failures(self, index: int) -> list[Failure]:
        """Return what is wrong with how one input is read."""
        self.write(index)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew: a process that was
        before = resident("VmRSS")  # started by a large one has that one's for its own
        found = list(self.outcome())
        grown = resident("VmHWM") - before
        if grown > 2 * self.reader.memory:
            found.append(("takes memory", f"{grown} bytes, want {2 * self.reader.memory}"))
        seen, self.watch.seen = self.watch.seen, []
        found += [(" ".join(line.split()[:2]), line) for line in dict.fromkeys(seen)]
        if left := os.listdir(self.home):
            found.append(("writes outside", f"{left[:5]} in the current folder"))
            os.chdir(self.home.parent)
            shutil.rmtree(self.home)
            self.home.mkdir()
            os.chdir(self.home)
        kept = self.keep(index) if found else ""
        self.restore()
        return [Failure(self.name, self.seed, index, *pair, kept) for pair in found]

    def outcome(self) -> Iterator[tuple[str, str]]:
        """Yield what is wrong, and its detail; nothing where the input is read or refused well."""
        self.watch.on = True
        try:
            signal.setitimer(signal.ITIMER_REAL, self.reader.seconds)
            try:
                self.reader.read(self.path)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except self.reader.refusals as error:
            yield from faults_of(error, True, self.place.name)
        except (ValueError, TypeError, OSError) as error:
            yield from faults_of(error, False, self.place.name)
        except Hang as error:
            yield f"hangs at {where(error)}", f"more than {self.reader.seconds:g} s"
        except BaseException as error:
            yield f"{type(error).__name__} at {where(error)}", str(error)[:200]
        finally:
            self.watch.on = False

    def keep(self, index: int) -> str:
        self.failing.mkdir(exist_ok=True)
        path = self.failing / f"{self.place.name}-{index}{self.path.suffix}"
        path.write_bytes(self.path.read_bytes() if self.path.exists() else b"")
        return str(path)


def faults_of(error: BaseException, own: bool, place: str) -> Iterator[tuple[str, str]]:
    """What a refusal's message lacks. One that no `raise` of ours made must name the file, which
    is in the folder `place`; else it is a fault of ours that happens to be of an allowed type."""
    text, file = str(error), getattr(error, "filename", None)
    last = traceback.extract_tb(error.__traceback__)[-1]
    meant = last.filename.startswith(str(ROOT)) and (last.line or "").startswith("raise")
    if not text.strip():
        yield f"{type(error).__name__} says nothing at {where(error)}", ""
    elif len(text.splitlines()) > 1:
        yield f"several lines at {where(error)}", repr(text[:200])
    elif len(text) - len(str(file)) > LONGEST:
        yield f"a long message at {where(error)}", f"{len(text)} characters: {text[:200]}"
    elif not (own or meant or file or place in text):
        yield f"accidental {type(error).__name__} at {where(error)}", text[:200]


def where(error: BaseException) -> str:
    """The innermost place in our own code that the error passed through."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename.startswith(str(ROOT)) and not frame.filename.startswith(str(HERE))
    ]
    if not own:
        return "the table of readers"
    return f"{Path(own[-1].filename).relative_to(ROOT)}:{own[-1].lineno} ({own[-1].name})"


def put(path: Path, content: bytes) -> None:
    """A new file: to cut an old one to nothing takes a disk far longer."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def begin(folder: Path) -> Watch:
    """What the process needs: an empty current folder, an alarm, a watch."""

    def hung(*_: Any) -> None:
        raise Hang

    (folder / "home").mkdir(exist_ok=True)
    os.chdir(folder / "home")
    signal.signal(signal.SIGALRM, hung)
    return Watch()


def readers_of(table: str) -> dict[str, Any]:
    """The readers of a module whose packages are installed."""
    readers = importlib.import_module(table).READERS
    return {n: r for n, r in readers.items() if not r.needs or importlib.util.find_spec(r.needs)}


def counts(readers: dict[str, Any], total: int) -> dict[str, int]:
    """How many of the inputs each reader gets; at least two."""
    whole = sum(reader.share for reader in readers.values())
    return {name: max(2, round(total * r.share / whole)) for name, r in readers.items()}


def main(folder: Path, table: str, seed: int, total: int, part: int, jobs: int, after: str) -> None:
    watch, readers = begin(folder), readers_of(table)
    sign = os.open(folder / f"sign-{part}", os.O_RDWR | os.O_CREAT)

    def at(place: str) -> None:
        os.pwrite(sign, place.encode().ljust(SIGN), 0)

    if after == END:
        return
    last_name, _, last_index = after.rpartition("/")
    for name, count in counts(readers, total).items():
        if last_name not in ("", name):
            continue
        first = int(last_index) + 1 if last_name else 0
        last_name = ""
        at(f"{name}/-1")
        try:
            attack = Attack(folder, name, readers[name], seed, watch)
        except Exception:
            text = traceback.format_exc()[-300:]
            print(json.dumps(Failure(name, seed, -1, "does not read what is good", text)))
            continue
        for index in range(part, count, jobs):
            if index >= first:
                at(f"{name}/{index}")
                for failure in attack.failures(index):
                    print(json.dumps(failure), flush=True)
    at(END)  # for what crashes now, no reader can be blamed


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:7]), sys.argv[7])
