"""Eq. 6 to 10: how branches combine, and that one sweep gives the sum over all of them."""

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.equations.loss import cross_entropy_forward
from refsnn.equations.shortcut import (
    balance,
    combine_backward,
    combine_forward,
    objective_backward,
    objective_forward,
    shortcut_backward,
    side_coefficient,
)

modest = settings(deadline=None, max_examples=60, derandomize=True)
LABELS = np.array([0, 2, 1, 2])


def branches(n, dtype=float):
    rng = np.random.default_rng(n)
    arrays = [rng.normal(size=(4, 3)).astype(dtype) for _ in range(n)]
    for a in arrays:
        a.flags.writeable = False
    return arrays


# ---- lambda(i)


@pytest.mark.parametrize(
    ("i", "total", "value"), [(1, 4, 0.1875), (2, 4, 0.125), (3, 4, 0.0625), (4, 4, 0), (1, 1, 0)]
)
def test_balance_worked_by_hand(i, total, value):
    assert balance(i, total, 0.25) == value


@modest
@given(st.integers(2, 10**7), st.floats(1e-3, 10))
def test_balance_starts_one_step_below_lambda_and_ends_at_exactly_zero(total, lam):
    assert balance(1, total, lam) == lam * (1 - 1 / total) < lam
    assert balance(total, total, lam) == 0
    assert balance(total - 1, total, lam) > 0


@pytest.mark.parametrize(("i", "total"), [(0, 4), (5, 4), (-1, 4), (1, 0)])
def test_an_iteration_outside_the_run_is_refused(i, total):
    with pytest.raises(ValueError, match=f"^i: got {i}, want 1 to {total}$"):
        balance(i, total, 0.25)


@pytest.mark.parametrize("i", [1, 3, 10])
def test_each_method_has_its_coefficient(i):
    assert side_coefficient("vanilla", i, 10, 0.25) == 0
    assert side_coefficient("shortcut", i, 10, 0.25) == 1
    assert side_coefficient("shortcut", i, 10, 0.25, shortcut=0.3) == 0.3
    assert side_coefficient("evolutionary", i, 10, 0.25, shortcut=0.3) == 0.25 * (1 - i / 10)


def test_wrong_methods_and_negative_lambda_are_refused():
    names = "vanilla, shortcut, evolutionary"
    with pytest.raises(ValueError, match=f"^method: got 'both', want one of {names}$"):
        side_coefficient("both", 1, 10, 0.25)
    with pytest.raises(ValueError, match=r"^lam: got -0\.1"):
        side_coefficient("evolutionary", 1, 10, -0.1)


# ---- combining


@pytest.mark.parametrize(
    ("side", "combined"),
    [
        (0.0, [100, 200]),  # Eq. 7
        (1.0, [111, 222]),  # Eq. 6
        (0.25, [102.75, 205.5]),  # Eq. 10: 100 + (1 + 10)/4, the main branch once
    ],
)
def test_three_branches_worked_by_hand(side, combined):
    b = [np.array([[1.0, 2]]), np.array([[10.0, 20]]), np.array([[100.0, 200]])]
    for a in b:
        a.flags.writeable = False
    assert combine_forward(b, side).tolist() == [combined]
    do_final = np.array([[4.0, 8]])
    db = combine_backward(do_final, 3, side)
    assert [a.tolist() for a in db] == [[[4 * side, 8 * side]]] * 2 + [[[4, 8]]]


@pytest.mark.parametrize("side", [0.0, 0.25, 1.0])
def test_a_lone_branch_is_the_main_one_whatever_the_coefficient(side):
    (b,) = branches(1)
    assert np.array_equal(combine_forward([b], side), b)
    (db,) = combine_backward(b, 1, side)
    assert np.array_equal(db, b)


