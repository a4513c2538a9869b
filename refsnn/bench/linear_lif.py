"""One linear layer and one layer of LIF neurons over many steps: the workload of Open Neuromorphic.

Its step, in phase `train`, is a forward and a backward pass, which gives the gradients of the
input, the weights and the bias; there is no optimiser.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from refsnn.bench.workload import LINEAR_LIF, Spec, ops_of, save_numbers
from refsnn.network import Params
from refsnn.ops import LIF, Array, Ops, validate

NEURONS = (512, 2048)  # those that are measured by the plain name
STEPS = 500  # by default
MOST = 1 << 16  # limit of the neurons


def names(arch: str) -> list[str]:
    """Return linear-lif as linear-lif:512 and so on, and any other name as it is."""
    return [f"{LINEAR_LIF}:{width}" for width in NEURONS] if arch == LINEAR_LIF else [arch]


def width_of(arch: str) -> int:
    """Return the number of neurons; ValueError where it is none."""
    text = arch.partition(":")[2]
    if not text.isdecimal() or not 1 <= int(text) <= MOST:
        raise ValueError(
            f"arch: got {validate.shown(arch)}, want {LINEAR_LIF}:N of 1 to {MOST} neurons"
        )
    return int(text)


def inputs_of(spec: Spec) -> Array:
    """Return the input (T N, in), the same in every process."""
    rng = np.random.default_rng(spec.seed)
    size = spec.steps * spec.batch_size, width_of(spec.arch)
    return rng.standard_normal(size, np.float32)


def draw_numbers(spec: Spec) -> Params:
    """Draw weights and biases as PyTorch's linear layer does: uniform within 1/sqrt(in)."""
    width, rng = width_of(spec.arch), np.random.default_rng(spec.seed + 1)
    bound = 1 / np.sqrt(width)
    shapes = {"weight": (width, width), "bias": (width,)}
    return {n: rng.uniform(-bound, bound, s).astype(np.float32) for n, s in shapes.items()}


def prepare(spec: Spec) -> dict[str, Any]:
    """Write the numbers that every library starts from, and return the firing rate.

    Runs a step too, so that no measured worker has to compile kernels.
    """
    params = draw_numbers(spec)
    save_numbers(spec.numbers, params, {})
    rate = float(refsnn_step(spec, params)(ops_of(spec)).mean())
    return {"density": rate, "density_range": [rate, rate]}


def refsnn_step(spec: Spec, params: Params) -> Callable[[Ops], Array]:
    """Return a function that computes one step with given operations; it returns the spikes."""
    x, do_seq = inputs_of(spec), np.ones((), np.float32)

    def step(ops: Ops) -> Array:
        y, linear = ops.linear_forward(x, params["weight"], params["bias"])
        o_seq, lif = ops.lif_forward(y.reshape(spec.steps, spec.batch_size, -1), None, LIF())
        if spec.phase == "train":
            do = np.broadcast_to(do_seq, o_seq.shape)  # of the loss sum(o)
            dc_seq = ops.lif_backward(do, lif, constants=False).dc_seq
            ops.linear_backward(dc_seq.reshape(y.shape), linear)
        return o_seq

    return step


def peer_step(spec: Spec, params: Params) -> Callable[[], Any]:
    """Return a function that computes one step in the spec's library; it returns the spikes."""
    import torch
    from torch.nn import functional as F

    from refsnn.bench.peer_neurons import NEURONS as LAYERS
    from refsnn.bench.peers import reset

    train = spec.phase == "train"
    neurons = LAYERS[spec.library](spec.steps, LIF())
    x = torch.from_numpy(inputs_of(spec)).requires_grad_(train)
    w = torch.from_numpy(params["weight"].T.copy()).requires_grad_(train)
    b = torch.from_numpy(params["bias"].copy()).requires_grad_(train)

    def step() -> Any:
        reset(neurons, spec.library)
        x.grad = w.grad = b.grad = None
        with torch.set_grad_enabled(train):
            spikes = neurons(F.linear(x, w, b))
            if train:
                spikes.sum().backward()
        return spikes.detach()

    return step
