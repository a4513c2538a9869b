"""refsnn's operations under any conventions.

They are refsnn's own functions for the conventions that it implements, and variants of them for all
others.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.network.layers import Parts
from refsnn.ops import (
    CROSS_ENTROPY,
    LIF,
    NUMPY,
    RESETS,
    SURROGATES,
    Array,
    BatchNorm,
    LIFCache,
    Loss,
    Neuron,
    NormGrads,
    NormInput,
    Ops,
    Running,
    along_steps,
    make_surrogate,
)
from refsnn.oracle import variant_neuron
from refsnn.oracle.conventions import CONVENTIONS, PAPER, Conventions
from refsnn.oracle.method_network import at_own_step, other_join


@dataclass
class Tape:
    """A record of what the layers computed in one pass, in order."""

    before: list[tuple[Array, Array]] = field(default_factory=list)  # each layer's last u and o
    watch: Callable[[Array], None] | None = None  # called with every u_pre (T, ...)
    decided: Sequence[Array | None] = ()  # each layer's spikes, NaN where its threshold decides
    v: Array | None = None  # (N, N) weights of connections among the neurons
    norms: list[Array] = field(default_factory=list)  # outputs of batch norms
    neurons: list[Any] = field(default_factory=list)  # caches of LIF layers
    deltas: dict[int, Array] = field(default_factory=dict)  # dL/du_pre by id() of the cache

    def fired(self, cache: Any) -> None:
        """Record a layer's cache."""
        self.neurons.append(cache)
        if self.watch is not None:
            self.watch(cache.u_pre_seq)


def lif_of(conventions: Conventions) -> LIF:
    """Return the neuron's constants, as far as refsnn's own neuron implements the conventions."""
    name = str(conventions["surrogate"]) if conventions["surrogate"] in SURROGATES else "tanh"
    surrogate = make_surrogate(
        name,
        float(conventions["surrogate_shape"]),
        str(conventions["surrogate_edge"]) if name == "rectangular" else "outside",
    )
    reset = str(conventions["reset"]) if conventions["reset"] in RESETS else "zero"
    amount = conventions["reset_amount"]
    return LIF(
        float(conventions["tau"]) or 1.0,  # 0 is left to variant_neuron
        float(conventions["v_th"]),
        surrogate,
        "detached" if conventions["reset_gradient"] == "detached" else "full",
        bool(conventions["fire_at_threshold"]),
        reset=reset,
        reset_amount=None if reset == "zero" or amount == "v_th" else float(amount),
    )


def norm_of(conventions: Conventions) -> BatchNorm:
    """Return batch norm's constants, as far as refsnn implements the conventions."""
    statistics = str(conventions["norm_statistics"])
    return BatchNorm(
        "pooled" if statistics == "frozen" else statistics,
        float(conventions["v_th" if conventions["norm_scale"] == "v_th" else "norm_scale"]),
        float(conventions["norm_eps"]),
        float(conventions["norm_momentum"]),
    )


#: conventions of the neuron of which refsnn implements only the paper's
FIXED = [
    name
    for name, convention in CONVENTIONS.items()
    if convention.level in ("surrogate", "neuron")
    and name not in ("tau", "v_th", "fire_at_threshold")
    and name not in ("reset", "reset_amount", "reset_gradient")
    and name not in ("surrogate", "surrogate_shape", "surrogate_edge")
]


def make_ops(conventions: Conventions, tape: Tape) -> Ops:
    """Return the operations, which record on the tape what they compute."""
    ops = NUMPY
    if (
        all(conventions[name] == PAPER[name] for name in FIXED)
        and conventions["reset_gradient"] in ("full", "detached")
        and conventions["reset"] in RESETS
        and conventions["surrogate"] in SURROGATES
        and conventions["tau"] != 0
        and not tape.decided
    ):
        ops = taped_neurons(ops, tape)
    else:
        ops = variant_neurons(ops, conventions, tape)
    if conventions["norm_statistics"] == "frozen":
        ops = replace(ops, batchnorm_forward=frozen(ops.batchnorm_forward))
    unbiased, biased = (
        conventions["norm_variance"] == "unbiased",
        conventions["norm_running"] == "biased",
    )
    if (unbiased or biased) and conventions["norm_statistics"] != "frozen":
        ops = replace(ops, **norms(unbiased, biased))
    ops = taped_norms(ops, tape)
    if conventions["norm_gradient"] != "full":
        ops = replace(ops, batchnorm_backward=constant_statistics(ops.batchnorm_backward))
    if conventions["convolution"] == "flipped":
        ops = flipped(ops)
    if conventions["pooling"] == "sum":
        ops = summed_pooling(ops)
    if conventions["skip"] != "before firing":
        ops = other_skip(ops, str(conventions["skip"]))
    if any(conventions[name] != PAPER[name] for name in ADAM):
        ops = replace(ops, adamw_update=adam(conventions))
    if conventions["nesterov"]:
        ops = replace(ops, sgd_update=nesterov_update)
    if conventions["potential_gradient"] != "carried back":
        ops = at_own_step(ops)
    if any(conventions[name] != PAPER[name] for name in ("sew_iand", "sew_gradient")):
        ops = other_join(ops, conventions)
    ops = objectives(ops, conventions)
    return at_each_step(ops) if conventions["loss_at"] == "each step" else ops


