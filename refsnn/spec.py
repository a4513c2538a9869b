"""The ledger: each equation and each decision as a clause, read from `spec.toml`."""

import importlib
import re
import shutil
import textwrap
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Clause:
    id: str  # EQ1 … EQ10, ALG1-TRAIN, ALG1-INFER, D1 … D25; R1 … are refsnn's own
    reference: str  # where in the paper, and after ": " what it is about
    statement: str  # the equation in ASCII, or the question left open
    latex: str = ""  # formulas, one a line
    choice: str
    alternatives: tuple[str, ...]
    code: str  # dotted name
    derivation: str = ""  # Markdown with formulas in $...$ and $$ ... $$

    @property
    def title(self) -> str:
        return self.reference.split(": ")[1]

    @property
    def formulas(self) -> list[str]:
        """The formulas in ASCII."""
        return [plain(line) for line in self.latex.splitlines()]

    @property
    def is_formula(self) -> bool:
        """Whether the statement is the formulas and nothing else, as an equation's is."""
        return self.statement == "; ".join(self.formulas)


class Symbol(NamedTuple):
    latex: str
    code: str  # the name in the code
    shape: str
    unit: str
    meaning: str


LEDGER = tomllib.loads(resources.files("refsnn").joinpath("spec.toml").read_text(encoding="utf-8"))
CLAUSES = [Clause(**row | {"alternatives": tuple(row["alternatives"])}) for row in LEDGER["clause"]]
#: the symbols of formulas and code
SYMBOLS = [Symbol(*row) for row in LEDGER["symbols"]]
#: term -> what it means here
GLOSSARY: dict[str, str] = LEDGER["glossary"]


def clause(name: str) -> Clause:
    """Return the clause with this id, in any case; ValueError where there is none."""
    for candidate in CLAUSES:
        if candidate.id == name.upper():
            return candidate
    raise ValueError(f"clause: got {name!r}, want one of {', '.join(c.id for c in CLAUSES)}")


def resolve(dotted: str) -> Any:
    """Import the module, class, function or value with this name; AttributeError if there is none.

    This is how a clause's `code` is found.
    """
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for name in parts[cut:]:
            found = getattr(found, name)
        return found
    raise AttributeError(f"{dotted}: no such module")


def place(dotted: str) -> tuple[str, str]:
    """Split a clause's `code` into the file, from the checkout's root, and the name within it."""
    folder, parts = resources.files("refsnn"), dotted.split(".")
    for cut, part in enumerate(parts[1:], 2):
        if folder.joinpath(f"{part}.py").is_file():
            return "/".join(parts[:cut]) + ".py", ".".join(parts[cut:])
        folder = folder.joinpath(part)
    raise ValueError(f"{dotted}: no such file")


def to_dict(item: Clause) -> dict[str, Any]:
    """Return the clause's fields; formulas and derivation are LaTeX."""
    return asdict(item)


# ---- LaTeX to ASCII

#: LaTeX -> ASCII, replaced in this order; a command that is not here loses its backslash
ASCII = (
    (r"\\(mathrm|text)\{([^{}]*)\}", r"\2"),
    (r"\\hat\{(\w+)\}", r"\1_hat"),
    (r"_\{(\w+)\}", r"_\1"),  # u_{pre} -> u_pre, but b_{l-1} stays
    (r"\^\\top", "^T"),
    (r"\\partial ", "d"),
    (r"\\ldots", "..."),
    (r"\\(quad|[ ,])", " "),
    (r"\\sqrt\{((?:[^{}]|\{[^{}]*\})*)\}", r"sqrt(\1)"),
    (r"\\frac\{((?:[^{}]|\{[^{}]*\})*)\}\{((?:[^{}]|\{[^{}]*\})*)\}", r"\1/\2"),
    (r"\\([a-z]+)", r"\1"),
    (r" +", " "),
)


def plain(latex: str) -> str:
    r"""Write a LaTeX formula in ASCII: `\frac{\partial L}{\partial b_l}` becomes dL/db_l."""
    for pattern, replacement in ASCII:
        latex = re.sub(pattern, replacement, latex)
    return latex.strip()


# ---- for a terminal


def table() -> str:
    """Format all clauses, a row each, wrapped to the terminal's width."""
    width = max(shutil.get_terminal_size((120, 24)).columns, 60)
    first = max(len(c.id) for c in CLAUSES) + 2
    column = (width - first - 2) // 2
    lines = [f"{'clause':<{first}}{'statement':<{column + 2}}choice", "-" * width]
    for item in CLAUSES:
        left = textwrap.wrap(item.statement, column)
        right = textwrap.wrap(item.choice, column)
        for row in range(max(len(left), len(right))):
            cells = [cell[row] if row < len(cell) else "" for cell in (left, right)]
            label = item.id if row == 0 else ""
            lines.append(f"{label:<{first}}{cells[0]:<{column + 2}}{cells[1]}".rstrip())
        lines.append(" " * first + item.code)
    return "\n".join(lines)


def whole(item: Clause) -> str:
    """Format one clause with all its fields and its derivation, formulas in ASCII."""
    lines = [f"{item.id}  {item.reference}", ""]
    for entry in fields(item):
        name, value = entry.name, getattr(item, entry.name)
        if name in ("id", "reference", "derivation"):
            continue
        if name == "statement" and item.is_formula:
            value = tuple(item.formulas)
        if name == "latex":
            if not value or item.is_formula:
                continue
            name, value = "formula", tuple(item.formulas)
        text = "\n".join(value) or "none" if isinstance(value, tuple) else value
        lines.append(f"{name + ':':<14}" + text.replace("\n", "\n" + " " * 14))
    if item.derivation:
        lines += ["", "derivation:", textwrap.indent(readable(item.derivation), "  ")]
    return "\n".join(lines)


def readable(markdown: str) -> str:
    """Write a derivation as plain text: formulas in ASCII, displayed ones indented."""

    def inline(found: re.Match[str]) -> str:
        return plain(found[1]).replace(" ", "\xa0")  # a line does not break in a formula

    paragraphs = []
    for paragraph in markdown.strip().split("\n\n"):
        if paragraph.startswith("$$"):
            paragraphs.append("    " + plain(paragraph.strip("$")))
        else:
            text = re.sub(r"\$([^$]+)\$", inline, paragraph)
            paragraphs.append(textwrap.fill(text, 90, break_on_hyphens=False))
    return "\n\n".join(paragraphs).replace("\xa0", " ")


def glossary() -> str:
    """Format the symbols and the terms."""
    names = [(plain(s.latex), s.code) for s in SYMBOLS]
    widths = [max(map(len, column)) + 2 for column in zip(*names, strict=True)]
    lines = ["formula".ljust(widths[0]) + "code".ljust(widths[1]) + "meaning"]
    for (formula, code), symbol in zip(names, SYMBOLS, strict=True):
        measure = ", ".join(part for part in (symbol.shape, symbol.unit) if part)
        lines.append(
            formula.ljust(widths[0])
            + code.ljust(widths[1])
            + symbol.meaning
            + (f" [{measure}]" if measure else "")
        )
    for term, meaning in GLOSSARY.items():
        lines += ["", term, textwrap.indent(textwrap.fill(meaning, 90), "  ")]
    return "\n".join(lines)
