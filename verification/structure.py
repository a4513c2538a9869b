"""Checks of properties that the paper's claims imply for any numbers."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.equations.batchnorm import BatchNorm, Running, batchnorm_backward, batchnorm_forward
from refsnn.equations.surrogate import Rectangular, Tanh
from refsnn.network import backward, encode, forward, is_side, neuron_caches, without_branches
from refsnn.ops import NUMPY
from verification import cases
from verification.networks import compare_gradients, condition, gradient_unit, run_network
from verification.record import Recorder
from verification.registry import check

NETS = cases.net_cases(most=6, images=4)
WITH_BRANCHES = NETS.filter(lambda case: len(case.model.segments()) > 1)


def run(case: Any, **changes: Any) -> Any:
    """Compute a forward pass of the case with some of its fields changed."""
    case = replace(case, **changes)
    return forward(case.model, case.params, case.buffers, case.x_seq, case.ops, case.training)


def pulled(case: Any, side: float) -> list[Any]:
    """Compute dL/db_l for the case's objective with this coefficient."""
    _, cache = NUMPY.objective_forward(run(case).branches, case.labels, side, case.branch_sum)
    return NUMPY.objective_backward(cache)


@check("sum over branches", "structure", "EQ9 EQ8", WITH_BRANCHES, quick=25, full=500)
def sum_over_branches(case: Any, record: Recorder) -> None:
    """Check that the gradient is the sum of each branch's own (Eq. 9).

    Where lambda = 0, it must be the product of the main branch alone (Eq. 8).
    """
    passed, db = run(case), pulled(case, case.side)
    at_once = backward(passed, db)
    alone = [backward(passed, [g * (k == own) for k, g in enumerate(db)]) for own in range(len(db))]
    total = {name: sum(grads[name] for grads in alone) for name in at_once}
    compare_gradients(passed, at_once, total, record, 1e-12)
    for index, grads in enumerate(alone[:-1]):
        deeper = {block.name for part in case.model.segments()[index + 1 :] for block in part}
        for name, g in grads.items():
            if any(name.startswith(block + ".") for block in deeper):
                record.true("EQ9", f"branch {index + 1} does not reach {name}", not g.any())
    net, params = without_branches(case.model, case.params)
    main = run(case, model=net, params=params)
    vanilla = backward(main, [pulled(case, 0.0)[-1]])
    shortcut = backward(passed, pulled(case, 0.0))
    unit = gradient_unit(main, vanilla, 1e-3)
    for name, g in vanilla.items():
        record.close("EQ8", f"{name} at lambda = 0", shortcut[name], g, 1e-12, unit(name))


@check(
    "gradients of side heads", "structure", "EQ10 EQ6 EQ7 D14", WITH_BRANCHES, quick=25, full=500
)
def side_heads(case: Any, record: Recorder) -> None:
    """Check that dL/db_l = lambda (p - y) / N through each side head's FC, exactly 0 at lambda = 0.

    The main head's gradient must be (p - y) / N for any lambda: the main branch counts once.
    """
    passed = run(case)
    *sides, main = passed.branches
    for side, clause in ((0.25, "EQ10"), (1.0, "EQ6"), (0.0, "EQ7")):
        logits = main + side * sum(sides)
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        y = np.eye(case.net["num_classes"])[case.labels]
        want = side * (p - y) / len(y)
        grads = backward(passed, pulled(replace(case, branch_sum="logits"), side))
        names = [name for name in grads if is_side(name) and name.endswith("bias")]
        factor = case.x_seq.shape[0] if case.net["readout"] == "sum" else 1
        for name in names:
            got = grads[name]
            record.close(clause, name, got, factor * want.sum(axis=0), 1e-12, 1.0, "k")
        own = factor * ((p - y) / len(y)).sum(axis=0)
        record.close("D14", "head.fc.bias", grads["head.fc.bias"], own, 1e-12, 1.0, "k")
        for name in (n for n in grads if is_side(n)):
            if side == 0:
                record.equal(clause, f"{name} at lambda = 0", grads[name], 0 * grads[name])


CLOCKS = st.tuples(st.integers(1, 10**6), st.floats(0.01, 1), st.integers(1, 10**6))


@check("balance over training", "structure", "EQ10 D16", CLOCKS, quick=60, full=2000)
def balance(case: Any, record: Recorder) -> None:
    """Check that lambda(i) falls by lambda / I per iteration, from below lambda to exactly 0."""
    total, lam, i = case
    i = min(i, total)

    def at(i: int) -> float:
        return NUMPY.side_coefficient("evolutionary", i, total, lam)

    record.equal("D16", "lambda(I)", at(total), 0.0)
    record.close("EQ10", "lambda(1)", at(1), lam - lam / total, 1e-15, lam)
    if i < total:
        record.close("EQ10", "lambda(i) - lambda(i+1)", at(i) - at(i + 1), lam / total, 1e-15, lam)
    record.close("EQ10", "lambda(i)", at(i), lam * (total - i) / total, 1e-15, lam)