def taped_neurons(ops: Ops, tape: Tape) -> Ops:
    """Return the operations with neurons that record on the tape."""

    def forward(c_seq: Array, u0: Array | None, p: LIF) -> Any:
        o_seq, cache = ops.lif_forward(c_seq, u0, p)
        tape.fired(cache)
        return o_seq, cache

    def backward(
        do_seq: Array, cache: LIFCache, constants: bool = True, source_seq: Array | None = None
    ) -> Any:
        grads = ops.lif_backward(do_seq, cache, constants, source_seq)
        tape.deltas[id(cache)] = grads.dc_seq.copy()  # Eq. (3): dL/dc = delta
        return grads

    return replace(ops, lif_forward=forward, lif_backward=backward)


def variant_neurons(ops: Ops, conventions: Conventions, tape: Tape) -> Ops:
    """Return the operations with neurons that follow any conventions and record on the tape."""

    def forward(c_seq: Array, u0: Array | None, p: LIF) -> Any:
        index = len(tape.neurons)
        o0 = None
        kept = conventions["initial_potential"]
        if kept in ("kept", "spikes kept") and index < len(tape.before):
            u0, o0 = tape.before[index]
            u0 = u0 if kept == "kept" else None
        decided = tape.decided[index] if tape.decided else None
        v = tape.v if conventions["recurrence"] == "dense" else None
        o_seq, cache = variant_neuron.lif_forward(c_seq, u0, conventions, o0, decided, v)
        tape.fired(cache)
        return o_seq, cache

    def backward(
        do_seq: Array, cache: Any, constants: bool = True, source_seq: Array | None = None
    ) -> Any:
        grads, tape.deltas[id(cache)] = variant_neuron.lif_backward(do_seq, cache, source_seq)
        return grads

    return replace(ops, lif_forward=forward, lif_backward=backward)


def taped_norms(ops: Ops, tape: Tape) -> Ops:
    """Return the operations with batch norms that record their outputs on the tape."""

    def forward(*arguments: Any) -> Any:
        result = ops.batchnorm_forward(*arguments)
        tape.norms.append(result[0])
        return result

    return replace(ops, batchnorm_forward=forward)


def norms(unbiased_in_use: bool, biased_running: bool) -> dict[str, Any]:
    """Return batch norm that normalises by the unbiased variance, or stores the biased one."""

    def group(cache: Any) -> int:
        return int(np.prod([cache.x_hat.shape[axis] for axis in cache.axes])) if cache.axes else 0

    def forward(
        x_seq: Array, gamma: Array, beta: Array, running: Running, p: BatchNorm, training: bool
    ) -> Any:
        y, moved, cache = NUMPY.batchnorm_forward(x_seq, gamma, beta, running, p, training)
        n = group(cache)
        if n < 2:
            return y, moved, cache
        if biased_running:
            steps = 1 if p.statistics == "pooled" else len(x_seq)
            kept = (1 - p.momentum) ** steps * running.var
            moved = Running(moved.mean, kept + (moved.var - kept) * ((n - 1) / n))
        if unbiased_in_use:
            var = 1 / cache.inv_std**2 - p.eps
            inv_std = 1 / np.sqrt(var * (n / (n - 1)) + p.eps)
            cache = cache._replace(x_hat=cache.x_hat / cache.inv_std * inv_std, inv_std=inv_std)
            y = cache.x_hat * along_steps(gamma * p.scale) + along_steps(beta)
        return y, moved, cache

    def backward(dy_seq: Array, cache: Any) -> NormGrads:
        n = group(cache)
        if not unbiased_in_use or n < 2:
            return NUMPY.batchnorm_backward(dy_seq, cache)
        dx_hat = dy_seq * along_steps(cache.gamma * cache.p.scale)
        mean = dx_hat.mean(cache.axes, keepdims=True)
        along = (dx_hat * cache.x_hat).sum(cache.axes, keepdims=True) / (n - 1)
        dx = (dx_hat - mean - cache.x_hat * along) * cache.inv_std
        return NUMPY.batchnorm_backward(dy_seq, cache)._replace(dx_seq=dx)

    return {"batchnorm_forward": forward, "batchnorm_backward": backward}


