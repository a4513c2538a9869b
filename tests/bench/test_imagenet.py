"""A training step at ImageNet's size: within memory, and its gradient that of float64."""

import numpy as np
import pytest

from refsnn.bench import measure
from refsnn.bench.processes import Worker
from refsnn.bench.workload import Spec
from refsnn.network import (
    Network,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import get_ops

SPEC = Spec(arch="resnet18-imagenet", size=224, batch_size=8, steps=4)


@pytest.mark.processes
@pytest.mark.slow
def test_a_step_of_eight_images_takes_less_than_six_gigabytes():
    with measure.prepared(SPEC) as (spec, _), Worker(spec) as worker:
        worker.answer()
        step = worker.ask("step")
    assert 300 < step["peak_mib"] < 6 * 1024


def gradients(dtype, images, labels):
    net, ops = Network(architecture(SPEC.arch), 3, 1000, "stage"), get_ops("numba")
    rng = np.random.default_rng(0)
    params = init_params(net, rng, np.float64)
    params, buffers = (
        {name: value.astype(dtype) for name, value in values.items()}
        for values in (params, init_buffers(net))
    )
    run = forward(net, params, buffers, encode(images.astype(dtype), 1), ops)
    loss, cache = ops.objective_forward(run.branches, labels, side=0.25)
    return loss, backward(run, ops.objective_backward(cache))


@pytest.mark.slow
def test_both_precisions_have_one_gradient():
    """To 1e-5, and a spike that rounding moves would change it by about 1e-3."""
    rng = np.random.default_rng(1)
    images, labels = rng.normal(size=(2, 224, 224, 3)), rng.integers(1000, size=2)
    loss, quick = gradients(np.float32, images, labels)
    want, exact = gradients(np.float64, images, labels)
    assert abs(loss - want) < 1e-4
    for name, value in exact.items():
        off = np.linalg.norm(quick[name] - value) / np.linalg.norm(value)
        assert off < 1e-3, name