@check(
    "surrogate factors",
    "structure",
    "EQ8 EQ9 EQ5 EQ4",
    cases.net_cases(most=4, images=3, surrogate="tanh"),
    quick=15,
    full=300,
)
def surrogate_factors(case: Any, record: Recorder) -> None:
    """Check that each block multiplies Eq. 8's product by one factor with a surrogate slope.

    Scaling all slopes by epsilon leaves the spikes unchanged. For small epsilon, the first layer's
    gradient falls like epsilon to the number of neurons on the shortest path: one for each
    convolution of the stem, one for each block, and one for the head's hidden layer. On the path of
    a side branch after block m there are only m blocks.
    """
    net = case.net

    def exponent(model: Any, db: list[Any]) -> float:
        sizes = []
        for k in (1e-9, 2e-9):
            lif = replace(model.lif, surrogate=Tanh(k))
            own = {name: case.params[name] for name in model.shapes()}
            passed = run(case, model=replace(model, lif=lif), params=own)
            if condition(passed) > 100:
                record.reject()  # batch norm magnifies the rounding of gradients that cancel
            grads = backward(passed, db)
            sizes.append(float(np.abs(grads["stem.conv0.weight"]).max()))
        if sizes[0] < 1e-280:
            record.reject()  # no path of spikes leads from the first layer to the loss
        return float(np.log2(sizes[1] / sizes[0]))

    shape = (len(case.labels), net["num_classes"])
    db = [case.rng.normal(size=shape) for _ in case.model.segments()]
    vanilla, _ = without_branches(case.model, case.params)
    depth = net["stem"]["convs"] + sum(net["depths"]) + (net["hidden"] > 0)
    got = exponent(vanilla, db[-1:])
    record.close(
        "EQ8 EQ5 EQ4", "slopes on the shortest path, vanilla", got, float(depth), 1e-4, 1.0
    )
    if len(db) > 1:
        first = net["stem"]["convs"] + len(case.model.segments()[0])
        got = exponent(case.model, db)
        record.close("EQ9", "slopes on the shortest path, shortcut", got, float(first), 1e-4, 1.0)


@check("silent surrogates", "structure", "EQ5 EQ8 EQ9", WITH_BRANCHES, quick=10, full=200)
def silent_surrogates(case: Any, record: Recorder) -> None:
    """Check that gradients through neurons are exactly 0 if no potential is near the threshold.

    Then only the branches' own layers learn: the surrogate's slope also multiplies the gradient
    through the skip (Eq. 5).
    """
    silent = replace(case.model, lif=replace(case.model.lif, surrogate=Rectangular(1e-300)))
    passed = run(case, model=silent)
    if any((cache.u_pre_seq == silent.lif.v_th).any() for _, cache in neuron_caches(passed)):
        record.reject()
    for name, g in backward(passed, pulled(case, 1.0)).items():
        if not is_side(name) and not name.startswith("head.fc"):
            record.true("EQ5 EQ8 EQ9", f"gradient of {name} is 0", not g.any())


@check("inference without branches", "structure", "ALG1-INFER", WITH_BRANCHES, quick=15, full=400)
def inference(case: Any, record: Recorder) -> None:
    """Check that removing the side branches changes no bit of the main logits.

    It must remove the side branches' parameters and no others.
    """
    from refsnn.training.algorithm import main_logits

    same = {name: value.copy() for name, value in case.buffers.items()}
    whole = forward(case.model, case.params, case.buffers, case.x_seq, case.ops, False)
    net, params = without_branches(case.model, case.params)
    alone = forward(net, params, case.buffers, case.x_seq, case.ops, False)
    record.equal("ALG1-INFER", "main logits", alone.branches[-1], whole.branches[-1], "nk")
    record.equal("ALG1-INFER", "number of branches", len(alone.branches), 1)
    removed = set(case.params) - set(params)
    record.equal("ALG1-INFER", "what is removed", removed, {n for n in case.params if is_side(n)})
    record.equal(
        "ALG1-INFER",
        "parameters left",
        net.count_parameters(),
        sum(v.size for v in params.values()),
    )
    steps, image = len(case.x_seq), case.x_seq[0]
    wanted = forward(case.model, case.params, case.buffers, encode(image, steps), case.ops, False)
    got = main_logits(case.model, case.params, case.buffers, image, steps, case.ops)
    record.equal("ALG1-INFER", "main_logits", got, wanted.branches[-1], "nk")
    for name, value in same.items():
        record.equal("ALG1-INFER", f"{name} stays", alone.buffers[name], value)


