"""Batch norms, blocks and losses of other methods, under the conventions that each of them follows.

They are refsnn's own for the conventions that it implements, and variants of them for the mistakes
that implementations make.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from refsnn.network import Params
from refsnn.ops import (
    BNTT,
    CROSS_ENTROPY,
    LIF,
    POTENTIAL_LOSSES,
    PSPBN,
    TEBN,
    TET,
    Array,
    BatchNorm,
    Distillation,
    Loss,
    Norm,
    Ops,
    PotentialLoss,
)
from refsnn.oracle.conventions import PAPER, Conventions


def norm_model_of(conventions: Conventions) -> Norm | None:
    """Return the batch norm with parameters of its own, None for gamma and beta."""
    made: dict[str, Callable[[], Norm]] = {
        "tebn": lambda: TEBN() if conventions["tebn_bias"] else PlainBias(),
        "bntt": lambda: StepNorm(conventions["bntt_weight"] == "first step"),
        "psp": lambda: PSPBN(bool(conventions["psp_root"])),
    }
    name = str(conventions["norm_model"])
    return made[name]() if name in made else None


@dataclass(frozen=True)
class PlainBias(TEBN):
    """TEBN whose p[t] does not multiply beta."""

    def affine(self, params: Params) -> tuple[Array, Array]:
        """Return p[t] gamma, and beta at every step, (T, C)."""
        gamma, _ = super().affine(params)
        return gamma, np.broadcast_to(params["bias"], gamma.shape).copy()

    def gradients(self, dgamma: Array, dbeta: Array, params: Params) -> Params:
        """Return the parameters' gradients."""
        found: Params = super().gradients(dgamma, 0 * dbeta, params)
        return found | {"bias": dbeta.sum(axis=0)}


@dataclass(frozen=True)
class StepNorm(BNTT):
    """BNTT with any eps, and perhaps the first step's weight at every step."""

    first_only: bool = False

    def constants(self, p: BatchNorm) -> BatchNorm:
        """Return the constants with statistics per step."""
        return replace(p, statistics="per_step")

    def affine(self, params: Params) -> tuple[Array, Array]:
        """Return gamma (T, C), and 0 for beta."""
        gamma, beta = super().affine(params)
        return (np.broadcast_to(gamma[:1], gamma.shape).copy() if self.first_only else gamma), beta

    def gradients(self, dgamma: Array, dbeta: Array, params: Params) -> Params:
        """Return dL/dgamma."""
        if self.first_only:
            dgamma = np.concatenate([dgamma.sum(axis=0, keepdims=True), 0 * dgamma[1:]])
        return {"weight": dgamma}


def other_join(ops: Ops, conventions: Conventions) -> Ops:
    """Return the operations with the joins of spikes under any conventions."""
    swapped = conventions["sew_iand"] == "a (1 - s)"
    how = str(conventions["sew_gradient"])

    def forward(a_seq: Array, s_seq: Array, kind: str, dtype: Any) -> Array:
        if kind == "iand" and swapped:
            a_seq, s_seq = s_seq, a_seq
        return ops.join_forward(a_seq, s_seq, kind, dtype)

    def backward(dy_seq: Array, a_seq: Array, s_seq: Array, kind: str) -> tuple[Array, Array]:
        if how == "as a sum":
            return dy_seq.copy(), dy_seq.copy()
        if kind == "iand" and swapped:
            ds_seq, da_seq = ops.join_backward(dy_seq, s_seq, a_seq, kind)
        else:
            da_seq, ds_seq = ops.join_backward(dy_seq, a_seq, s_seq, kind)
        return da_seq, 0 * ds_seq if how == "block only" else ds_seq

    return replace(ops, join_forward=forward, join_backward=backward)


def potential_loss_of(conventions: Conventions) -> PotentialLoss | None:
    """Return the loss of potentials, None without one."""
    name = str(conventions["potential_loss"])
    if name not in POTENTIAL_LOSSES:
        return None
    kind, lam = POTENTIAL_LOSSES[name], conventions["potential_lam"]
    loss = kind() if lam == "as published" else kind(float(lam))
    return loss if conventions["potential_layers"] == "as published" else Elsewhere(loss)


@dataclass(frozen=True)
class Elsewhere:
    """A loss of potentials that counts inside of blocks where it should not, and vice versa."""

    loss: PotentialLoss

    @property
    def inside_blocks(self) -> bool:
        """Tell whether layers inside of blocks count too."""
        return not self.loss.inside_blocks

    def value(self, u_pre_seq: Array, p: LIF, *moments: Any) -> float:
        """Return a layer's loss."""
        return self.loss.value(u_pre_seq, p, *moments)

    def gradient(self, u_pre_seq: Array, p: LIF, *moments: Any) -> Array:
        """Return its gradient."""
        return self.loss.gradient(u_pre_seq, p, *moments)


