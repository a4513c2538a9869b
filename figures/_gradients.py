"""Gradients of untrained networks on one batch, for several figures."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from refsnn.data import Dataset
from refsnn.experiments.gradient_flow import watch
from refsnn.network import (
    Forward,
    Network,
    Params,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import LIF, Array, Ops, get_ops
from refsnn.training.monitor import norm

#: the side branches' weight: Eq. 7, Eq. 6, and Eq. 10 at the beginning of training
SIDES = {"vanilla": 0.0, "shortcut": 1.0, "evolutionary": 0.25}


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread in this context, since waiting threads would slow such small layers."""
    from refsnn.kernels.threads import get_num_threads, set_num_threads

    threads = get_num_threads()
    set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        set_num_threads(threads)


def of_depth(depth: int) -> str:
    """Return the CIFAR ResNet (16-32-64, D21) with `depth` layers: 6 n + 2, n blocks per stage."""
    n, rest = divmod(depth - 2, 6)
    if n < 1 or rest:
        raise ValueError(f"depths: got {depth}, want 6 n + 2: 8, 14, 20, ...")
    return f"{n}-{n}-{n}:16-32-64"


def fresh(
    arch: str,
    dataset: Dataset,
    lif: LIF,
    seed: int,
    batch_size: int,
    steps: int,
    ops: Ops,
    **settings: Any,
) -> tuple[Forward, Array]:
    """Return a forward pass of initial float32 parameters (D18) on training images, and the labels.

    The same seed selects the same images for every architecture. `settings` are other ones of
    `Network`.
    """
    images, labels = dataset.train.images, dataset.train.labels
    if not 0 < batch_size <= len(labels):
        raise ValueError(f"batch_size: got {batch_size}, want 1 to {len(labels)}")
    sizes = images.shape[-1], dataset.num_classes
    net = Network(architecture(arch), *sizes, lif=lif, steps=steps, **settings)
    init_rng, data_rng = np.random.default_rng(seed).spawn(2)
    params, buffers = init_params(net, init_rng, np.float32), init_buffers(net, np.float32)
    which = data_rng.permutation(len(labels))[:batch_size]
    x, labels = dataset.batch(dataset.train, which, np.float32)
    return forward(net, params, buffers, encode(x, steps), ops), labels


def branch_gradients(run: Forward, labels: Array, side: float) -> list[Array]:
    """Return dL/db_l of every branch, with the side branches weighted by `side`."""
    ops = run.context.ops
    _, cache = ops.objective_forward(run.branches, labels, side)
    return ops.objective_backward(cache)


def pull_back(run: Forward, labels: Array, side: float) -> Params:
    """Return every parameter's gradient (Eq. 9)."""
    return backward(run, branch_gradients(run, labels, side))


def with_surrogate(run: Forward, lif: LIF) -> Forward:
    """Return a forward pass of float32 kernels whose backward pass uses the surrogate of `lif`.

    The surrogate does not change the spikes, so one forward pass serves any number of surrogates.
    """
    fused = run.context.ops.norm_neuron_backward

    def norm_neuron_backward(do_seq: Array, cache: Any) -> Any:
        return fused(do_seq, cache._replace(p=lif))

    ops = replace(run.context.ops, norm_neuron_backward=norm_neuron_backward)
    return run._replace(context=run.context._replace(ops=ops))


def unfused() -> Ops:
    """Return the kernels without fused batch norm and neuron, for `delta_norms`."""
    return replace(get_ops("numba"), norm_neuron_forward=None, norm_neuron_backward=None)


def delta_norms(run: Forward, labels: Array, side: float) -> tuple[Params, dict[str, float]]:
    """Return the gradients, and the norm of dL/du_pre over all steps by layer of neurons."""
    db = branch_gradients(run, labels, side)
    grads, norms = watch(run, db, lambda do_seq, delta_seq, cache: norm(delta_seq))
    return grads, dict(reversed(norms.items()))


def log10_norm(name: str, value: float) -> float:
    """Return log10 of a norm; ValueError where the norm is beyond the range of float32."""
    if not 0 < value < np.inf:
        raise ValueError(f"{name}: a gradient's norm is {value}, beyond float32")
    return float(np.log10(value))
