"""The ledger of `spec.toml`: each equation and each decision as a clause."""

import importlib
import posixpath
import re
import shutil
import textwrap
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any, NamedTuple


@dataclass(frozen=True, kw_only=True)
class Clause:
    id: str  # EQ1, ALG1-TRAIN, D1, R1 (refsnn's own), TET, M1 (other methods)
    reference: str  # place in the paper, ": " and the subject
    statement: str  # the equation in ASCII, or the question that the paper leaves open
    latex: str = ""  # formulas, one per line
    choice: str
    alternatives: tuple[str, ...]
    code: str  # dotted name
    names: tuple[str, ...] = ()  # settings, options and conventions that make this choice
    derivation: str = ""  # Markdown with formulas in $...$ and $$ ... $$

    @property
    def title(self) -> str:
        return self.reference.split(": ")[1]

    @property
    def formulas(self) -> list[str]:
        """Return the formulas in ASCII."""
        return [plain(line) for line in self.latex.splitlines()]

    @property
    def is_formula(self) -> bool:
        """Tell whether the statement is just the formulas, as an equation's is."""
        return self.statement == "; ".join(self.formulas)


class Symbol(NamedTuple):
    latex: str
    code: str  # the name in the code
    shape: str
    unit: str
    meaning: str


LEDGER = tomllib.loads(resources.files("refsnn").joinpath("spec.toml").read_text(encoding="utf-8"))
CLAUSES = [
    Clause(**row | {name: tuple(row.get(name, ())) for name in ("alternatives", "names")})
    for row in LEDGER["clause"]
]
#: the symbols of formulas and code
SYMBOLS = [Symbol(*row) for row in LEDGER["symbols"]]
#: term -> what it means here
GLOSSARY: dict[str, str] = LEDGER["glossary"]


def clause(name: str) -> Clause:
    """Return the clause with this id; ValueError where there is none.

    Case is ignored, and an equation may be given as in the paper: EQ3, "Eq. 3" or 3.
    """
    wanted = re.sub(r"[.\s]", "", name).upper()
    for candidate in CLAUSES:
        if candidate.id in (wanted, f"EQ{wanted}"):
            return candidate
    raise ValueError(f"clause: got {name!r}, want one of {', '.join(c.id for c in CLAUSES)}")


def clauses_of(name: str) -> tuple[str, ...]:
    """Return the ids of the clauses that a setting or a convention belongs to."""
    return tuple(item.id for item in CLAUSES if name in item.names)


def resolve(dotted: str) -> Any:
    """Import the module, class, function or value that a clause's `code` names.

    AttributeError where there is none.
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


def file_and_name(dotted: str) -> tuple[str, str]:
    """Split a clause's `code` into the file's path in the repository and the name in the file."""
    folder, parts = resources.files("refsnn"), dotted.split(".")
    for cut, part in enumerate(parts[1:], 2):
        if folder.joinpath(f"{part}.py").is_file():
            return "/".join(parts[:cut]) + ".py", ".".join(parts[cut:])
        folder = folder.joinpath(part)
    raise ValueError(f"{dotted}: no such file")


def to_dict(item: Clause) -> dict[str, Any]:
    """Return the clause's fields as a dict, with formulas and derivation in LaTeX."""
    return asdict(item)


# ---- LaTeX to ASCII

