"""The verdict of a comparison on each clause of its case.

A clause fails on the first divergence alone, since what is computed after it follows from it. What
was compared before it is right, so that few clauses can be at fault: SUSPECTS lists them for each
place. A clause passes if all outputs that show it (SHOWN) agree. Else it is not judged.
"""

from collections.abc import Iterable

from refsnn.oracle.comparison import Comparison

STATUSES = ("passed", "failed", "not judged")
UPDATES = ("first", "last")
METHODS = "PLIF M7 GLIF DIET M8 MPBN M6 REALSPIKE"
OBJECTIVE = "EQ6 EQ7 EQ10 D13 D14 TET M3 KDSNN M16"
POTENTIALS = "IMLOSS M10 MPD M12"
NORMS = "TEBN BNTT PSPBN M15"
BLOCKS = "SEW MS"
#: the place of the first divergence -> the clauses that can be at fault
SUSPECTS = {
    # forward
    "h": "EQ4 D4 D5",
    "conv": "D9 PSPBN M15",
    "bn": "D8 ALG1-INFER TEBN BNTT",
    # the current was right, so how it enters, or what was kept
    "u_pre, first step": "EQ1 D6 PLIF M7 GLIF DIET",
    # the step before was right, so what the leak keeps of it
    "u_pre, later step": f"EQ1 D1 {METHODS}",
    "u_pre, current not shown": f"EQ1 D6 D7 D8 D9 ALG1-INFER {NORMS}",
    # the neurons below were right, so what lies between
    "u_pre, higher layer": f"D9 ALG1-INFER {BLOCKS}",
    "u_pre, after the skip": "EQ5 D9 ALG1-INFER",
    "v": "MPBN",
    "o": "EQ2 D1 GLIF DIET",
    "y": f"REALSPIKE M13 {BLOCKS}",
    "o, on the threshold": "EQ2 D2",
    "u": f"EQ2 {METHODS}",
    "logits": "D10 D12 ALG1-INFER",
    "logits, side branch": f"D10 D11 D12 {BLOCKS} M5",
    "new": "D25 MPBN",
    # objective and training
    "side": "EQ6 EQ10 D15 D16",
    "lr": "D17 R3",
    "loss": f"{OBJECTIVE} {POTENTIALS} ALG1-TRAIN",
    "loss, later iteration": "D17 ALG1-TRAIN",  # the first iteration was right, so its update
    "first": "D17 ALG1-TRAIN",
    "last": "D17 ALG1-TRAIN",
    # backward
    # it is do times the slope
    "du_pre, last step": f"EQ4 D4 D5 PLIF M7 GLIF DIET MPBN REALSPIKE {BLOCKS} {POTENTIALS}",
    # the slope was right at the last step, so how steps chain
    "du_pre, earlier step": f"EQ3 D3 {METHODS} {POTENTIALS}",
    "du_pre, objective not shown": f"EQ4 D4 D5 D10 D12 {OBJECTIVE} {POTENTIALS}",
    # the neurons above were right, so what lies between
    "du_pre, within a block": f"D8 D9 {POTENTIALS}",
    "du_pre, below a block": f"EQ5 EQ8 EQ9 {BLOCKS} {POTENTIALS}",
    "dv": "EQ3",
    "du0": "EQ3",
    "dtau": "EQ3",
    "dv_th": "R1",
    "dx": f"D8 D9 {NORMS}",
    "dx, block": f"EQ5 D9 {BLOCKS}",
    "grad, convolution": "D9",
    "grad, norm": f"D8 {NORMS}",
    "grad, head": "D12",
    "grad, neuron": f"{METHODS} M13",
    "gradient, du_pre not shown": "EQ3 EQ4 D3",
}
STATE = ("u_pre", "o", "u")
GRADIENTS = ("h", "du_pre", "dc", "dx", "dv", "grad", "du0", "dtau")
#: clause -> the kinds of outputs that show it
SHOWN: dict[str, tuple[str, ...]] = {
    "EQ1": ("u_pre",),
    "EQ2": ("o", "u"),
    "EQ3": GRADIENTS,
    "EQ4": GRADIENTS,
    "EQ5": (*STATE, *GRADIENTS),
    "EQ6": ("loss", "side", *UPDATES),
    "EQ7": ("loss", *UPDATES),
    "EQ8": GRADIENTS,
    "EQ9": GRADIENTS,
    "EQ10": ("loss", "side", *UPDATES),
    "ALG1-TRAIN": ("loss", *UPDATES),
    "ALG1-INFER": ("bn", *STATE, "logits"),
    "D1": ("u_pre", "o"),
    "D2": ("o",),
    "D3": GRADIENTS,
    "D4": GRADIENTS,
    "D5": GRADIENTS,
    "D6": ("u_pre",),
    "D7": ("u_pre",),
    "D8": ("bn", "u_pre", *GRADIENTS),
    "D9": ("conv", "u_pre", *GRADIENTS),
    "D10": ("logits",),
    "D11": ("logits",),
    "D12": ("logits", "grad"),
    "D13": ("loss",),
    "D14": ("loss",),
    "D15": ("side",),
    "D16": ("side",),
    "D17": ("lr", *UPDATES),
    "D25": ("new",),
    "R1": ("dv_th",),
    "R3": ("lr",),
    "M6": ("u_pre",),
    "M7": ("u_pre", *GRADIENTS),
    "M8": ("u_pre", *GRADIENTS),
    "M13": ("y", "grad"),
    "PLIF": ("u_pre", *GRADIENTS),
    "GLIF": ("u_pre", "o", *GRADIENTS),
    "DIET": ("u_pre", "o", *GRADIENTS),
    "MPBN": ("v", "o", "new", *GRADIENTS),
    "REALSPIKE": ("y", *GRADIENTS),
    "TEBN": ("bn", "u_pre", *GRADIENTS),
    "BNTT": ("bn", "u_pre", "new", *GRADIENTS),
    "PSPBN": ("conv", "u_pre", "new", *GRADIENTS),
    "M15": ("conv", "u_pre", *GRADIENTS),
    "SEW": ("y", "u_pre", *GRADIENTS),
    "MS": ("y", "u_pre", *GRADIENTS),
    "M5": ("logits",),
    "TET": ("loss", "grad"),
    "M3": ("loss",),
    "IMLOSS": ("loss", *GRADIENTS),
    "M10": ("loss",),
    "MPD": ("loss", *GRADIENTS),
    "M12": ("loss",),
    "KDSNN": ("loss", "grad"),
    "M16": ("loss",),
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
    """Return the status of each clause of the case, one of STATUSES."""
    at_fault = " ".join(SUSPECTS.get(place, "") for place in wrong_places(found)).split()

    def status(clause: str) -> str:
        if clause in at_fault:
            return "failed"
        return "passed" if shows(clause, found) else "not judged"

    return {clause: status(clause) for clause in found.clauses}


def shows(clause: str, found: Comparison) -> bool:
    """Tell whether all outputs that show a clause agree, of which there is one at least."""
    right = {
        name: tensor["status"] == "ok"
        for name, tensor in found.tensors.items()
        if kind(name) in (*SHOWN.get(clause, ()), *LATER.get(clause, ()))
    }
    return any(kind(name) in SHOWN.get(clause, ()) for name in right) and all(right.values())


def wrong_places(found: Comparison) -> list[str]:
    """Return the place of the first divergence, as SUSPECTS names it.

    There are several where an output that would tell them apart is not given, or cannot be
    compared at all. No place where nothing is wrong, or outputs are only missing.
    """
    unusable = [name for name in found.outputs if name in found.unusable]
    unusable = [name for name in unusable if name not in found.missing]
    names = [*unusable[:1], *([found.first.tensor] if found.first else [])]
    if not names:
        return []
    name = min(names, key=found.outputs.index)
    if found.first is None or found.first.tensor != name:  # at some step
        steps = [True, False] if kind(name) in ("u_pre", "du_pre", "dc") else [True]
        return [place for begins in steps for place in places(found, name, begins)]
    return places(found, name, found.first.begins)


def places(found: Comparison, name: str, begins: bool) -> list[str]:
    """Return the places, as SUSPECTS names them, of an output that is the first to diverge.

    `begins` tells whether it is at the step that its pass computes first.
    """
    what = kind(name)
    if what in STATE:
        return forward_places(found, name, begins)
    if what in GRADIENTS and what != "h":
        return backward_places(found, name, begins)
    if what == "logits":
        return ["logits, side branch" if name.startswith("branch.") else what]
    return ["loss, later iteration" if what == "loss" and not begins else what]


def forward_places(found: Comparison, name: str, begins: bool) -> list[str]:
    """Return the places of a potential or spike."""
    what, layer = kind(name), name.removesuffix(kind(name))
    first = next((n.removesuffix("u_pre") for n in found.outputs if kind(n) == "u_pre"), layer)
    if what == "o":
        ulps = None if found.first is None else found.first.ulps
        tie = ulps is not None and abs(ulps) <= 1
        seen = ["o, on the threshold" if tie else "o"]
    else:
        seen = ["u"] if what == "u" else []
    if what != "u_pre" and f"{layer}u_pre" in found.tensors:
        return seen
    if layer != first:
        return [
            *seen,
            "u_pre, after the skip" if layer.endswith("lif2.") else "u_pre, higher layer",
        ]
    if not begins:
        unseen = ["u"] if f"{layer}u" not in found.tensors else []  # the reset may be wrong
        return [*seen, "u_pre, later step", *unseen]
    is_shown = found.case.startswith("neuron/") or "bn" in found.tensors
    return [*seen, "u_pre, first step" if is_shown else "u_pre, current not shown"]


def backward_places(found: Comparison, name: str, begins: bool) -> list[str]:
    """Return the places of a gradient."""
    what = kind(name)
    layers = [n for n in found.outputs if kind(n) == "du_pre"]
    if what in ("du_pre", "dc"):
        return neuron_places(found, name, (*layers, name)[0], begins)
    alone = found.case.startswith("neuron/")
    layers = layers or (["dc"] if alone else [])
    unseen = [] if any(n in found.tensors for n in layers) else ["gradient, du_pre not shown"]
    if what == "dx":
        return [*unseen, "dx, block" if found.case.startswith("block/") else "dx"]
    if what != "grad":
        return [*unseen, what]
    if alone:
        return [*unseen, "grad, neuron"]
    part = "head" if ".fc." in name else "norm" if "bn" in name else "convolution"
    return [*unseen, f"grad, {part}"]


def neuron_places(found: Comparison, name: str, top: str, begins: bool) -> list[str]:
    """Return the places of a gradient of potentials; `top` is that of the layer that is last."""
    if name not in (top, "dc"):
        within = name.endswith("lif1.du_pre")
        return ["du_pre, within a block" if within else "du_pre, below a block"]
    if not begins:
        return ["du_pre, earlier step"]
    loss = found.tensors.get("grad.head.fc.bias", {"status": "missing"})
    if found.case.startswith("network/") and loss["status"] != "ok":
        return ["du_pre, objective not shown"]
    return ["du_pre, last step"]
