"""Running the blocks of a guide, and comparing what they print with what the guide shows."""

import contextlib
import importlib.util
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator
from itertools import pairwise
from typing import Any

from guides import ROOT, Block, Guide

from refsnn.cli import main

NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]\d+)?"


def is_here(name: str) -> bool:
    """Tell whether there is a package of this name, or where paths are POSIX's a program."""
    program = shutil.which(name) if os.name == "posix" else None
    return importlib.util.find_spec(name) is not None or program is not None


def runnable(guide: Guide, packages: Collection[str]) -> Iterator[tuple[Block, Block | None]]:
    """Yield the blocks that need no more than `packages`, each with the output that is shown."""
    blocks = [*guide.blocks, None]
    for block, after in pairwise(blocks):
        if block is None or block.language not in ("python", "sh", "toml") or not block.is_run:
            continue
        if all(name in packages for name in block.option("needs")):
            yield block, after if after is not None and after.name == "output" else None


def execute(guide: Guide, packages: Collection[str]) -> None:
    """Run the guide's blocks that need no more than `packages`, in the current folder.

    AssertionError says which command failed, or what was printed in place of what is shown.
    """
    names: dict[str, Any] = {"__name__": guide.name}
    for block, shown in runnable(guide, packages):
        printed = run_block(guide, block, names)
        if shown is not None:
            about = "about" in (*block.options, *shown.options)
            missing = first_missing(shown.code, printed, about)
            assert missing is None, f"{block.name} does not print {missing!r} but:\n{printed}"


def run_block(guide: Guide, block: Block, names: dict[str, Any]) -> str:
    """Save or run one block, and return what it prints on standard output."""
    if block.is_file:
        with open(block.name, "w", encoding="utf-8") as file:
            file.write(block.code)
        return ""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        if block.language == "python":
            exec(compile(block.code, f"{guide.name}: {block.name}", "exec"), names)
        else:
            lines = commands(block.code)
            wanted = int(next(iter(block.option("exit")), "0"))
            for number, line in enumerate(lines, 1):
                code = run_command(line)
                expected = wanted if number == len(lines) else 0
                assert code == expected, f"{line}: exit code {code}\n{printed.getvalue()}"
    return printed.getvalue()


def commands(code: str) -> list[str]:
    """Return a block's command lines, without comments and with continued lines joined."""
    lines = [re.sub(r"\s+#.*", "", line) for line in code.replace("\\\n", "").splitlines()]
    return [line for line in lines if line]


def run_command(line: str) -> int:
    """Run one command line, refsnn's own in this process, and return its exit code.

    A path of the repository stands for its file, whatever the current folder is.
    """
    words = shlex.split(line)
    if words[0] == "refsnn":
        try:
            return main(words[1:])
        except SystemExit as stop:  # from argparse
            return int(stop.code or 0)
    if words[0] == "python":
        words[0] = sys.executable
    words = [str(ROOT / word) if "/" in word and (ROOT / word).exists() else word for word in words]
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(
        words, stdout=subprocess.PIPE, encoding="utf-8", check=False, env=environment
    )
    print(done.stdout, end="")
    return done.returncode


def first_missing(shown: str, printed: str, about: bool) -> str | None:
    """Return the first shown line that was not printed after those before it, None without one."""
    rest = printed.splitlines()
    for line in shown.splitlines():
        while line != "…":
            if not rest:
                return line
            if alike(line, rest.pop(0), about):
                break
    return None


def alike(shown: str, printed: str, about: bool) -> bool:
    """Tell whether a line was printed, with `…` for anything and any spaces between words.

    With `about`, numbers may be off by a fifth.
    """
    shown, printed = " ".join(shown.split()), " ".join(printed.split())
    pattern = re.escape(re.sub(NUMBER, "\0", shown) if about else shown)
    match = re.fullmatch(pattern.replace("…", ".*").replace("\0", f"({NUMBER})"), printed)
    if match is None or not about:
        return match is not None
    pairs = zip(re.findall(NUMBER, shown), match.groups(), strict=True)
    return all(abs(float(a) - float(b)) <= 0.2 * abs(float(a)) for a, b in pairs)
