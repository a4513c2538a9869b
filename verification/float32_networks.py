"""Checks of whole float32 networks by every method of convolution, against NumPy in float64."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import Forward, backward, forward, neuron_caches
from refsnn.ops import NUMPY
from verification import cases
from verification.networks import compare_spikes, condition, gradient_unit, side_clause
from verification.record import Recorder
from verification.registry import check

#: widths of the stem and the stages; Winograd's method takes 16 and 32 channels
WIDTHS = st.sampled_from([16, 16, 32, 5, 20])
#: Potentials are off by up to 6e-6 of their layer's largest, as Winograd's sums are (measured over
#: 1000 draws). A draw with a potential nearer than this to the threshold or a kink is rejected.
MARGIN = 1.2e-5
MAGNIFIED = 20.0  # most that a batch norm may magnify errors
VALUES, GRADIENTS = 2e-5, 1e-4


@st.composite
def float_cases(draw: Any) -> cases.NetCase:
    """Draw small networks whose parameters, statistics and input float32 holds exactly."""
    stages = draw(st.integers(1, 2))
    stem, room = draw(st.sampled_from(cases.STEMS[:2]))
    net = {
        "in_channels": draw(st.sampled_from([1, 3])),
        "num_classes": 4,
        "stem": stem | {"width": draw(WIDTHS)},
        "depths": tuple(draw(st.integers(1, 2)) for _ in range(stages)),
        "widths": tuple(draw(WIDTHS) for _ in range(stages)),
        "hidden": draw(st.sampled_from([0, 0, 5])),
        "branches": draw(st.sampled_from(["stage", "block", "none"])),
        "downsample": draw(st.sampled_from(["conv", "avgpool"])),
        "readout": draw(st.sampled_from(["mean", "sum"])),
        "neuron": draw(cases.neurons()),
        "norm": draw(cases.NORMS),
    }
    model, rng = cases.network_of(net), np.random.default_rng(draw(cases.SEEDS))
    size = room * 2 ** (stages - 1) * draw(st.sampled_from([2, 3] if room == 1 else [1, 2]))
    n = 2 if size > 4 else 4
    numbers = cases.random_numbers(model, rng)
    params, buffers = (as_type(as_type(x, np.float32), np.float64) for x in numbers)
    x_seq = rng.normal(size=(draw(st.integers(1, 2)), n, size, size, net["in_channels"]))
    return cases.NetCase(
        net,
        model,
        params,
        buffers,
        x_seq.astype(np.float32).astype(float),
        rng.integers(0, 4, n),
        draw(st.sampled_from([0.25, 1.0, 0.0])),
        "logits",
        draw(st.sampled_from([True, True, False])),
        rng,
        NUMPY,
    )


def as_type(arrays: dict[str, Any], dtype: Any) -> dict[str, Any]:
    return {name: value.astype(dtype) for name, value in arrays.items()}


def run(case: cases.NetCase, ops: Any, dtype: Any) -> tuple[Forward, dict[str, Any]]:
    params, buffers = as_type(case.params, dtype), as_type(case.buffers, dtype)
    found = forward(case.model, params, buffers, case.x_seq.astype(dtype), ops, case.training)
    _, cache = ops.objective_forward(found.branches, case.labels, case.side, case.branch_sum)
    return found, backward(found, ops.objective_backward(cache))


@check(
    "networks in float32",
    "float32",
    "D7 D9 EQ5 D10 D12 D25 EQ6 EQ7 EQ10 EQ8 EQ9",
    float_cases(),
    quick=12,
    full=250,
)
def float_networks(case: Any, record: Recorder) -> None:
    """Check that spikes are equal in every layer, and compare logits, statistics and gradients.

    Logits are off only by the last layer's rounding; gradients pass through convolutions, each of
    which may be off by Winograd's 1e-5.
    """
    want, wanted = run(case, NUMPY, np.float64)
    layers = dict(neuron_caches(want))
    for cache in layers.values():
        margin = MARGIN * float(np.abs(cache.u_pre_seq).max())
        if cases.near_threshold(cache.u_pre_seq, case.net["neuron"]) < margin:
            record.reject()
    if condition(want) > MAGNIFIED:
        record.reject()
    unit = gradient_unit(want, wanted, 1e-3)
    for method in cases.conv_methods():
        found, grads = run(case, cases.get_ops("numba", method), np.float32)
        compare_spikes(found, {name: cache.o_seq for name, cache in layers.items()}, record)
        for index, (got, b) in enumerate(zip(found.branches, want.branches, strict=True)):
            clause = "D10" if index == len(want.branches) - 1 else "D12"
            record.equal(clause, f"dtype of branch {index + 1}", got.dtype, np.float32)
            record.close(clause, f"branch {index + 1} by {method}", got, b, VALUES, axes="nk")
        for name, value in want.buffers.items():
            record.close("D25", f"{name} by {method}", found.buffers[name], value, VALUES)
        record.values_ok()
        record.equal("EQ9", "names of gradients", list(grads), list(wanted))
        for name in reversed(list(grads)):
            clause = "EQ9" if name.startswith("branch.") else "EQ8"
            record.equal(clause, f"dtype of {name}", grads[name].dtype, np.float32)
            record.close(
                f"{clause} {side_clause(case.side)}",
                f"gradient of {name} by {method}",
                grads[name],
                wanted[name],
                GRADIENTS,
                unit(name),
            )