def constant_statistics(backward: Any) -> Any:
    """Return batch norm's backward pass with its statistics detached."""
    return lambda dy_seq, cache: backward(dy_seq, cache._replace(axes=()))


def frozen(forward: Any) -> Any:
    """Return batch norm's forward pass by the running statistics, as in evaluation."""
    return lambda *arguments: forward(*arguments[:-1], False)


#: conventions of Adam's update
ADAM = ("adam_beta1", "adam_beta2", "adam_eps", "optimizer_bias_correction", "decay_form")


def adam(conventions: Conventions) -> Any:
    """Return Adam's update of a parameter under any conventions."""
    beta1, beta2, eps = (float(conventions[name]) for name in ADAM[:3])

    def update(
        w: Array, g: Array, mean: Array, square: Array, i: int, lr: float, decay: float
    ) -> tuple[Array, Array, Array]:
        if conventions["decay_form"] == "in the gradient":
            g, decay = g + decay * w, 0.0
        mean = beta1 * mean + (1 - beta1) * g
        square = beta2 * square + (1 - beta2) * (g * g)
        left = (1 - beta1**i, 1 - beta2**i)
        first, second = left if conventions["optimizer_bias_correction"] else (1.0, 1.0)
        direction = (mean / first) / (np.sqrt(square / second) + eps)
        return w * (1 - lr * decay) - lr * direction, mean, square

    return update


def nesterov_update(
    w: Array, g: Array, v: Array, lr: float, momentum: float, decay: float
) -> tuple[Array, Array]:
    """Update by SGD with Nesterov's momentum, as PyTorch has it."""
    g = g + decay * w
    v = momentum * v + g
    return w - lr * (g + momentum * v), v


def flipped(ops: Ops) -> Ops:
    """Return the operations with flipped kernels."""
    return replace(
        ops,
        conv_forward=lambda x, w, p: ops.conv_forward(x, np.ascontiguousarray(w[::-1, ::-1]), p),
        conv_weight_gradient=lambda dy, cache: ops.conv_weight_gradient(dy, cache)[::-1, ::-1],
    )


def summed_pooling(ops: Ops) -> Ops:
    """Return the operations with global sum pooling."""

    def forward(x: Array) -> Any:
        y, shape = ops.global_avgpool_forward(x)
        return y * (shape[1] * shape[2]), shape

    def backward(dy: Array, shape: tuple[int, ...]) -> Array:
        return ops.global_avgpool_backward(dy * (shape[1] * shape[2]), shape)

    return replace(ops, global_avgpool_forward=forward, global_avgpool_backward=backward)


class SkipCache(NamedTuple):
    """The values that the backward pass needs."""

    parts: Parts
    lif: Any
    has_skip: bool


class OtherSkip(Ops):
    """Operations that compute batch norm, skip and LIF as one, so that the skip can be changed."""

    def fuses(self, dtype: Any, p: LIF, norm: BatchNorm, neuron: Neuron | None = None) -> bool:
        return neuron is None


