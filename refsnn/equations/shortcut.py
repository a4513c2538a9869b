"""Shortcut back-propagation (Eq. 6-9) and evolutionary training (Eq. 10).

`branches` is the list b_1 … b_n of logits, each (N, K); b_n is the main branch.
All three methods are one formula, o_final = b_n + side * sum of the others, and
differ in the coefficient `side` alone.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from refsnn.equations.loss import (
    CrossEntropyCache,
    cross_entropy_backward,
    cross_entropy_forward,
)
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import at_least, like, one_of

METHODS = ("vanilla", "shortcut", "evolutionary")


def balance(i: int, total: int, lam: float) -> float:
    """lambda(i) at iteration i = 1 … `total`; the last one's is exactly 0 (D16)."""
    if not 1 <= i <= total:
        raise ValueError(f"i: got {i}, want 1 to {total}")
    return lam * (1 - i / total)  # Eq. (10)  # D16


def side_coefficient(method: str, i: int, total: int, lam: float, shortcut: float = 1.0) -> float:
    """The weight of every side branch at iteration i; `shortcut` is the plain method's (D15)."""
    one_of("method", method, METHODS)
    at_least("lam", lam, 0)
    if method == "vanilla":
        return 0.0  # Eq. (7)
    if method == "shortcut":
        return shortcut  # Eq. (6)  # D15
    return balance(i, total, lam)  # Eq. (10)


def combine_forward(branches: Sequence[Array], side: float) -> Array:
    """o_final: Eq. 7 at side = 0, Eq. 6 at side = 1, Eq. 10 at side = lambda(i)."""
    if not branches:
        raise ValueError("branches: got none, want at least the main one")
    *sides, main = branches
    for index, b in enumerate(sides):
        like(f"branches[{index}]", b, main.shape, main.dtype, "the main branch")
    if not sides:
        return main  # Eq. (7)
    return main + side * sum(sides[1:], start=sides[0])  # Eq. (6)  # Eq. (10)  # D14


def combine_backward(do_final: Array, n: int, side: float) -> list[Array]:
    """dL/db_l for l = 1 … n; forward: b_n counted once, the others `side` times."""
    return [side * do_final] * (n - 1) + [do_final]


class ObjectiveCache(NamedTuple):
    losses: list[CrossEntropyCache]  # one, or one for each branch
    n: int  # branches
    side: float


def objective_forward(
    branches: Sequence[Array], labels: Array, side: float, branch_sum: str = "logits"
) -> tuple[float, ObjectiveCache]:
    """One cross-entropy of the combined logits, or the combined cross-entropies (D13)."""
    one_of("branch_sum", branch_sum, ("logits", "losses"))
    if branch_sum == "logits":
        loss, cache = cross_entropy_forward(combine_forward(branches, side), labels)  # D13
        return loss, ObjectiveCache([cache], len(branches), side)
    pairs = [cross_entropy_forward(b, labels) for b in branches]
    *sides, main = [loss for loss, _ in pairs]
    return main + side * sum(sides), ObjectiveCache([c for _, c in pairs], len(pairs), side)  # D13


def objective_backward(cache: ObjectiveCache) -> list[Array]:
    """dL/db_l for every branch."""
    if len(cache.losses) == cache.n > 1:
        *sides, main = [cross_entropy_backward(c) for c in cache.losses]
        return [cache.side * db for db in sides] + [main]
    return combine_backward(cross_entropy_backward(cache.losses[0]), cache.n, cache.side)


#: a vector-Jacobian product: gradient at the output -> at the input, and by the weights
Pullback = Callable[[Array], tuple[Array, dict[str, Any]]]


def shortcut_backward(
    db: Sequence[Array], heads: Sequence[Pullback], blocks: Sequence[Pullback]
) -> tuple[Array, dict[str, Any]]:
    """dL/dW of Eq. 9 for the weights of every depth, in one sweep from the last block to the first.

    `heads[l]` pulls dL/db_l back to the output of block l, `blocks[l]` from there
    to its input. Summing the paths where they meet gives each W the sum over all
    branches at or after it: Eq. 9's sum, its products (Eq. 8) shared. Weights that
    a main branch alone reaches (vanilla) are the case of zero dL/db_l for l < n.
    """
    grads: dict[str, Any] = {}
    dx: Array | None = None
    for db_l, head, block in reversed(list(zip(db, heads, blocks, strict=True))):
        d_path, of_head = head(db_l)
        dx = d_path if dx is None else dx + d_path  # Eq. (9)
        dx, of_block = block(dx)  # Eq. (8)
        for name, g in (*of_head.items(), *of_block.items()):
            grads[name] = grads[name] + g if name in grads else g  # shared weights: all paths
    if dx is None:
        raise ValueError("db: got no branches, want at least the main one")
    return dx, grads
