"""The README's table of equations: links to the lines of the code.

`python tests/guides/lines.py` writes it again, after the code was edited.
"""

import inspect
import re
from pathlib import Path

from guides import ROOT, guide

from refsnn import spec

README = guide("README.md")
EQUATIONS = "refsnn/equations/README.md"
TABLE = re.compile(r"(?<=\| equation \| function \| derivation \|\n\|---\|---\|---\|\n)(\|.*\n)+")


def rows() -> str:
    """Return a row for each equation and half of Algorithm 1: clause, code, derivation."""
    lines = []
    for clause in spec.CLAUSES:
        if clause.id.startswith(("EQ", "ALG")):
            target = spec.resolve(clause.code)  # a function, or a module
            path = Path(str(inspect.getsourcefile(target))).relative_to(ROOT).as_posix()
            line = 1 if inspect.ismodule(target) else inspect.getsourcelines(target)[1]
            name = target.__name__.rpartition(".")[2] + ".py" * inspect.ismodule(target)
            derivation = f"{EQUATIONS}#{spec.anchor(spec.heading(clause))}"
            code = f"[`{name}`]({path}#L{line})"
            lines.append(f"| {clause.title} | {code} | [{clause.id}]({derivation}) |\n")
    return "".join(lines)


def main() -> None:
    """Write the table into the README."""
    README.path.write_text(TABLE.sub(lambda _: rows(), README.text), encoding="utf-8")


if __name__ == "__main__":
    main()