def other_skip(ops: Ops, skip_is: str) -> Ops:
    """Return the operations with a skip that is added after firing, or missing."""

    def forward(
        f: NormInput, skip: Array | NormInput | None, norm: BatchNorm, p: LIF, training: bool
    ) -> Any:
        c_seq, moved, f_cache = made.batchnorm_forward(*f, norm, training)
        running, skip_cache = [moved], None
        if isinstance(skip, NormInput):
            skip, moved, skip_cache = made.batchnorm_forward(*skip, norm, training)
            running.append(moved)
        o_seq, lif = made.lif_forward(c_seq, None, p)
        if skip is not None and skip_is == "after firing":
            o_seq = o_seq + skip
        return o_seq, running, SkipCache(Parts(f_cache, skip_cache, lif), lif, skip is not None)

    def backward(do_seq: Array, cache: Any, overwrite: bool = False) -> Any:
        (f_cache, skip_cache, lif), _, has_skip = cache
        dc_seq = made.lif_backward(do_seq, lif, constants=False).dc_seq
        dskip = do_seq if has_skip and skip_is == "after firing" else np.zeros_like(do_seq)
        d = made.batchnorm_backward(dc_seq, f_cache)
        return d, dskip if skip_cache is None else made.batchnorm_backward(dskip, skip_cache)

    fields = {name: getattr(ops, name) for name in ops.__dataclass_fields__}
    made = OtherSkip(**fields | {"norm_neuron_forward": forward, "norm_neuron_backward": backward})
    return made


def counted(branches: list[Any], how: str) -> list[Any]:
    """Return the branches that go into the objective, the main one last."""
    *sides, main = branches
    if how == "first missing":
        return [*sides[1:], main]
    if how == "last side missing":
        return [*sides[:-1], main]
    if how == "main twice":
        return [*sides, main, main]
    return branches


def objectives(ops: Ops, conventions: Conventions) -> Ops:
    """Return the operations with the conventions of the loss and of the branches."""
    how, total = str(conventions["branches_counted"]), conventions["loss"] == "sum"

    def forward(
        branches: list[Array],
        labels: Array,
        side: float,
        branch_sum: str = "logits",
        criterion: Loss = CROSS_ENTROPY,
    ) -> Any:
        n = len(labels) if total else 1
        loss, cache = ops.objective_forward(
            counted(branches, how), labels, side, branch_sum, criterion
        )
        return n * loss, (cache, len(branches), n)

    def backward(cache: Any) -> list[Array]:
        inner, count, n = cache
        db = [n * d for d in ops.objective_backward(inner)]
        if len(db) > count:  # the main branch twice
            return [*db[:-2], db[-2] + db[-1]]
        missing = [np.zeros_like(db[-1])] * (count - len(db))
        return missing + db if how == "first missing" else [*db[:-1], *missing, db[-1]]

    def detached(db: Any, heads: Any, blocks: Any) -> Any:
        def cut(head: Any) -> Any:
            def pull(db_l: Array) -> Any:
                dx_seq, grads = head(db_l)
                return np.zeros_like(dx_seq), grads

            return pull

        return ops.shortcut_backward(db, [*map(cut, heads[:-1]), heads[-1]], blocks)

    made = replace(ops, objective_forward=forward, objective_backward=backward)
    return replace(made, shortcut_backward=detached) if how == "detached" else made


def at_each_step(ops: Ops) -> Ops:
    """Return the operations with the mean of the losses of each time step's logits.

    A head's logits of all steps, (T N, K), are those of its linear layer. The gradients that
    objective_backward returns are sums over time, in place of which linear_backward takes each
    step's own. The operations serve one forward and one backward pass.
    """
    heads: list[tuple[Array, Any]] = []  # logits (T N, K) and cache of each linear layer
    by_cache: dict[int, Array] = {}  # dL/dlogits (T N, K) by id() of the cache

    def linear_forward(x: Array, w: Array, b: Array) -> Any:
        y, cache = ops.linear_forward(x, w, b)
        heads.append((y, cache))
        return y, cache

    def linear_backward(dy: Array, cache: Any) -> Any:
        return ops.linear_backward(by_cache[id(cache)], cache)

    def forward(branches: list[Array], labels: Array, *arguments: Any) -> Any:
        logits = [y.reshape(-1, *b.shape) for (y, _), b in zip(heads, branches, strict=True)]
        parts = [
            ops.objective_forward(list(step), labels, *arguments)
            for step in zip(*logits, strict=True)
        ]
        losses, caches = zip(*parts, strict=True)
        return float(np.mean(losses)), caches

    def backward(caches: Any) -> list[Array]:
        by_step = [ops.objective_backward(cache) for cache in caches]
        by_branch = [np.stack(db) / len(caches) for db in zip(*by_step, strict=True)]
        for (y, cache), db_seq in zip(heads, by_branch, strict=True):
            by_cache[id(cache)] = db_seq.reshape(y.shape)
        return [db_seq.sum(0) for db_seq in by_branch]

    return replace(
        ops,
        linear_forward=linear_forward,
        linear_backward=linear_backward,
        objective_forward=forward,
        objective_backward=backward,
    )