def at_own_step(ops: Ops) -> Ops:
    """Return the operations with a loss of potentials whose gradient is not carried back."""

    def backward(
        do_seq: Array, cache: Any, constants: bool = True, source_seq: Array | None = None
    ) -> Any:
        grads = ops.lif_backward(do_seq, cache, constants)
        return grads if source_seq is None else grads._replace(dc_seq=grads.dc_seq + source_seq)

    return replace(ops, lif_backward=backward)


def criterion_of(conventions: Conventions, teacher: Array | None) -> Loss:
    """Return the loss of logits (N, K), with the teacher's logits of the same shape if any.

    ValueError for a pull on the logits (TET) beside a teacher.
    """
    lam = float(conventions["tet_lam"])
    if teacher is None:
        return Pull(conventions) if lam else CROSS_ENTROPY
    if lam:
        raise ValueError(f"tet_lam: got {lam:g}, but teacher_loss is {conventions['teacher_loss']}")
    return Taught(teacher, conventions)


@dataclass(frozen=True)
class Pull:
    """The cross-entropy with a pull of all logits (N, K) to a constant, as TET has it."""

    conventions: Conventions

    @property
    def of_one_step(self) -> TET:
        """Return TET's loss."""
        phi = self.conventions["tet_phi"]
        lam = float(self.conventions["tet_lam"])
        return TET(lam, float(self.conventions["v_th"] if phi == "v_th" else phi))

    def times(self, classes: int) -> float:
        """Return what the pull is multiplied by."""
        return classes if self.conventions["tet_mean"] == "images" else 1.0

    def forward(self, logits: Array, labels: Array) -> tuple[float, Any]:
        """Return the loss, and the cache for its gradient."""
        tet = self.of_one_step
        value, cache = tet.forward(logits[None], labels)
        pull = tet.lam * float((cache.excess * cache.excess).mean())
        return value + (self.times(logits.shape[1]) - 1) * pull, cache

    def backward(self, cache: Any) -> Array:
        """Return dL/dlogits, (N, K)."""
        tet, excess = self.of_one_step, cache.excess
        more = (self.times(excess.shape[2]) - 1) * 2 * tet.lam / excess.size
        found: Array = tet.backward(cache) + more * excess
        return found[0]


class TaughtCache(NamedTuple):
    """The values that the backward pass needs."""

    p: Array  # (N, K), of the logits over the temperature
    q: Array  # of the teacher's
    by_entropy: Array  # dCE/dlogits


@dataclass(frozen=True)
class Taught:
    """The loss beside a teacher (KDSNN), under any conventions."""

    teacher: Array  # (N, K)
    conventions: Conventions

    @property
    def as_published(self) -> Distillation:
        """Return refsnn's own loss."""
        names = ("teacher_temperature", "teacher_weight")
        return Distillation(self.teacher, *(float(self.conventions[name]) for name in names))

    @property
    def factor(self) -> float:
        """Return what the divergence is multiplied by."""
        loss, classes = self.as_published, self.teacher.shape[1]
        squared = self.conventions["teacher_factor"] == "temperature squared"
        over_classes = self.conventions["teacher_divergence"] == "mean over classes"
        return (
            loss.alpha
            * (loss.temperature**2 if squared else 1.0)
            / (classes if over_classes else 1.0)
        )

    @property
    def is_plain(self) -> bool:
        """Tell whether refsnn's own loss follows the conventions."""
        return all(
            self.conventions[n] == PAPER[n] for n in ("teacher_factor", "teacher_divergence")
        )

    def forward(self, logits: Array, labels: Array) -> tuple[float, Any]:
        """Return the loss, and the cache for its gradient."""
        loss = self.as_published
        if self.is_plain:
            return loss.forward(logits, labels)
        p, q = (softmax(z / loss.temperature) for z in (logits, self.teacher))
        entropy, cache = CROSS_ENTROPY.forward(logits, labels)
        swapped = self.conventions["teacher_divergence"] == "KL(student, teacher)"
        terms = p * np.log(p / q) if swapped else q * np.log(q / p)
        value = self.factor * float(terms.sum(axis=1).mean()) + (1 - loss.alpha) * entropy
        return value, TaughtCache(p, q, CROSS_ENTROPY.backward(cache))

    def backward(self, cache: Any) -> Array:
        """Return dL/dlogits, (N, K)."""
        loss = self.as_published
        if self.is_plain:
            return loss.backward(cache)
        p, q, by_entropy = cache
        by_z = p - q
        if self.conventions["teacher_divergence"] == "KL(student, teacher)":
            log_ratio = np.log(p / q)
            by_z = p * (log_ratio - (p * log_ratio).sum(axis=1, keepdims=True))
        found: Array = self.factor * by_z / (loss.temperature * len(p))
        return found + (1 - loss.alpha) * by_entropy


def softmax(z: Array) -> Array:
    """Return the softmax of each row."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)
