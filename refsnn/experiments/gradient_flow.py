"""Ledger of gradient flow: the norm of dL/du_pre by layer and step, split by branch and mechanism.

Back-propagation is linear in dL/db_l, so a backward pass from one branch alone gives that branch's
part (Eq. 9). The terms of Eq. 3 give the parts by mechanism: firing g_o[t] h[t], leak
tau delta[t+1] (1 - o[t]), reset -tau delta[t+1] u_pre[t] h[t]; where the reset subtracts R, leak
tau delta[t+1], reset -tau delta[t+1] R h[t]. Neurons with gates have their own such terms
(`equations/neurons/gated.py`). Where the potential is batch-normalised before it fires (MPBN), h is
at the normalised potential, and the terms with h go back through the batch norm. A block's skip has
no term of its own: what it passes back, from the gradient g at the block's output, is in g_o of the
neurons before it. A skip s that is added to spikes or currents passes back g as it is, one that is
joined with spikes a by AND passes g a, and by IAND g (1 - a); where it has a convolution, this is
the gradient behind it.

Except for rounding, which the fields `rest` measure, the parts add up as vectors, the factors of
the chain multiply to its last norm, and the shares of dL/dW1 add up to 1. Norms of parts need not
add up, since parts may cancel. A factor says what one block did to this one gradient: it lies
between 0 and the largest singular value of the block's Jacobian. The product of these singular
values, a bound on Eq. 8, may be far larger than the product of the factors. Where the size of the
image or the channels change, a factor compares vectors of different lengths.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import numpy as np

from refsnn.network import (
    Forward,
    Network,
    Params,
    backward,
    encode,
    forward,
    neuron_caches,
    outputs,
)
from refsnn.network.blocks import KINDS
from refsnn.network.head import head_backward
from refsnn.network.kept import recomputed
from refsnn.network.layers import pool_backward
from refsnn.ops import (
    CROSS_ENTROPY,
    MPBN,
    NUMPY,
    Array,
    ConvCache,
    GatedCache,
    LIFCache,
    Loss,
    MPBNCache,
    Neuron,
    Ops,
    as_images,
    is_gated,
    reset_slopes,
    slopes_at,
    validate,
)
from refsnn.training.monitor import finite, norm

FIRST = "stem.conv0.weight"  # W1 of Eq. 8 and 9
#: a slope is small below this part of the slope at the threshold, the peak but for `tanh_literal`
SMALL = 1e-3

Seen = TypeVar("Seen")
Cache = LIFCache | GatedCache | MPBNCache
Look = Callable[[Array, Array, Cache], Seen]


class Ledger(NamedTuple):
    """The ledger of one batch, in plain numbers, lists and dicts.

    layers: a dict per layer of neurons, from input to output: its name `layer`, and lists with one
        entry per time step. `rate` is the firing rate; `mean_slope` the mean of h; `zero_slope` and
        `small_slope` are the fractions of neurons whose h is 0, or below SMALL times the slope at
        the threshold. `total` is the norm of delta; `firing`, `leak` and `reset` are the norms of
        its parts, and `rest` is the norm of delta minus the three. `through` holds the norms of
        delta through each branch, by the branch's name.
    chain: Eq. 8 along the main branch alone: a dict per place, from the logits through each block's
        output to the stem's output, before its pooling, and W1. `at` is the place's name, `norm`
        the norm of the gradient there over all steps, and `factor` its ratio to the norm before
        (None for the first place or after 0). Where blocks pass on currents, the outputs are these.
    first_layer: dL/dW1 (Eq. 9): `parameter`, `norm`, `rest`, and `branches`, which has for each
        branch the `norm` of its part, the `cosine` to the sum, and the `share`, norm times cosine
        over the sum's norm (None where the sum is 0).
    """

    loss: float
    side: float
    branches: list[str]  # names, with the main branch, `head`, last
    layers: list[dict[str, Any]]
    chain: list[dict[str, Any]]
    first_layer: dict[str, Any]


@np.errstate(all="ignore")  # overflow is found below
def ledger(
    net: Network,
    params: Params,
    buffers: Params,
    images: Array,
    labels: Array,
    steps: int,
    ops: Ops,
    side: float,
    branch_sum: str = "logits",
    criterion: Loss = CROSS_ENTROPY,
) -> Ledger:
    """Compute the ledger of one batch of images (N, H, W, C), shown at `steps` time steps.

    Batch norm uses the batch's statistics, as in training. `side` is the weight of the side
    branches (Eq. 10). ValueError where a gradient is not finite, or for neurons with other terms.
    """
    validate.at_least("side", side, 0)
    model = net.neuron_model
    if model is not None and not is_gated(model) and type(model) is not MPBN:
        name = type(model).__name__
        raise ValueError(f"net: has {name}, want neurons whose terms are known: LIFs, gated, MPBN")
    # unfused batch norm and LIF, so that `watch` sees each layer's lif_backward
    apart = replace(ops, norm_neuron_forward=None, norm_neuron_backward=None)
    run = forward(net, params, buffers, encode(images, steps), apart)
    loss, cache = apart.objective_forward(
        outputs(run, criterion), labels, side, branch_sum, criterion
    )
    db = apart.objective_backward(cache)
    grads, mechanisms = watch(run, db, by_mechanism)
    for name, grad in reversed(grads.items()):  # from output to input
        if not finite(grad):
            raise ValueError(
                f"params: the gradient of {name} holds NaN or infinity, want finite numbers"
            )
    first, sizes, fast = {}, {}, first_only(run)
    for index, head in enumerate(run.heads):
        alone = [g if k == index else np.zeros_like(g) for k, g in enumerate(db)]
        of_branch, sizes[head.name] = watch(fast, alone, by_size)
        first[head.name] = of_branch[FIRST]
    layers = [
        {"layer": layer, **by_step(slopes(cache)), **by_step(mechanisms[layer])}
        | {"through": {branch: seen[layer] for branch, seen in sizes.items()}}
        for layer, cache in neuron_caches(run)
    ]
    norms = [("logits", norm(db[-1])), *by_place(fast, db[-1])]
    norms += [(FIRST, norm(first[run.heads[-1].name]))]
    return Ledger(loss, side, list(first), layers, factors(norms), parts(grads[FIRST], first))


def watch(run: Forward, db: list[Array], look: Look[Seen]) -> tuple[Params, dict[str, Seen]]:
    """Compute the gradients from `db`, and look(do_seq, delta_seq, cache) for each layer."""
    ops, names, seen = run.context.ops, {id(cache): name for name, cache in neuron_caches(run)}, {}

    def lif_backward(
        do_seq: Array, cache: LIFCache, constants: bool = True, source_seq: Array | None = None
    ) -> Any:
        assert source_seq is None  # the ledger has no loss of potentials
        grads = ops.lif_backward(do_seq, cache, constants)
        seen[names[id(cache)]] = look(do_seq, grads.dc_seq, cache)  # Eq. (3): dL/dc is delta
        return grads

    def neuron_backward(neuron: Neuron, dy_seq: Array, cache: Any) -> Any:
        dc_seq, grads = ops.neuron_backward(neuron, dy_seq, cache)
        if isinstance(cache, MPBNCache):
            seen[names[id(cache)]] = look(dy_seq, dc_seq, cache)
            return dc_seq, grads
        k = cache.constants
        gain = k.gain.reshape(len(dy_seq), *[1] * (dy_seq.ndim - 2), -1)
        do_seq = dy_seq if neuron.binary else k.amplitude * dy_seq
        seen[names[id(cache)]] = look(do_seq, dc_seq / gain, cache)  # dL/dc is gain delta
        return dc_seq, grads

    watched = replace(ops, lif_backward=lif_backward, neuron_backward=neuron_backward)
    context = run.context._replace(ops=watched)
    return backward(run._replace(context=context), db), seen


def first_only(run: Forward) -> Forward:
    """Return a forward pass whose backward pass computes no convolution weight's gradient but W1's.

    It also skips convolutions of gradients that are all zero, as those behind a branch are. Both
    together are most of the cost.
    """
    assert run.context.keep == "all"
    ops, first = run.context.ops, recomputed(run.stem.units[0]).conv.conv

    def conv_input_gradient(dy: Array, cache: ConvCache) -> Array:
        return ops.conv_input_gradient(dy, cache) if dy.any() else np.zeros(cache.x.shape, dy.dtype)

    def conv_add_input_gradient(dy: Array, cache: ConvCache, total: Array) -> None:
        if dy.any():
            ops.conv_add_input_gradient(dy, cache, total)

    def conv_weight_gradient(dy: Array, cache: ConvCache) -> Any:  # None of all but the first
        return ops.conv_weight_gradient(dy, cache) if cache is first else None

    skipping = replace(
        ops,
        conv_input_gradient=conv_input_gradient,
        conv_add_input_gradient=conv_add_input_gradient,
        conv_weight_gradient=conv_weight_gradient,
    )
    return run._replace(context=run.context._replace(ops=skipping))


def by_size(do_seq: Array, delta_seq: Array, cache: Cache) -> list[float]:
    """Return the norm of delta per step."""
    return [norm(delta) for delta in delta_seq]


def by_place(run: Forward, db: Array) -> list[tuple[str, float]]:
    """Return the norms of the gradients at each block's output and at the stem's, last one first.

    They are over all steps, through the main branch alone, whose dL/db is `db`.
    """
    context, norms = run.context, []
    caches = [cache for segment in run.segments for cache in segment]
    dy_seq, _ = head_backward(db, run.heads[-1], context)
    for block, cache in reversed(list(zip(context.net.blocks(), caches, strict=True))):
        norms.append((block.name, norm(dy_seq)))
        dy_seq, _ = KINDS[context.net.block].backward(dy_seq, cache, context)  # Eq. (8)
    if run.stem.pool is not None:
        dy_seq = pool_backward(dy_seq, run.stem.pool, context)
    return [*norms, ("stem", norm(dy_seq))]


def by_mechanism(do_seq: Array, delta_seq: Array, cache: Cache) -> list[dict[str, float]]:
    """Return, per step, the norms of delta, of the terms of Eq. 3, and of delta minus their sum."""
    rows, p = [], cache.p
    later = np.zeros_like(cache.u_pre_seq[0])  # tau delta[t+1]; delta[T+1] = 0
    for t in reversed(range(len(do_seq))):
        u_pre, o, delta = cache.u_pre_seq[t], cache.o_seq[t], delta_seq[t]
        h = slope_of(decisive(cache)[t], cache)
        by_u_pre, by_o = reset_terms(u_pre, o, cache)
        firing, leak = through_norm(do_seq[t] * h, t, cache), later * by_u_pre
        reset = np.zeros_like(h)
        if p.reset_gradient == "full":  # D3
            reset = through_norm(later * by_o * h, t, cache)
        terms = {"total": delta, "firing": firing, "leak": leak, "reset": reset}
        terms["rest"] = delta - (firing + leak + reset)  # Eq. (3)
        rows.append({name: norm(term) for name, term in terms.items()})
        later = delta if isinstance(cache, GatedCache) else p.tau * delta
    return rows[::-1]


def decisive(cache: Cache) -> Array:
    """Return the potentials (T, N, ...) that are compared with the threshold."""
    return cache.v_seq if isinstance(cache, MPBNCache) else cache.u_pre_seq


def through_norm(d: Array, t: int, cache: Cache) -> Array:
    """Return the gradient at u_pre[t], (N, ...), from that at the potential that is compared."""
    if not isinstance(cache, MPBNCache):
        return d
    return NUMPY.batchnorm_backward(as_images(d), cache.norms[t]).dx_seq.reshape(d.shape)  # MPBN


def slope_of(u_pre: Array, cache: Cache) -> Array:
    """Return the surrogate's slopes at potentials (N, ...), by the layer's thresholds."""
    v_th = cache.constants.v_th if isinstance(cache, GatedCache) else cache.p.v_th
    return slopes_at(cache.p.surrogate, u_pre - v_th, v_th)  # type: ignore[arg-type]


def reset_terms(u_pre: Array, o: Array, cache: Cache) -> tuple[Array, Array]:
    """Return the derivatives of the next step's start by u_pre and by o, (N, ...) both.

    A LIF's leak tau is left out, since `later` has it.
    """
    if not isinstance(cache, GatedCache):
        return reset_slopes(u_pre, o, cache.p)
    k = cache.constants
    return k.leak * (1 - k.clear * o), -(k.leak * k.clear * u_pre + k.amount)


def share(chosen: Array) -> float:
    """Return how many of the elements are chosen, in [0, 1]."""
    return float(np.mean(chosen))


def slopes(cache: Cache) -> list[dict[str, float]]:
    """Return, per step, the firing rate and the statistics of the surrogate slope (Eq. 4)."""
    p, rows = cache.p, []
    small = SMALL * float(p.surrogate.slope(np.zeros(1), p.v_th)[0])
    for u_pre, o in zip(decisive(cache), cache.o_seq, strict=True):
        h = slope_of(u_pre, cache)
        row = {"rate": share(o != 0), "mean_slope": float(h.mean(dtype=np.float64))}
        rows.append(row | {"zero_slope": share(h == 0), "small_slope": share(h < small)})
    return rows


def by_step(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def factors(outputs: list[tuple[str, float]]) -> list[dict[str, Any]]:
    """Return each norm with its ratio to the norm before: the product of Eq. 8, in norms."""
    before = [0.0, *(size for _, size in outputs)]
    return [
        {"at": at, "norm": size, "factor": size / last if last else None}
        for (at, size), last in zip(outputs, before, strict=False)
    ]


def parts(total: Array, of_branch: dict[str, Array]) -> dict[str, Any]:
    """Describe a gradient as the sum of the branches' parts (Eq. 9)."""
    whole, rows = norm(total), {}
    square = float(np.vdot(total, total.astype(np.float64)))  # like `along`, so shares add up to 1
    for branch, part in of_branch.items():
        size, along = norm(part), float(np.vdot(total, part.astype(np.float64)))
        rows[branch] = {
            "norm": size,
            "cosine": along / (whole * size) if whole * size else None,
            "share": along / square if whole else None,
        }
    rest = norm(total - sum(of_branch.values()))
    return {"parameter": FIRST, "norm": whole, "rest": rest, "branches": rows}
