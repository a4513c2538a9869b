"""Parameters whose neurons fire at a density that is asked for."""

from statistics import NormalDist, fmean
from typing import Any

from refsnn.bench.workload import (
    Spec,
    batch_of,
    fresh_numbers,
    network_of,
    ops_of,
    refsnn_step,
    save_numbers,
    with_batch_statistics,
)
from refsnn.network import Network, Params, encode, forward
from refsnn.ops import Array, Ops
from refsnn.training.monitor import firing_rates

IMAGES = 8  # of the batch, on which biases are found
PASSES = 20
UNNORMALISED = "head.lif"  # its inputs hardly differ; it stays as it is
CLOSE, ENOUGH = 0.04, 0.2  # relative distance at which to stop, and at which to be content


def bias_of(neuron: str) -> str:
    """The parameter that shifts the input of a layer of neurons: its batch norm's bias."""
    return neuron.replace(".lif", ".bn") + ".bias"


def probit(rate: float) -> float:
    return NormalDist().inv_cdf(min(max(rate, 1e-5), 1 - 1e-5))


def calibrate(
    net: Network, params: Params, buffers: Params, x_seq: Array, target: float, ops: Ops
) -> Params:
    """`params` with one shift a layer, so that each fires about `target` spikes a step.

    Normalised inputs are about normal, so that probit(rate) is about linear in the
    bias: secant steps of all layers at once, which hardly disturb one another, as batch
    norm takes out most of what a layer's input changed by.
    """
    params, goal = dict(params), probit(target)
    gains: dict[str, float] = {}
    before: dict[str, tuple[float, float]] = {}  # last shift, and the probit it was made from
    worst = "", target
    for _ in range(PASSES):
        rates = firing_rates(forward(net, params, buffers, x_seq, ops))
        rates.pop(UNNORMALISED, None)
        worst = max(rates.items(), key=lambda item: abs(item[1] - target))
        if abs(worst[1] - target) < CLOSE * target:
            return params
        for neuron, rate in rates.items():
            z = probit(rate)
            if neuron in before:
                shift, z_before = before[neuron]
                if abs(z - z_before) > 1e-3:
                    gains[neuron] = min(max(shift / (z - z_before), 0.3), 3.0)
            shift = gains.get(neuron, 1.0) * (goal - z)
            before[neuron] = shift, z
            bias = params[bias_of(neuron)]
            params[bias_of(neuron)] = bias + bias.dtype.type(shift)
    if abs(worst[1] - target) < ENOUGH * target:
        return params
    raise ValueError(
        f"density: got {target}, but {worst[0]} stays at {worst[1]:.3g}; want one that "
        "this network can reach"
    )


def prepare(spec: Spec) -> dict[str, Any]:
    """Write the numbers that every library's worker starts from, and measure their density.

    Runs one step of the phase too, so that no worker that is measured has to compile.
    """
    net, ops, (images, _) = network_of(spec), ops_of(spec), batch_of(spec)
    params, buffers = fresh_numbers(spec)
    if spec.density is not None:
        few = encode(images[:IMAGES], spec.steps)
        params = calibrate(net, params, buffers, few, spec.density, ops)
    x_seq = encode(images, spec.steps)
    run = forward(with_batch_statistics(net), params, buffers, x_seq, ops)
    if spec.phase == "inference":
        buffers = run.buffers
        run = forward(net, params, buffers, x_seq, ops, training=False)
    rates = list(firing_rates(run).values())
    save_numbers(spec.numbers, params, buffers)
    del run
    refsnn_step(spec, params, buffers)(ops)
    return {"density": fmean(rates), "density_range": [min(rates), max(rates)]}
