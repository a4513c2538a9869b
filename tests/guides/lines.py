"""The README's table of equations: links to the lines of the code.

`python tests/guides/lines.py` writes it again, after the code was edited.
"""

import inspect
import re

from guides import guide

from refsnn import spec

README = guide("README.md")
EQUATIONS = "refsnn/equations/README.md"
TABLE = re.compile(r"(?<=\| equation \| function \| derivation \|\n\|---\|---\|---\|\n)(\|.*\n)+")


def rows() -> str:
    """Return a row for each equation and half of Algorithm 1: clause, code, derivation."""
    lines = []
    for clause in spec.CLAUSES:
        if clause.id.startswith(("EQ", "ALG")):
            path, name = spec.place(clause.code)
            number = inspect.getsourcelines(spec.resolve(clause.code))[1] if name else 1
            code = f"[`{name or path.rpartition('/')[2]}`]({path}#L{number})"
            derivation = f"[{clause.id}]({EQUATIONS}#{spec.anchor(spec.heading(clause))})"
            lines.append(f"| {clause.title} | {code} | {derivation} |\n")
    return "".join(lines)


def main() -> None:
    """Write the table into the README."""
    README.path.write_text(TABLE.sub(lambda _: rows(), README.text), encoding="utf-8")


if __name__ == "__main__":
    main()
