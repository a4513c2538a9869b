"""Fused layers refuse wrong inputs, and those that they can't compute."""

import numpy as np
import pytest
from fused_layers import drawn

from refsnn.equations.batchnorm import BatchNorm, NormInput, Running
from refsnn.equations.lif import LIF
from refsnn.equations.surrogate import Tanh
from refsnn.kernels.norm_neuron import norm_neuron_backward, norm_neuron_forward


def test_a_cotangent_unlike_the_spikes_is_refused():
    norm_input, skip, do = drawn((2, 1, 2, 2, 3))
    _, _, cache = norm_neuron_forward(norm_input, skip, BatchNorm(), LIF(), True)
    for wrong in (do[:1], do[..., :2], do.astype(float)):
        with pytest.raises(ValueError, match=r"^do_seq: got .* like o_seq"):
            norm_neuron_backward(wrong, cache)
    with pytest.raises(TypeError, match=r"^do_seq: got dtype uint8, want float"):
        norm_neuron_backward(cache.o_seq, cache)
    with pytest.raises(TypeError, match=r"^do_seq: got list"):
        norm_neuron_backward(do.tolist(), cache)


def test_a_normalised_skip_unlike_the_input_is_refused():
    norm_input, skip, _ = drawn((2, 1, 2, 2, 3), "normed")
    for wrong in (skip.x_seq[:1], skip.x_seq[..., :2], skip.x_seq.astype(float)):
        with pytest.raises(ValueError, match=r"^skip: got .* like x_seq"):
            norm_neuron_forward(norm_input, skip._replace(x_seq=wrong), BatchNorm(), LIF(), True)


@pytest.mark.parametrize(
    "skip",
    [
        np.ones((2, 1, 2, 2, 1), np.float32),
        np.ones((1, 1, 2, 2, 3), np.float32),
        np.ones((2, 1, 2, 2, 3)),
        np.ones((2, 1, 2, 2, 1), np.uint8),
    ],
    ids=["channels", "steps", "dtype", "spikes of other channels"],
)
def test_a_skip_unlike_the_input_never_reaches_the_kernel(skip):
    one, zero = np.ones(3, np.float32), np.zeros(3, np.float32)
    norm_input = NormInput(np.ones((2, 1, 2, 2, 3), np.float32), one, zero, Running(zero, one))
    with pytest.raises((ValueError, TypeError), match=r"^skip: got "):
        norm_neuron_forward(norm_input, skip, BatchNorm(), LIF(), True)


@pytest.mark.parametrize("name", ["gamma", "beta", "running"])
@pytest.mark.parametrize("of_skip", [False, True])
def test_numbers_of_a_batch_norm_for_other_channels_are_refused(name, of_skip):
    norm_input, skip, _ = drawn((2, 1, 2, 2, 3), "normed")
    short = np.ones(2, np.float32)
    wrong = {name: Running(short, short) if name == "running" else short}
    norm_input, skip = (
        (norm_input, skip._replace(**wrong)) if of_skip else (norm_input._replace(**wrong), skip)
    )
    with pytest.raises(
        ValueError, match=rf"^{'mean' if name == 'running' else name}: got .*\(2,\)"
    ):
        norm_neuron_forward(norm_input, skip, BatchNorm(), LIF(), True)


def test_layers_that_the_fused_pass_cannot_compute_are_refused():
    norm_input, _, _ = drawn((2, 1, 2, 2, 3))
    with pytest.raises(ValueError, match=r"^x_seq: got shape \(1, 2, 2, 3\)"):
        norm_neuron_forward(
            norm_input._replace(x_seq=norm_input.x_seq[0]), None, BatchNorm(), LIF(), True
        )
    with pytest.raises(ValueError, match=r"^p: got a smooth neuron"):
        norm_neuron_forward(norm_input, None, BatchNorm(), LIF(smooth=True), True)
    x, one, zero = norm_input.x_seq.astype(float), np.ones(3), np.zeros(3)
    norm_input = NormInput(x, one, zero, Running(zero, one))
    with pytest.raises(TypeError, match=r"^x_seq: got dtype float64, want float32"):
        norm_neuron_forward(norm_input, None, BatchNorm(), LIF(), True)


class Mine(Tanh):
    def slope(self, x, v_th):
        return 1 / (1 + x * x)


class Other:
    def slope(self, x, v_th):
        return np.ones_like(x)


@pytest.mark.parametrize(
    ("p", "norm", "words"),
    [
        (LIF(surrogate=Mine()), BatchNorm(), "surrogate: got Mine, want one of Tanh, TanhLiteral"),
        (LIF(surrogate=Other()), BatchNorm(), "surrogate: got Other, want one of Tanh"),
        (type("Kept", (LIF,), {})(), BatchNorm(), "p: got Kept, want exactly LIF"),
        (LIF(), type("Still", (BatchNorm,), {})(), "norm: got Still, want exactly BatchNorm"),
    ],
)
def test_classes_that_the_loops_do_not_know_are_refused(p, norm, words):
    norm_input, _, do = drawn((2, 1, 2, 2, 3))
    with pytest.raises(TypeError, match=f"^{words}"):
        norm_neuron_forward(norm_input, None, norm, p, True)
    _, _, cache = norm_neuron_forward(norm_input, None, BatchNorm(), LIF(), True)
    if not isinstance(p.surrogate, Tanh) or isinstance(p.surrogate, Mine):
        with pytest.raises(TypeError, match=f"^{words}"):
            norm_neuron_backward(do, cache._replace(p=p))


@pytest.mark.parametrize(
    ("skip", "error", "words"),
    [
        ([1.0], TypeError, "skip: got list, want a numpy array"),
        (0.5, TypeError, "skip: got float, want a numpy array"),
        (np.ones((2, 1, 2, 2, 3), bool), TypeError, "skip: got dtype bool"),
        (np.ones((2, 1, 2, 2, 3)), ValueError, "skip: got float64 .* want float32"),
        (np.ones((2, 1, 2, 2, 1), np.uint8), ValueError, r"skip: got shape .* \(2, 1, 2, 2, 3\)"),
    ],
)
def test_an_object_that_is_no_skip_is_refused(skip, error, words):
    with pytest.raises(error, match=f"^{words}"):
        norm_neuron_forward(drawn((2, 1, 2, 2, 3))[0], skip, BatchNorm(), LIF(), True)


@pytest.mark.parametrize("size", [(0, 1, 2, 2, 3), (2, 1, 2, 2, 0)])
def test_no_step_and_no_channel_are_no_layer(size):
    with pytest.raises(ValueError, match=r"^x_seq: got shape .* at least one step and one channel"):
        norm_neuron_forward(drawn(size)[0], None, BatchNorm(), LIF(), False)
