"""Calibration of parameters so that the neurons fire at a given rate."""

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

IMAGES = 8  # images of the batch that the biases are found on
PASSES = 20
UNNORMALISED = "head.lif"  # no batch norm precedes this layer, so its rate stays as it is
CLOSE, ENOUGH = 0.04, 0.2  # relative errors: stop below the first, refuse above the second


def bias_of(neuron: str) -> str:
    """Return the name of the parameter that shifts a layer's input: its batch norm's bias."""
    return neuron.replace(".lif", ".bn") + ".bias"


def probit(rate: float) -> float:
    """Return the normal distribution's quantile of a firing rate, which is kept off 0 and 1."""
    return NormalDist().inv_cdf(min(max(rate, 1e-5), 1 - 1e-5))


def calibrate(
    net: Network, params: Params, buffers: Params, x_seq: Array, target: float, ops: Ops
) -> Params:
    """Return `params` with shifted biases, so that each layer's firing rate is about `target`.

    A normalised input is roughly normal, so probit(rate) is roughly linear in the bias. All layers
    take secant steps at once; they hardly disturb one another, since the next batch norm removes
    most of a change. ValueError where the rate can't be reached.
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
    """Write the numbers that every library starts from, and return their firing rates.

    Runs one step of the phase too, so that no measured worker has to compile kernels.
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