@check("time", "structure", "EQ1 EQ2 EQ3 D3 D6 R6", cases.lif_cases(), quick=40, full=1500)
def time_order(case: Any, record: Recorder) -> None:
    """Check causality in both directions, integration at tau = 1, and that passes keep no state."""
    p, ops = cases.lif_of(case.neuron), case.ops
    o_seq, cache = ops.lif_forward(case.c_seq, case.u0, p)
    steps = len(o_seq)
    t = int(case.rng.integers(steps))
    changed = case.c_seq.copy()
    changed[t] += 1.5
    later, later_cache = ops.lif_forward(changed, case.u0, p)
    record.equal("EQ2", f"spikes before t={t}", later[:t], o_seq[:t], "tn")
    record.equal(
        "EQ1", f"potentials before t={t}", later_cache.u_pre_seq[:t], cache.u_pre_seq[:t], "tn"
    )
    do_seq = case.do_seq.copy()
    do_seq[t + 1 :] = 0
    grads = ops.lif_backward(do_seq, cache)
    clause = cases.reset_clause(case.neuron)
    record.equal(clause, f"dc after t={t}", grads.dc_seq[t + 1 :], 0 * do_seq[t + 1 :], "tn")
    head, head_cache = ops.lif_forward(case.c_seq[: t + 1], case.u0, p)
    record.equal("EQ2", "spikes of a shorter run", head, o_seq[: t + 1], "tn")
    alone = ops.lif_backward(do_seq[: t + 1], head_cache)
    record.equal(clause, "dc of a shorter run", alone.dc_seq, grads.dc_seq[: t + 1], "tn")
    # two runs, the second from where the first ended
    middle = cache.u_pre_seq[t] * (1 - o_seq[t])
    if case.neuron["reset"] == "subtract":
        amount = o_seq.dtype.type(cases.amount_of(case.neuron))
        middle = cache.u_pre_seq[t] - amount * o_seq[t]
    if t + 1 < steps:
        rest, _ = ops.lif_forward(case.c_seq[t + 1 :], middle, p)
        record.equal("D6", "spikes of a run from given u0", rest, o_seq[t + 1 :], "tn")
    again, _ = ops.lif_forward(case.c_seq, case.u0, p)
    record.equal("D6", "spikes of the next pass", again, o_seq, "tn")
    quiet = -np.abs(np.round(case.c_seq * 8) / 8)  # exact sums
    _, quiet_cache = ops.lif_forward(quiet, None, replace(p, tau=1.0))
    record.equal(
        "EQ1",
        "potential of a silent IF neuron",
        quiet_cache.u_pre_seq,
        np.cumsum(quiet, axis=0),
        "tn",
    )


@check("neurons do not meet", "structure", "EQ1 EQ3", cases.lif_cases(), quick=20, full=800)
def separate_neurons(case: Any, record: Recorder) -> None:
    """Check that each neuron alone gives the same results as among the others."""
    p, ops = cases.lif_of(case.neuron), case.ops
    o_seq, cache = ops.lif_forward(case.c_seq, case.u0, p)
    dc_seq = ops.lif_backward(case.do_seq, cache).dc_seq
    for n in range(o_seq.shape[1]):
        own = slice(n, n + 1)
        o, c = ops.lif_forward(case.c_seq[:, own], None if case.u0 is None else case.u0[own], p)
        record.equal("EQ1", f"neuron {n}", o, o_seq[:, own], "tn")
        dc = ops.lif_backward(case.do_seq[:, own], c).dc_seq
        few = 4 * float(np.finfo(dc.dtype).eps)  # the slope's last bit may depend on its place
        record.close("EQ3", f"dc of neuron {n}", dc, dc_seq[:, own], few)


@check("order of the batch", "structure", "D8 EQ8 EQ9 D6", NETS, quick=15, full=400)
def batch_order(case: Any, record: Recorder) -> None:
    """Check that permuting the images permutes the logits, with the same loss and gradients."""
    order = case.rng.permutation(len(case.labels))
    moved = replace(case, x_seq=case.x_seq[:, order], labels=case.labels[order])
    for _, cache in neuron_caches(run(case)):
        if cases.near_threshold(cache.u_pre_seq, case.net["neuron"]) < 1e-9:
            record.reject()
    passed, loss, grads = run_network(case)
    passed_moved, loss_moved, grads_moved = run_network(moved)
    for index, (a, b) in enumerate(zip(passed.branches, passed_moved.branches, strict=True)):
        record.close("D8 D6", f"branch {index + 1}", b, a[order], 1e-12, axes="nk")
    record.close("EQ9", "loss", loss_moved, loss, 1e-12, max(1.0, loss))
    compare_gradients(passed, grads_moved, grads, record, 1e-10)


