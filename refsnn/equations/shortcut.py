"""Shortcut back-propagation (Eq. 6 to 9) and evolutionary training (Eq. 10).

`branches` is the list b_1 … b_n of logits, each (N, K), or (T, N, K) where the loss takes those of
every step; b_n is the main branch. The three methods are one formula (`combine_forward`) with
different coefficients of the side branches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from refsnn.equations.loss import CROSS_ENTROPY, Loss, loss_gradient, loss_value
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import at_least, like, one_of

METHODS = ("vanilla", "shortcut", "evolutionary")


def balance(i: int, total: int, lam: float) -> float:
    """Return evolutionary training's coefficient of the side branches at iteration i.

        lambda(i) = lambda (1 - i/I)

    i = 1 … I = `total`, so that the last one is exactly 0; ValueError outside.
    Source: Eq. 10, D16.
    """
    if not 1 <= i <= total:
        raise ValueError(f"i: got {i}, want 1 to {total}")
    return lam * (1 - i / total)  # Eq. (10)  # D16


def side_coefficient(method: str, i: int, total: int, lam: float, shortcut: float = 1.0) -> float:
    """Return the side branches' coefficient at iteration i = 1 … `total`, by method.

        vanilla 0, shortcut `shortcut`, evolutionary lambda(i)

    Source: Eq. 7, Eq. 6 and D15, Eq. 10.
    """
    one_of("method", method, METHODS)
    at_least("lam", lam, 0)
    if method == "vanilla":
        return 0.0  # Eq. (7)
    if method == "shortcut":
        return shortcut  # Eq. (6)  # D15
    return balance(i, total, lam)  # Eq. (10)


def combine_forward(branches: Sequence[Array], side: float) -> Array:
    """Combine the branches' logits, each (N, K), into the logits of the loss.

        o_final = b_n + side sum_{l<n} b_l

    Depending on the coefficient `side`, this is one of
        Eq. 6, side = 1:          o_final = sum_l b_l
        Eq. 7, side = 0:          o_final = b_n
        Eq. 10, side = lambda(i): o_final = b_n + lambda(i) sum_{l<n} b_l
    ValueError where there are no branches or their shapes differ. Source: Eq. 6, 7, 10, D14.
    """
    if not branches:
        raise ValueError("branches: got none, want at least the main one")
    *sides, main = branches
    for index, b in enumerate(sides):
        like(f"branches[{index}]", b, main.shape, main.dtype, "the main branch")
    if not sides:
        return main  # Eq. (7)
    return main + side * sum(sides[1:], start=sides[0])  # Eq. (6)  # Eq. (10)  # D14


def combine_backward(do_final: Array, n: int, side: float) -> list[Array]:
    """Return dL/db_l for l = 1 … n, each (N, K).

        dL/db_n = dL/do_final
        dL/db_l = side dL/do_final,  l < n

    forward: o_final = b_n + side sum_{l<n} b_l.
    """
    return [side * do_final] * (n - 1) + [do_final]


class ObjectiveCache(NamedTuple):
    """The values that the backward pass needs."""

    losses: list[tuple[Array, Any]]  # logits and the loss's cache: one pair, or one for each branch
    n: int  # number of branches
    side: float
    loss: Loss


def objective_forward(
    branches: Sequence[Array],
    labels: Array,
    side: float,
    branch_sum: str = "logits",
    loss: Loss = CROSS_ENTROPY,
) -> tuple[float, ObjectiveCache]:
    """Return the loss, and the cache for its gradient (D13).

        logits: L = CE(o_final, y)
        losses: L = CE(b_n, y) + side sum_{l<n} CE(b_l, y)

    CE is the cross-entropy, averaged over the batch, or another `loss`; `labels` are (N,) integers.
    """
    one_of("branch_sum", branch_sum, ("logits", "losses"))
    if branch_sum == "logits":
        o_final = combine_forward(branches, side)
        value, cache = loss_value(loss, o_final, labels)  # D13
        return value, ObjectiveCache([(o_final, cache)], len(branches), side, loss)
    pairs = [loss_value(loss, b, labels) for b in branches]
    *sides, main = [value for value, _ in pairs]
    caches = [(b, cache) for b, (_, cache) in zip(branches, pairs, strict=True)]
    return main + side * sum(sides), ObjectiveCache(caches, len(pairs), side, loss)  # D13


def objective_backward(cache: ObjectiveCache) -> list[Array]:
    """Return dL/db_l, (N, K), for every branch l = 1 … n."""
    gradients = [loss_gradient(cache.loss, of_loss, logits) for logits, of_loss in cache.losses]
    if len(gradients) == cache.n > 1:
        *sides, main = gradients
        return [cache.side * db for db in sides] + [main]
    return combine_backward(gradients[0], cache.n, cache.side)


#: a vector-Jacobian product: gradient at the output -> gradients at the input and, by name, of
#: the weights
Pullback = Callable[[Array], tuple[Array, dict[str, Any]]]


def shortcut_backward(
    db: Sequence[Array], heads: Sequence[Pullback], blocks: Sequence[Pullback]
) -> tuple[Array, dict[str, Any]]:
    """Compute dL/dx and dL/dW of every weight in one sweep from the last block to the first.

        d_n = H_n(dL/db_n)
        d_l = P_{l+1}(d_{l+1}) + H_l(dL/db_l)

    `heads` are H_l, which turn dL/db_l into a gradient at the output of block l; `blocks` are P_l,
    which turn d_l, the gradient there, into the gradient at the block's input.
    forward: b_l = f_l(b_{l-1}).
    The first block's weights get Eq. 9's sum or, where dL/db_l = 0 for l < n, Eq. 8's product:
        dL/dW_1 = sum_l dL/db_l db_l/dW_1
        dL/dW_1 = dL/db_n db_n/db_{n-1} ... db_1/dW_1
    Gradients of weights that several parts share are added. Source: Eq. 8, 9.
    """
    grads: dict[str, Any] = {}
    dx: Array | None = None
    for db_l, head, block in reversed(list(zip(db, heads, blocks, strict=True))):
        d_path, head_grads = head(db_l)
        dx = d_path if dx is None else dx + d_path  # Eq. (9)
        dx, block_grads = block(dx)  # Eq. (8)
        for name, g in (*head_grads.items(), *block_grads.items()):
            grads[name] = grads[name] + g if name in grads else g  # shared weights: all paths
    if dx is None:
        raise ValueError("db: got no branches, want at least the main one")
    return dx, grads