@pytest.mark.parametrize("side", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_the_objective_is_one_loss_of_the_combined_logits_or_the_combined_losses(n, side):
    b = branches(n)
    loss, _ = objective_forward(b, LABELS, side)
    combined = b[-1] + sum(side * a for a in b[:-1])
    np.testing.assert_allclose(loss, cross_entropy_forward(combined, LABELS)[0], rtol=1e-12)
    loss, _ = objective_forward(b, LABELS, side, "losses")
    each = [cross_entropy_forward(a, LABELS)[0] for a in b]
    np.testing.assert_allclose(loss, each[-1] + side * math.fsum(each[:-1]), rtol=1e-12)


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
@pytest.mark.parametrize("side", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_gradient_of_the_objective_equals_differences(numeric_gradient, n, side, branch_sum):
    b = branches(n)
    db = objective_backward(objective_forward(b, LABELS, side, branch_sum)[1])
    assert len(db) == n
    for i, got in enumerate(db):

        def loss(moved, i=i):
            return objective_forward([*b[:i], moved, *b[i + 1 :]], LABELS, side, branch_sum)[0]

        np.testing.assert_allclose(got, numeric_gradient(loss, b[i]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype, branch_sum):
    b = branches(3, dtype)
    loss, cache = objective_forward(b, LABELS, 0.3, branch_sum)
    assert isinstance(loss, float)
    assert combine_forward(b, 0.3).dtype == dtype
    assert {a.dtype for a in objective_backward(cache)} == {np.dtype(dtype)}


def test_an_unknown_kind_of_sum_is_refused():
    with pytest.raises(
        ValueError, match=re.escape("branch_sum: got 'mean', want one of logits, losse")
    ):
        objective_forward(branches(2), LABELS, 1.0, "mean")


# ---- Eq. 8 and 9


def linear_chain(n, seed):
    """db, and pullbacks of n random linear blocks of unlike sizes with their heads.

    The gradient by a weight is some linear function of what arrives there, which is
    all that a pullback can be; here a random matrix of its own.
    """
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, n + 1)

    def pullback(name, out, size):
        through, by_weight = rng.normal(size=(out, size)), rng.normal(size=(out, 3))
        return lambda d: (d @ through, {name: d @ by_weight})

    heads = [pullback(f"head{i}", 3, sizes[i + 1]) for i in range(n)]
    blocks = [pullback(f"block{i}", sizes[i + 1], sizes[i]) for i in range(n)]
    return list(rng.normal(size=(n, 2, 3))), heads, blocks


def one_branch(i, db, heads, blocks):
    """Eq. 8 for branch i alone: back through its head, then through blocks i, i-1, ... 0."""
    d, grads = heads[i](db[i])
    for block in reversed(blocks[: i + 1]):
        d, of_block = block(d)
        grads = grads | of_block
    return d, grads


@modest
@given(st.integers(1, 6), st.integers(0, 2**32))
def test_the_sweep_is_the_sum_of_all_branches_propagated_one_by_one(n, seed):
    db, heads, blocks = linear_chain(n, seed)
    dx, grads = shortcut_backward(db, heads, blocks)
    paths = [one_branch(i, db, heads, blocks) for i in range(n)]
    close = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(dx, sum(d for d, _ in paths), **close)
    assert set(grads) == {f"{kind}{i}" for kind in ("head", "block") for i in range(n)}
    for name, got in grads.items():
        np.testing.assert_allclose(got, sum(g[name] for _, g in paths if name in g), **close)


def test_without_side_gradients_only_the_main_branch_is_propagated():
    db, heads, blocks = linear_chain(4, 0)
    alone = [np.zeros_like(a) for a in db[:-1]] + [db[-1]]
    dx, grads = shortcut_backward(alone, heads, blocks)
    d, main = one_branch(3, db, heads, blocks)
    np.testing.assert_allclose(dx, d, rtol=1e-12)
    for i in range(4):
        np.testing.assert_allclose(grads[f"block{i}"], main[f"block{i}"], rtol=1e-12)
        assert grads[f"head{i}"].any() == (i == 3)


def test_every_block_and_head_is_pulled_back_once():
    db, heads, blocks = linear_chain(5, 1)
    calls = []

    def counted(name, f):
        return lambda d: (calls.append(name), f(d))[1]

    shortcut_backward(
        db,
        [counted(f"head{i}", f) for i, f in enumerate(heads)],
        [counted(f"block{i}", f) for i, f in enumerate(blocks)],
    )
    assert calls == [f"{kind}{i}" for i in (4, 3, 2, 1, 0) for kind in ("head", "block")]


def test_no_branches_and_unequal_numbers_of_them_are_refused():
    db, heads, blocks = linear_chain(2, 0)
    with pytest.raises(ValueError, match=r"^db: got no branches"):
        shortcut_backward([], [], [])
    with pytest.raises(ValueError, match="zip"):
        shortcut_backward(db[:1], heads, blocks)


def test_weights_that_two_blocks_share_get_both_paths():
    def block(dx):
        return 2 * dx, {"w": dx.copy()}

    def head(db):
        return db, {"v": db.copy()}

    one = np.ones(1)
    dx, grads = shortcut_backward([one, one], [head, head], [block, block])
    assert grads["w"] == 1 + 3  # 1 at the last block; 2 * 1 + 1 at the one before
    assert grads["v"] == 2
    assert dx == 6


def test_branches_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match=r"^branches: got none"):
        combine_forward([], 1.0)
    with pytest.raises(ValueError, match=r"^branches\[0\]: got .*, want .* like the main branch"):
        combine_forward([np.ones((1, 3)), np.ones((2, 3))], 1.0)