#: LaTeX -> ASCII, replaced in this order; other commands lose their backslash
ASCII = (
    (r"\\(mathrm|text)\{([^{}]*)\}", r"\2"),
    (r"\\hat\{(\w+)\}", r"\1_hat"),
    (r"_\{(\w+)\}", r"_\1"),  # u_{pre} -> u_pre, but b_{l-1} stays
    (r"\^\\top", "^T"),
    (r"\\partial ", "d"),
    (r"\\ldots", "..."),
    (r"\\leq", "<="),
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
    """Format all clauses, one row each, wrapped to the terminal's width."""
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
        return plain(found[1]).replace(" ", "\xa0")  # so that no line breaks within a formula

    paragraphs = []
    for paragraph in markdown.strip().split("\n\n"):
        if paragraph.startswith("$$"):
            paragraphs.append("    " + plain(paragraph.strip("$")))
        else:
            text = re.sub(r"\$([^$]+)\$", inline, paragraph)
            paragraphs.append(textwrap.fill(text, 90, break_on_hyphens=False))
    return "\n\n".join(paragraphs).replace("\xa0", " ")


def glossary() -> str:
    """Format the symbols and the glossary's terms for a terminal."""
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


# ---- for GitHub

INTRODUCTION = """\
# The equations, clause by clause

<!-- Printed from refsnn/spec.toml: refsnn spec --markdown > refsnn/equations/README.md -->

This folder is the mathematics of "Take A Shortcut Back" (Guo et al., 2024, arXiv 2401.04486) in
NumPy, each operation's forward beside its backward. This page lists every equation of the paper,
every decision that the paper leaves open, and the formulas that the code computes: read a clause
here, then the function that it names. A line of code that implements a clause ends in its tag
(`# Eq. (3)`, `# D3`), so a search for the tag finds all of them. On a terminal, `refsnn spec EQ3`
prints a clause and `refsnn spec --glossary` the words.

Formulas count time steps from 1, arrays from 0: o[t] is `o_seq[t - 1]`. "Potential" as a unit is
the unit that the threshold is given in."""

SECTIONS = {
    "The paper's equations": r"EQ\d+",
    "Algorithm 1": r"ALG1-\w+",
    "Decisions that the paper leaves open": r"D\d+",
    "Rules of refsnn's own": r"R\d+",
    "Other methods": "[A-Z]+",
    "Decisions that other methods leave open": r"M\d+",
}


def guide() -> str:
    """Format the glossary and all clauses as GitHub's Markdown: refsnn/equations/README.md."""
    parts = [INTRODUCTION, "## Glossary", markdown_table("term meaning", GLOSSARY.items())]
    parts += ["## Symbols", markdown_table("formula code shape unit meaning", map(cells, SYMBOLS))]
    rows = [(f"[{c.id}](#{anchor(heading(c))})", c.title, escaped(c.choice)) for c in CLAUSES]
    parts += ["## All clauses at a glance", markdown_table("clause about chosen", rows)]
    for title, ids in SECTIONS.items():
        parts.append(f"## {title}")
        parts += [section(c) for c in CLAUSES if re.fullmatch(ids, c.id)]
    return "\n\n".join(parts)


def section(item: Clause) -> str:
    """Format one clause as GitHub's Markdown."""
    path, name = file_and_name(item.code)
    link = f"[`{path}`]({posixpath.relpath(path, 'refsnn/equations')})"
    parts = [f"### {heading(item)}"]
    if not item.is_formula:
        parts.append(escaped(item.statement) + "." * (item.statement[-1] != "?"))
    parts += [f"```math\n{line}\n```" for line in item.latex.splitlines()]
    source = item.reference.split(": ")[0]
    parts.append(f"**Chosen:** {escaped(item.choice)}.")
    if item.alternatives:
        listed = "\n".join(f"- {options(escaped(text))}" for text in item.alternatives)
        parts.append(f"**Alternatives:**\n\n{listed}")
    if item.derivation:
        parts.append(f"**Derivation.** {for_github(item.derivation)}")
    where = f"`{name}` in {link}" if name else link
    parts.append(f"**Code:** {where}." + (f" **Source:** {source}." if source[0] in "EA" else ""))
    return "\n\n".join(parts)


def heading(item: Clause) -> str:
    """Return a clause's heading in the guide."""
    return f"{item.id}: {item.title}"


def anchor(title: str) -> str:
    """Return the anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def cells(symbol: Symbol) -> tuple[str, ...]:
    """Return a symbol's row of the table."""
    code = f"`{symbol.code}`" if symbol.code else ""
    return f"$`{symbol.latex}`$", code, symbol.shape, symbol.unit, escaped(symbol.meaning)


def markdown_table(head: str, rows: Any) -> str:
    """Format rows of cells as a table; `head` holds the columns' names, separated by spaces."""
    lines = [head.split(), ["---"] * len(head.split()), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escaped(text: str) -> str:
    """Escape what Markdown would take for a tag, a quotation, emphasis or the end of a cell."""
    return re.sub(r"([<>*|])", r"\\\1", text)


def options(text: str) -> str:
    """Mark command-line options as code."""
    return re.sub(r"--[a-z][^;,)]*", r"`\g<0>`", text)


def for_github(markdown: str) -> str:
    """Write formulas in the forms whose content GitHub's Markdown does not change."""
    text = re.sub(r"^\$\$ (.*) \$\$$", r"```math\n\1\n```", markdown.strip(), flags=re.M)
    return re.sub(r"\$([^$]+)\$", r"$`\1`$", text)
