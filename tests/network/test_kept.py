"""Where memory is low only spikes are kept, and everything has the same bits as otherwise."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from refsnn.network import (
    Network,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
)
from refsnn.network.block import Unit
from refsnn.network.kept import Kept, recomputed
from refsnn.network.model import units
from refsnn.network.packed import Packer, pack
from refsnn.ops import NUMPY, get_ops
from refsnn.training.monitor import firing_rates


def numbers(net, dtype):
    params = init_params(net, np.random.default_rng(0), dtype)
    rng = np.random.default_rng(1)
    images = rng.normal(size=(3, 10, 8, 3)).astype(dtype)
    return params, init_buffers(net, dtype), images


@pytest.mark.parametrize("arch", ["1-2:5-16", "resnet20m", "resnet18-imagenet"])
@pytest.mark.parametrize(
    ("ops", "dtype"), [("numpy", np.float64), ("numba", np.float32), ("numba", np.float64)]
)
@pytest.mark.parametrize(("training", "downsample"), [(True, "conv"), (False, "avgpool")])
def test_results_have_the_same_bits(arch, ops, dtype, training, downsample):
    arch = replace(architecture(arch)).scaled(1 if ":" in arch else 1 / 16)
    net = Network(arch, 3, 4, downsample=downsample)
    params, buffers, images = numbers(net, dtype)
    if downsample == "avgpool":  # which wants even sizes in every stage
        images = np.random.default_rng(1).normal(size=(2, 32, 32, 3)).astype(dtype)
    found = []
    for keep in ("all", "spikes"):
        x_seq = encode(images, 3)
        run = forward(net, params, buffers, x_seq, get_ops(ops), training, keep)
        grads = backward(run, [np.sin(b) for b in run.branches])
        caches = {name: cache.u_pre_seq for name, cache in neuron_caches(run)}
        found.append(
            {
                **{f"grads {name}": g for name, g in grads.items()},
                **{f"buffers {name}": b for name, b in run.buffers.items()},
                **{f"rate {name}": r for name, r in firing_rates(run).items()},
                **{f"potentials {name}": u for name, u in caches.items()},
                **{f"branch {i}": b for i, b in enumerate(run.branches)},
            }
        )
    assert list(found[0]) == list(found[1])
    for name, value in found[0].items():
        assert np.array_equal(value, found[1][name], equal_nan=True), name


@pytest.mark.parametrize("keep", ["all", "spikes"])
def test_gradients_are_computed_in_place_where_memory_is_low(keep):
    net = Network(architecture("1-1:4-8"), 3, 4)
    params, buffers, images = numbers(net, np.float32)
    ops, in_place = get_ops("numba"), []

    def watched(do_seq, cache, *overwrite):
        d, dskip = ops.norm_neuron_backward(do_seq, cache, *overwrite)
        given = [d.dx_seq, *([dskip] if isinstance(dskip, np.ndarray) else [])]
        in_place.append(any(np.shares_memory(do_seq, x) for x in given))
        return d, dskip

    watching = replace(ops, norm_neuron_backward=watched)
    run = forward(net, params, buffers, encode(images[:, :8], 2), watching, True, keep)
    backward(run, [np.sin(b) for b in run.branches])
    assert in_place == [keep == "spikes"] * 5


def test_recordings_are_kept_as_they_are():
    net = Network(architecture("1-1:4-8"), 3, 4)
    params, buffers, _ = numbers(net, np.float32)
    frames = np.random.default_rng(3).normal(size=(2, 3, 8, 8, 3)).astype(np.float32)
    found = []
    for keep in ("all", "spikes"):
        run = forward(net, params, buffers, encode(frames, 3), get_ops("numba"), True, keep)
        found.append(backward(run, [np.sin(b) for b in run.branches]))
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])


def test_spikes_are_kept_as_bits():
    spikes = (np.random.default_rng(0).random((2, 3, 5, 7)) < 0.3).astype(np.uint8)
    packed = pack(spikes)
    assert packed.values.nbytes == -(-spikes.size // 8)
    assert np.array_equal(packed.unpack(), spikes)
    assert packed.unpack().dtype == np.uint8
    numbers_ = np.array([0.5, 1.0])
    assert pack(numbers_).unpack() is numbers_


def test_spikes_are_packed_once():
    packer, spikes = Packer(), np.ones((2, 3, 5), np.uint8)
    packed = packer.pack(spikes)
    assert packer.pack(spikes) is packed
    other = spikes.copy()
    packer.known[id(other)] = packer.known[id(spikes)]  # the array that had this id is another one
    assert packer.pack(other) is not packed
    assert np.array_equal(packer.pack(other).unpack(), other)


def test_memory_grows_with_the_steps_by_the_packed_spikes_alone():
    net = Network(architecture("2-2:8-16"), 3, 4)
    params, buffers, _ = numbers(net, np.float32)
    images = np.random.default_rng(0).normal(size=(4, 32, 32, 3)).astype(np.float32)
    ops = get_ops("numba")

    def kept(steps, keep):
        tracemalloc.start()
        run = forward(net, params, buffers, encode(images, steps), ops, True, keep)
        size = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert len(run.segments) == 2
        return size

    kept(2, "spikes")  # compiles
    elements = sum(
        cache.o_seq.size
        for _, cache in neuron_caches(forward(net, params, buffers, encode(images, 1), ops))
    )
    growth = (kept(24, "spikes") - kept(8, "spikes")) / 16
    assert growth <= 1.1 * elements / 8  # each layer's spikes, once, a bit each
    assert (kept(24, "all") - kept(8, "all")) / 16 >= 5 * elements * 0.9  # four bytes and one


def test_parts_are_computed_again_only_where_they_were_not_kept():
    net = Network(architecture("1-1:4-8"), 3, 4)
    params, buffers, images = numbers(net, np.float64)
    run = forward(net, params, buffers, encode(images, 2), NUMPY, True, "spikes")
    assert all(isinstance(unit, Kept) for unit in units(run))
    assert all(isinstance(recomputed(unit), Unit) for unit in units(run))
    run = forward(net, params, buffers, encode(images, 2), NUMPY)
    assert all(recomputed(unit) is unit for unit in units(run))


def test_nothing_is_kept_where_no_backward_pass_follows():
    net = Network(architecture("1-1:4-8"), 3, 4)
    params, buffers, images = numbers(net, np.float64)
    given = net, params, buffers, encode(images, 2), NUMPY
    run, want = (forward(*given, training=False, keep=keep) for keep in ("nothing", "all"))
    assert all(np.array_equal(a, b) for a, b in zip(run.branches, want.branches, strict=True))
    assert list(units(run)) == [None] * 5
    for wrong, training in (("nothing", True), ("spike", False)):
        with pytest.raises(ValueError, match=f"^keep: got '{wrong}'"):
            forward(*given, training=training, keep=wrong)
