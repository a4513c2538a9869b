"""Where fused layers read and write: layouts, threads, memory that holds other numbers."""

import numpy as np
import pytest
from fused_layers import COMPILED, MODES, SKIPS, SURROGATES, Given, arrays, drawn, everything

from refsnn.equations.batchnorm import BatchNorm
from refsnn.equations.lif import LIF
from refsnn.kernels import fused_backward, fused_forward, norm_statistics, slopes
from refsnn.kernels.norm_neuron import norm_neuron_backward, norm_neuron_forward
from refsnn.kernels.threads import get_num_threads


@SKIPS
@MODES
def test_the_number_of_threads_does_not_change_a_bit(
    statistics, training, skip, with_threads, assert_same_bits
):
    size = (2, 20, 8, 8, 80) if COMPILED else (1, 8, 8, 8, 65)
    setting = drawn(size, skip), BatchNorm(statistics), LIF(), training
    many = with_threads(get_num_threads(), everything, *setting)
    for a, b in zip(with_threads(1, everything, *setting), many, strict=True):
        assert_same_bits(a, b)


@SKIPS
def test_nothing_given_is_written_and_each_call_gives_the_same_bits(skip, assert_same_bits):
    layer = drawn((3, 2, 4, 4, 20), skip)
    copies = [a.copy() for a in arrays(layer)]
    setting = layer, BatchNorm(), LIF(), True
    first = everything(*setting)
    everything(drawn((3, 2, 4, 4, 20), skip, seed=1), *setting[1:])
    for a, b in zip(everything(*setting), first, strict=True):
        assert_same_bits(a, b)
    for a, b in zip(arrays(layer), copies, strict=True):
        assert_same_bits(a, b)
    _, _, cache = norm_neuron_forward(*layer[:2], *setting[1:])
    d, _ = norm_neuron_backward(layer.do, cache)
    again, _ = norm_neuron_backward(layer.do, cache)
    assert_same_bits(d.dx_seq, again.dx_seq)
    assert not np.shares_memory(d.dx_seq, again.dx_seq)


@SKIPS
@pytest.mark.parametrize("memory", ["its own", "read-only", "of every second element"])
def test_the_gradient_may_take_the_memory_of_the_one_it_comes_from(skip, memory, assert_same_bits):
    """But not where that may not be written, nor what lies between its elements."""
    layer = drawn((3, 2, 4, 4, 20), skip)
    _, _, cache = norm_neuron_forward(*layer[:2], BatchNorm(), LIF(), True)
    want = norm_neuron_backward(layer.do, cache)
    do = {
        "its own": layer.do.copy(),
        "read-only": np.broadcast_to(layer.do, layer.do.shape),
        "of every second element": np.repeat(layer.do, 2, axis=-1)[..., ::2],
    }[memory]
    d, dskip = norm_neuron_backward(do, cache, True)
    given = [dskip] if isinstance(dskip, np.ndarray) else [] if dskip is None else [dskip.dx_seq]
    wanted = [x if isinstance(x, np.ndarray) else x.dx_seq for x in want if x is not None]
    for a, b in zip([d.dx_seq, *given], wanted, strict=True):
        assert_same_bits(a, b)
    assert any(np.shares_memory(do, x) for x in [d.dx_seq, *given]) == (memory == "its own")
    if memory != "its own":
        assert_same_bits(do, layer.do)


@pytest.mark.slow
def test_read_only_arrays_give_the_same_bits(assert_same_bits):
    layer, *setting = drawn((3, 2, 4, 4, 20), "normed"), BatchNorm(), LIF(), True
    want = everything(layer, *setting)
    for a in arrays(layer):
        a.flags.writeable = False
    for a, b in zip(everything(layer, *setting), want, strict=True):
        assert_same_bits(a, b)


@SKIPS
def test_inputs_that_are_not_contiguous_give_the_same_bits(skip, assert_same_bits):
    layer = drawn((3, 2, 4, 5, 6), skip)

    def turned(x):
        if isinstance(x, np.ndarray):
            return np.asfortranarray(x) if x.ndim == 5 else np.repeat(x, 2)[::2]
        return type(x)(*map(turned, x)) if isinstance(x, tuple) else x

    setting = BatchNorm(), LIF(), True
    assert not turned(layer).do.flags.c_contiguous
    for a, b in zip(everything(turned(layer), *setting), everything(layer, *setting), strict=True):
        assert_same_bits(a, b)


def test_a_skip_the_same_at_every_step_may_stand_in_memory_once(assert_same_bits):
    norm_input, skip, do = drawn((4, 2, 3, 3, 5), "numbers")
    once = np.broadcast_to(skip[:1], skip.shape)
    setting = BatchNorm(), LIF(), True
    got, want = (everything(Given(norm_input, s, do), *setting) for s in (once, once.copy()))
    for a, b in zip(got, want, strict=True):
        assert_same_bits(a, b)


@MODES
@pytest.mark.parametrize("size", [(4, 2, 3, 3, 5), (3, 9, 8, 8, 16)], ids=str)
def test_an_input_the_same_at_every_step_may_stand_in_memory_once(size, statistics, training):
    """Its statistics are those of one step, which sum in another order."""
    norm_input, skip, do = drawn(size, "spikes", whole=True)
    once = np.broadcast_to(norm_input.x_seq[:1], size)
    both = []
    for x_seq in (once, once.copy()):
        layer = Given(norm_input._replace(x_seq=x_seq), skip, do)
        both.append(everything(layer, BatchNorm(statistics), LIF(), training))
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    assert np.array_equal(both[0][0], both[1][0])


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_neither_sizes_nor_layouts_make_anything_compile_again(compiled):
    def all_kinds(size):
        for skip in ("none", "numbers", "spikes", "normed"):
            for surrogate in SURROGATES:
                everything(drawn(size, skip), BatchNorm(), LIF(surrogate=surrogate), True)

    all_kinds((2, 1, 2, 2, 3))
    modules = fused_backward, fused_forward, norm_statistics, slopes
    before = compiled(*modules)
    all_kinds((3, 2, 1, 4, 5))
    assert compiled(*modules) == before > 0


@SKIPS
@MODES
@pytest.mark.parametrize("size", [(1, 1, 1, 1, 1), (3, 2, 3, 5, 7), (2, 1, 1, 3, 1100)], ids=str)
def test_every_element_is_written(size, statistics, training, skip, poisons, assert_same_bits):
    first, *others = poisons(everything, drawn(size, skip), BatchNorm(statistics), LIF(), training)
    for other in others:
        for a, b in zip(other, first, strict=True):
            assert_same_bits(a, b)
