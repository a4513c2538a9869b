"""The ledger: each equation and each decision as a clause, read from `spec.toml`."""

import importlib
import shutil
import textwrap
import tomllib
from dataclasses import asdict, dataclass, fields
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Clause:
    id: str  # EQ1 … EQ10, ALG1-TRAIN, ALG1-INFER, D1 … D25; R1 … are refsnn's own
    reference: str  # where in the paper
    statement: str  # the equation, or the question left open
    choice: str
    alternatives: tuple[str, ...]
    code: str  # dotted name
    names: tuple[str, ...] = ()  # of the choice in settings, options, conventions and vectors
    derivation: str = ""


def read() -> list[Clause]:
    text = resources.files("refsnn").joinpath("spec.toml").read_text(encoding="utf-8")
    return [
        Clause(**row | {name: tuple(row.get(name, ())) for name in ("alternatives", "names")})
        for row in tomllib.loads(text)["clause"]
    ]


CLAUSES = read()

#: the symbols of code and clauses
SYMBOLS = {
    "T, t": "number of time steps; step",
    "c[t]": "input current of a neuron",
    "u_pre[t]": "membrane potential before firing",
    "u[t]": "membrane potential after the reset; u[0] = 0",
    "o[t]": "spike, 0 or 1",
    "tau": "leak factor a step, in (0, 1]",
    "v_th": "firing threshold, in the unit of the potential",
    "h[t]": "surrogate slope, stands for do[t]/du_pre[t]",
    "delta[t]": "dL/du_pre[t]",
    "dx": "dL/dx, for any x",
    "b_l": "logits of branch l = 1 … n; b_n is the main branch",
    "side, lambda(i)": "weight of the side branches at iteration i of I",
    "_seq": "an array with a leading time axis",
}


def clause(name: str) -> Clause:
    """The clause with this id, in any case."""
    for candidate in CLAUSES:
        if candidate.id == name.upper():
            return candidate
    raise ValueError(f"clause: got {name!r}, want one of {', '.join(c.id for c in CLAUSES)}")


def clauses_of(name: str) -> tuple[str, ...]:
    """Return the ids of the clauses that a setting or a convention belongs to."""
    return tuple(item.id for item in CLAUSES if name in item.names)


def resolve(dotted: str) -> Any:
    """The module, class, function or value with this name; AttributeError where there is none."""
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


def to_dict(item: Clause) -> dict[str, Any]:
    """id, reference, statement, choice, alternatives, code, derivation"""
    return asdict(item)


def table() -> str:
    """All clauses, a row each, wrapped to the terminal's width."""
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
    """One clause with all its fields and its derivation."""
    lines = [f"{item.id}  {item.reference}", ""]
    for entry in fields(item):
        value = getattr(item, entry.name)
        if entry.name in ("id", "reference", "derivation"):
            continue
        text = "\n".join(value) or "none" if isinstance(value, tuple) else value
        lines.append(f"{entry.name + ':':<14}" + text.replace("\n", "\n" + " " * 14))
    if item.derivation:
        lines += ["", "derivation:", textwrap.indent(item.derivation.strip(), "  ")]
    return "\n".join(lines)
