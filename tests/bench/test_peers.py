"""The peers are the same network: the same numbers give the same logits and gradients."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from refsnn.bench import measure, peers, workload  # noqa: E402
from refsnn.network import (  # noqa: E402
    Network,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import CROSS_ENTROPY, LIF, NUMPY  # noqa: E402
from refsnn.pytorch import to_torch  # noqa: E402

STEPS = 3


def network(arch="1-1:4-8"):
    """A network in float64 whose biases and running statistics are no round numbers."""
    net, rng = Network(architecture(arch), 3, 10, "none"), np.random.default_rng(0)
    params, buffers = init_params(net, rng), init_buffers(net)
    for name in params:
        if name.endswith(".bias"):
            params[name] = rng.normal(0.2, 0.2, params[name].shape)
    buffers = {name: x + rng.uniform(0, 0.3, x.shape) for name, x in buffers.items()}
    return net, params, buffers, rng.normal(size=(2, 8, 8, 3)), rng.integers(10, size=2)


def our_gradient(net, params, buffers, images, labels):
    run = forward(net, params, buffers, encode(images, STEPS), NUMPY)
    _, cache = NUMPY.objective_forward(run.branches, labels, side=0.0)
    grads = backward(run, NUMPY.objective_backward(cache))
    return run, grads["stem.conv0.weight"]


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("library", peers.NEURONS)
def test_logits_gradient_and_running_statistics(library, channels_last):
    pytest.importorskip(library.partition(".")[0])
    net, params, buffers, images, labels = network()
    run, gradient = our_gradient(net, params, buffers, images, labels)
    model = peers.build(net, library, STEPS, params | buffers, channels_last)
    x = peers.encode(peers.to_images(images, channels_last), STEPS)
    for _ in range(2):  # nothing is kept between passes
        model.load_state_dict(
            {name: to_torch(value) for name, value in buffers.items()}, strict=False
        )
        model.zero_grad()
        peers.reset(model, library)
        logits = model(x)["head"]
        torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)).backward()
        np.testing.assert_allclose(logits.detach(), run.branches[-1], rtol=0, atol=1e-9)
        found = model.stem.conv0.weight.grad.numpy().transpose(2, 3, 1, 0)
        np.testing.assert_allclose(found, gradient, rtol=0, atol=1e-9)
    state = model.state_dict()
    for name, value in run.buffers.items():
        np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-9)


@pytest.mark.parametrize("arch", ["1-1:4-8", "resnet8", "resnet19-tet", "resnet20m"])
@pytest.mark.parametrize("library", peers.NEURONS)
def test_inference_gives_the_logits_of_the_reference(library, arch):
    pytest.importorskip(library.partition(".")[0])
    net, params, buffers, images, _ = network("1-1:4-8")
    if arch != "1-1:4-8":
        net = replace(net, arch=architecture(arch).scaled(1 / 16))
        params, buffers = init_params(net, np.random.default_rng(1)), init_buffers(net)
        images = np.random.default_rng(2).normal(size=(2, 16, 16, 3))
    want = forward(net, params, buffers, encode(images, STEPS), NUMPY, training=False)
    model = peers.build(net, library, STEPS, params | buffers, True).eval()
    with torch.no_grad():
        found = model(peers.encode(peers.to_images(images, True), STEPS))["head"]
    np.testing.assert_allclose(found, want.branches[-1], rtol=0, atol=1e-9)


@pytest.mark.processes
@pytest.mark.parametrize("phase", workload.PHASES)
def test_a_comparison_measures_each_library_and_its_ratio(phase, tiny):
    libraries = ["refsnn", "torch"]
    # with 4 channels, channels last and one thread, PyTorch 2.13 writes beyond its memory on an
    # AMD EPYC: it ended by signals 6 and 11 in three of three runs; with 8 channels in none
    spec = replace(tiny, phase=phase, arch="1-1:8-16")
    peaks = {"gemm_gflops": 1.0, "copy_gib_s": 1.0}
    results, ratios = measure.compare(spec, libraries, 1, peaks, lambda text: None)
    assert [row["library"] for row in results] == libraries
    assert [row["library"] for row in ratios] == ["torch"]
    assert results[0]["images_per_second"] / results[1]["images_per_second"] == pytest.approx(
        ratios[0]["images_per_second"]
    )


@pytest.mark.parametrize("phase", workload.PHASES)
@pytest.mark.parametrize("library", peers.NEURONS)
def test_a_timed_step_computes_what_refsnns_step_does(library, phase, tiny):
    """Twice: nothing is kept but an update too small to see. Biases keep ties with v_th away."""
    pytest.importorskip(library.partition(".")[0])
    spec = replace(tiny, library=library, phase=phase)
    net, (images, labels) = workload.network_of(spec), workload.batch_of(spec)
    numbers = params, _ = workload.fresh_numbers(spec)
    rng = np.random.default_rng(0)
    for name in (name for name in params if name.endswith(".bias")):
        params[name] += rng.uniform(0.1, 0.3, params[name].shape).astype(np.float32)
    training = phase == "train"
    run = forward(net, *numbers, encode(images, spec.steps), NUMPY, training)
    want = run.branches[-1]
    if training:
        want = CROSS_ENTROPY.forward(want, labels)[0]
    step = peers.peer_step(spec, *numbers)
    for _ in range(2):
        np.testing.assert_allclose(step(), want, rtol=0, atol=1e-5)


def test_a_neuron_that_not_all_libraries_have_is_refused():
    net, params, _, _, _ = network()
    with pytest.raises(ValueError, match="net: got"):
        peers.build(replace(net, lif=LIF(tau=0.25)), "torch", 2, params, False)


def test_the_memory_format_reaches_the_neurons():
    """A layer that lost it would make the peers slower."""
    net, params, buffers, images, _ = network()
    model, formats = peers.build(net, "torch", STEPS, params | buffers, True), []
    for name, part in model.named_modules():
        if name.split(".")[-1].startswith(("lif", "conv")):
            part.register_forward_hook(
                lambda part, args, y: formats.append(
                    y.is_contiguous(memory_format=torch.channels_last)
                )
            )
    model(peers.encode(peers.to_images(images, True), STEPS))
    assert len(formats) == 11
    assert all(formats)
