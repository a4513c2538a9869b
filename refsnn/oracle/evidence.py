"""The outputs that give evidence about each clause, and the verdict of a comparison on it."""

from collections.abc import Iterable

from refsnn.oracle.comparison import Comparison

STATUSES = ("passed", "failed", "not judged")
STATE = ("u_pre", "o", "u")
GRADIENTS = ("h", "du_pre", "dc", "dx", "grad")
UPDATES = ("first", "last")
ALL = ("conv", "bn", *STATE, "logits", "loss", *GRADIENTS, "new", "side", "lr", *UPDATES)
OBJECTIVE = ("loss", *GRADIENTS, "side", *UPDATES)
#: clause -> kinds of outputs that give evidence about it
EVIDENCE: dict[str, tuple[str, ...]] = {
    "EQ1": ("u_pre",),
    "EQ2": ("o", "u"),
    "EQ3": GRADIENTS,
    "EQ4": GRADIENTS,
    "EQ5": ALL,
    "EQ6": OBJECTIVE,
    "EQ7": OBJECTIVE,
    "EQ8": GRADIENTS,
    "EQ9": GRADIENTS,
    "EQ10": OBJECTIVE,
    "ALG1-TRAIN": ALL,
    "ALG1-INFER": (*STATE, "logits"),
    "D1": ("u_pre", "o"),
    "D2": ("o",),
    "D3": GRADIENTS,
    "D4": GRADIENTS,
    "D5": GRADIENTS,
    "D6": ("u_pre",),
    "D7": STATE,
    "D8": ("bn", *STATE, *GRADIENTS),
    "D9": ALL,
    "D10": ("logits",),
    "D11": ("logits", *GRADIENTS),
    "D12": ("logits", *GRADIENTS),
    "D13": ("loss", *GRADIENTS),
    "D14": ("loss", *GRADIENTS),
    "D15": ("side",),
    "D16": ("side",),
    "D17": ("lr", *UPDATES),
    "D25": ("new",),
    "R3": ("lr",),
}
#: further outputs that must agree for a clause to pass, as they show its effect in the iteration
LATER = {"D15": ("loss", *UPDATES), "D16": ("loss", *UPDATES), "R3": UPDATES}


def kind(name: str) -> str:
    """Return the kind of an output: a quantity, or "grad", "new", "first" or "last"."""
    first, _, rest = name.partition(".")
    return first if rest and first in ("grad", "new", *UPDATES) else name.rpartition(".")[2]


def kinds(names: Iterable[str]) -> list[str]:
    """Return the kinds of the outputs, each once, in order."""
    return list(dict.fromkeys(map(kind, names)))


def judge(found: Comparison) -> dict[str, str]:
    """Return the status of each clause of the case, one of STATUSES.

    A clause failed if its outputs are the first to diverge, or cannot be compared. What follows
    another clause's divergence is no evidence.
    """
    return {clause: status(clause, found) for clause in found.clauses}


def status(clause: str, found: Comparison) -> str:
    """Return the clause's status, one of STATUSES."""
    shown_by = EVIDENCE.get(clause, ALL)
    wrong = [found.first.tensor] if found.first else []
    if any(kind(name) in shown_by for name in (*wrong, *found.unusable)):
        return "failed"
    right = {
        name: tensor["status"] == "ok"
        for name, tensor in found.tensors.items()
        if kind(name) in (*shown_by, *LATER.get(clause, ()))
    }
    shown = any(kind(name) in shown_by for name in right)
    return "passed" if shown and all(right.values()) else "not judged"