@check("orthogonality", "structure", "D8", cases.norm_cases(training=True), quick=40, full=1500)
def orthogonality(case: Any, record: Recorder) -> None:
    """Check that dx of batch norm is orthogonal to constants and, up to eps, to x_hat.

    Also check that x_hat has mean 0 and variance v / (v + eps).
    """
    x, p = case.x_seq, BatchNorm(**case.norm)
    axes = (0, 1, 2, 3) if p.statistics == "pooled" else (1, 2, 3)
    y, _, cache = batchnorm_forward(x, case.gamma, case.beta, Running(case.mean, case.var), p, True)
    dx, _, _ = batchnorm_backward(case.dy_seq, cache)
    scale = float(np.abs(case.dy_seq).sum() * cache.inv_std.max())
    record.close("D8", "<dx, 1>", dx.sum(axis=axes), 0 * dx.sum(axis=axes), 1e-12, scale)
    x_hat = (y - case.beta) / (case.gamma * p.scale)
    record.close(
        "D8",
        "mean of x_hat",
        x_hat.mean(axis=axes),
        0 * x_hat.mean(axis=axes),
        1e-10 * float(cache.inv_std.max()),
        1.0,
    )
    v = x.var(axis=axes)
    record.close("D8", "variance of x_hat", x_hat.var(axis=axes), v / (v + p.eps), 1e-9, 1.0)
    # <dx, x_hat> = eps inv_std^3 <dy gamma, x - mean>, which is 0 for eps = 0
    count = x_hat.size / v.size
    along = (case.dy_seq * case.gamma * p.scale * x_hat).sum(axis=axes)
    want = along * p.eps / (v + p.eps) / np.sqrt(v + p.eps)
    record.close(
        "D8",
        "<dx, x_hat>",
        (dx * x_hat).sum(axis=axes),
        want,
        1e-12 * count,
        scale * max(1.0, float(np.abs(x_hat).max())),
    )


@check(
    "running statistics", "structure", "D25", cases.norm_cases(training=True), quick=30, full=800
)
def running_statistics(case: Any, record: Recorder) -> None:
    """Check that running statistics move linearly with momentum from old to new ones.

    Momentum 1 gives the last group's mean and unbiased variance, 0 the old statistics. Inference
    must not change them.
    """
    x, before = case.x_seq, Running(case.mean, case.var)
    p = BatchNorm(**case.norm)

    def after(momentum: float, x: Any = x, training: bool = True) -> Running:
        q = replace(p, momentum=momentum)
        return batchnorm_forward(x, case.gamma, case.beta, before, q, training)[1]

    last = x if p.statistics == "pooled" else x[-1:]
    count = last.size // last.shape[-1]
    mean, var = last.mean(axis=(0, 1, 2, 3)), last.var(axis=(0, 1, 2, 3), ddof=count > 1)
    for name, got, want in (
        ("mean at momentum 1", after(1.0).mean, mean),
        ("variance at momentum 1", after(1.0).var, var),
        ("mean at momentum 0", after(0.0).mean, case.mean),
        ("variance at momentum 0", after(0.0).var, case.var),
        ("mean after inference", after(1.0, training=False).mean, case.mean),
        ("variance after inference", after(1.0, training=False).var, case.var),
        ("mean of a step", after(0.3, last).mean, 0.7 * case.mean + 0.3 * mean),
        ("variance of a step", after(0.3, last).var, 0.7 * case.var + 0.3 * var),
    ):
        record.close("D25", name, got, want, 1e-12, 1.0 + float(np.abs(want).max()), "c")


@check("readout and encoding", "structure", "D7 D10", NETS, quick=10, full=200)
def readout(case: Any, record: Recorder) -> None:
    """Check that summed logits are T times the mean, and that every step shows the same image."""
    steps = len(case.x_seq)
    mean = run(case, model=replace(case.model, readout="mean")).branches
    total = run(case, model=replace(case.model, readout="sum")).branches
    for a, b in zip(mean, total, strict=True):
        record.close("D10", "sum over time", b, steps * a, 1e-14, axes="nk")
    x_seq = encode(case.x_seq[0], steps + 1)
    record.equal("D7", "steps", len(x_seq), steps + 1)
    for t in range(steps + 1):
        record.equal("D7", f"image at step {t}", x_seq[t], case.x_seq[0], "nhwc")
