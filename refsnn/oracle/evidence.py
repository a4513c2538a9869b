"""Which outputs show what a clause says, and so what a comparison tells of it."""

from collections.abc import Iterable

from refsnn.oracle.comparison import Comparison

STATUSES = ("passed", "failed", "not judged")
STATE = ("u_pre", "o", "u")
GRADIENTS = ("h", "du_pre", "dc", "dx", "grad")
UPDATES = ("first", "last")
ALL = ("conv", "bn", *STATE, "logits", "loss", *GRADIENTS, "new", "side", "lr", *UPDATES)
#: clause -> kinds of outputs
EVIDENCE: dict[str, tuple[str, ...]] = {
    "EQ1": ("u_pre",), "EQ2": ("o", "u"), "EQ3": GRADIENTS, "EQ4": GRADIENTS, "EQ5": ALL,
    "EQ6": ("loss", *GRADIENTS, "side", *UPDATES), "EQ7": ("loss", *GRADIENTS, "side", *UPDATES),
    "EQ8": GRADIENTS, "EQ9": GRADIENTS, "EQ10": ("loss", *GRADIENTS, "side", *UPDATES),
    "ALG1-TRAIN": ALL, "ALG1-INFER": (*STATE, "logits"),
    "D1": STATE, "D2": ("o",), "D3": GRADIENTS, "D4": GRADIENTS, "D5": GRADIENTS, "D6": STATE,
    "D7": STATE, "D8": ("bn", *STATE, *GRADIENTS), "D9": ALL, "D10": ("logits",),
    "D11": ("logits", *GRADIENTS), "D12": ("logits", *GRADIENTS), "D13": ("loss", *GRADIENTS),
    "D14": ("loss", *GRADIENTS), "D15": ("side", "loss"), "D16": ("side",),
    "D17": ("lr", *UPDATES), "D25": ("new",), "R3": ("side",),
}  # fmt: skip


def kind(name: str) -> str:
    """What an output is: of a layer's the quantity, of parameters and statistics which."""
    first, _, rest = name.partition(".")
    return first if rest and first in ("grad", "new", *UPDATES) else name.rpartition(".")[2]


def kinds(names: Iterable[str]) -> list[str]:
    """Each once, in order."""
    return list(dict.fromkeys(map(kind, names)))


def judge(found: Comparison) -> dict[str, str]:
    """Clause -> one of STATUSES. It failed where its outputs are the first to diverge, or can't be
    compared; what comes after another clause's divergence says nothing of it."""
    return {clause: status(EVIDENCE.get(clause, ALL), found) for clause in found.clauses}


def status(shown_by: tuple[str, ...], found: Comparison) -> str:
    wrong = [found.first.tensor] if found.first else []
    if any(kind(name) in shown_by for name in (*wrong, *found.unusable)):
        return "failed"
    own = [tensor["status"] for name, tensor in found.tensors.items() if kind(name) in shown_by]
    return "passed" if own and set(own) == {"ok"} else "not judged"
