"""The guides as data: their text, headings, links, commands and blocks of code.

A comment before each block of code names it, and may have options:

    <!-- evaluate: exit 1, needs torch -->

`exit N`        the exit code of the block's last command (default: 0)
`needs NAME`    a package or program without which the block can't be run
`parsed`        the commands are parsed but not run, since they take minutes or download
`about`         numbers in the output may be off by a fifth (at the block, or at the output)

A block of Python is executed, with the names that earlier ones of the guide defined, or saved as a
file if its name is a file's (`mine.py`). A block of commands is run line by line, in the same
folder. A block of text that is named `output` is printed by the block before it: all its lines, in
order; `…` stands for anything, and alone on a line for any lines.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from refsnn import spec

ROOT = Path(__file__).parents[2]
FOLDERS = ("", ".github/", "refsnn/", "refsnn/*/", "verification/")
FENCE = re.compile(
    r"(?:^<!-- (?P<head>[^\n]*) -->\n)?^```(?P<language>\w*)\n(?P<code>.*?)^```$", re.M | re.S
)
#: run by .ci/run, which takes the second from README.md letter for letter
INSTALLED = ("train", "tests")


@dataclass(frozen=True)
class Block:
    """A block of code of a guide."""

    name: str
    options: tuple[str, ...]
    language: str
    code: str

    def option(self, word: str) -> list[str]:
        """Return what follows `word` in each of the options that start with it."""
        split = [option.split(" ") for option in self.options]
        return [" ".join(rest) for first, *rest in split if first == word]

    @property
    def is_file(self) -> bool:
        """Tell whether the block is saved under its name."""
        return re.fullmatch(r"\w+\.\w+", self.name) is not None

    @property
    def is_run(self) -> bool:
        """Tell whether the block's commands are run here."""
        return "parsed" not in self.options and self.name not in INSTALLED


@dataclass(frozen=True)
class Guide:
    """A Markdown file."""

    path: Path

    @property
    def name(self) -> str:
        """Return the path from the repository's root."""
        return self.path.relative_to(ROOT).as_posix()

    @property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @property
    def prose(self) -> str:
        """Return the text without blocks of code."""
        return FENCE.sub("", self.text)

    @property
    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.*)$", self.prose, re.M)

    @property
    def anchors(self) -> set[str]:
        """Return the anchors that GitHub gives the headings."""
        return {spec.anchor(heading) for heading in self.headings}

    @property
    def links(self) -> list[str]:
        """Return the targets of links and pictures."""
        return re.findall(r"\]\(([^)\s]+)\)", self.prose)

    @property
    def spans(self) -> list[str]:
        """Return the pieces of inline code."""
        return re.findall(r"(?<![`$])`([^`\n]+)`(?![`$])", self.prose)

    @property
    def blocks(self) -> list[Block]:
        found = []
        for match in FENCE.finditer(self.text):
            name, _, options = (match["head"] or "").partition(": ")
            split = tuple(option for option in options.split(", ") if option)
            found.append(Block(name, split, match["language"], match["code"]))
        return found

    def block(self, name: str) -> Block:
        """Return the only block of this name."""
        (found,) = [block for block in self.blocks if block.name == name]
        return found

    def rows(self, first: str) -> list[list[str]]:
        """Return the cells of the table rows whose first cell matches the pattern `first`."""
        lines = re.findall(r"^\| (.*) \|$", self.prose, re.M)
        split = [re.split(r" \| ", line) for line in lines]
        return [cells for cells in split if re.fullmatch(first, cells[0])]


def guide(name: str) -> Guide:
    """Return the guide at a path from the repository's root."""
    return Guide(ROOT / name)


GUIDES = [Guide(path) for folder in FOLDERS for path in sorted(ROOT.glob(f"{folder}*.md"))]
