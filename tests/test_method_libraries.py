"""Published methods against layers of SpikingJelly and snnTorch: where they agree, and where not.

In float64, with potentials that are not on the threshold, at which SpikingJelly fires.
"""

import sys
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest

from refsnn.equations.batchnorm import batchnorm_backward, batchnorm_forward
from refsnn.network import Network, architecture, init_buffers, init_params
from refsnn.network.blocks import KINDS
from refsnn.network.layers import Context
from refsnn.ops import LIF, NEURONS, NORMS, NUMPY, BatchNorm, Running, make_surrogate

torch = pytest.importorskip("torch")
from refsnn.pytorch import Fire, to_numpy, to_torch  # noqa: E402  # needs torch

SHAPE = 4, 3, 2, 3, 5  # (T, N, H, W, C)
CLOSE = {"rtol": 0, "atol": 1e-12}


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def spikingjelly(name):
    return pytest.importorskip(f"spikingjelly.activation_based.{name}")


def leaf(array):
    return to_torch(array).requires_grad_()


def assert_close(got, want):
    """Compare tensors with arrays by name."""
    assert got.keys() == want.keys()
    for name, tensor in got.items():
        np.testing.assert_allclose(to_numpy(tensor), want[name], err_msg=name, **CLOSE)


def random_layer(rng, model, p):
    """Return currents, gradients of what is passed on, and parameters near their start."""
    params = model.initial(p, SHAPE[-1], SHAPE[0])
    params = {name: x + rng.normal(0, 0.2, x.shape) for name, x in params.items()}
    return rng.normal(0.6, 1, SHAPE), rng.normal(size=SHAPE), params


def compute(model, c_seq, dy_seq, params, p, running=None):
    """Compute a layer of neurons, and its gradients."""
    y_seq, running, cache = model.forward(c_seq, params, running, p, training=True)
    assert 0.1 < cache.o_seq.mean() < 0.7
    dc_seq, grads = model.backward(dy_seq, cache)
    return y_seq, running, cache, {"c": dc_seq, **grads}


@pytest.mark.parametrize("reset_gradient", ["full", "detached"])
@pytest.mark.parametrize("reset", ["zero", "subtract"])
@pytest.mark.parametrize("input_decay", [True, False])
def test_parametric_lif(rng, input_decay, reset, reset_gradient):
    neuron, surrogate = spikingjelly("neuron"), spikingjelly("surrogate")
    model = NEURONS["plif"](input_decay=input_decay)
    p = LIF(0.4, 0.8, make_surrogate("atan", 2.0), reset_gradient, True, reset=reset)
    c_seq, dy_seq, params = random_layer(rng, model, p)
    o_seq, _, cache, grads = compute(model, c_seq, dy_seq, params, p)
    node = neuron.ParametricLIFNode(
        1 / (1 - p.tau),
        input_decay,
        p.v_th,
        0.0 if reset == "zero" else None,
        surrogate.ATan(2.0),
        reset_gradient == "detached",
        step_mode="m",
        store_v_seq=True,
    ).double()
    start = model.initial(p, 1, 1)["w"]
    np.testing.assert_allclose(node.w.item(), start, rtol=1e-6)  # made in float32
    node.w.data.fill_(params["w"].item())
    c = leaf(c_seq)
    o = node(c)
    o.backward(to_torch(dy_seq))
    u_pre = cache.u_pre_seq
    u_seq = u_pre - p.v_th * o_seq if reset == "subtract" else u_pre * (1 - o_seq)
    want = {"o": o_seq, "u": u_seq, "dc": grads["c"], "dw": grads["w"].reshape(())}
    assert_close({"o": o, "u": node.v_seq, "dc": c.grad, "dw": node.w.grad}, want)


def test_gated_lif(rng):
    neuron, surrogate = spikingjelly("neuron"), spikingjelly("surrogate")
    model, p = NEURONS["glif"](), LIF(0.25, 0.5, make_surrogate("sigmoid", 4.0))
    c_seq, dy_seq, params = random_layer(rng, model, p)
    o_seq, _, cache, grads = compute(model, c_seq, dy_seq, params, p)
    node = neuron.GatedLIFNode(*SHAPE[::4], surrogate_function=surrogate.Sigmoid()).double()
    names = {"v_th": "v_threshold", "l": "linear_decay", "r": "v_subreset", "g": "conduct"}
    own = {name: getattr(node, names.get(name, name)) for name in params}
    for name, start in model.initial(p, SHAPE[-1], SHAPE[0]).items():
        if name not in ("alpha", "beta", "gamma"):  # its gates start at random
            np.testing.assert_allclose(own[name].detach(), start, rtol=1e-6, err_msg=name)
        own[name].data = torch.tensor(params[name])
    c = leaf(c_seq)
    o = node(c)
    o.backward(to_torch(dy_seq))
    got = {"o": o, "u_pre": node.v[None], "dc": c.grad}
    assert_close(got, {"o": o_seq, "u_pre": cache.u_pre_seq[-1:], "dc": grads.pop("c")})
    for name, gradient in grads.items():
        np.testing.assert_allclose(own[name].grad, gradient, err_msg=name, **CLOSE)


def mpbn_node(params, p):
    """Return SpikingJelly's neuron with these parameters, and surrogate sigmoid 4."""
    neuron = spikingjelly("neuron")
    node = neuron.MPBNLIFNode(
        1 / (1 - p.tau), False, p.v_th, step_mode="m", store_v_seq=True, out_channels=SHAPE[-1]
    ).double()
    node.vbn.weight.data, node.vbn.bias.data = map(torch.tensor, params.values())
    return node


def test_one_step_of_a_normalised_potential(rng):
    model, p = NEURONS["mpbn"](), LIF(0.25, 0.5, make_surrogate("sigmoid", 4.0))
    c_seq, dy_seq, params = random_layer(rng, model, p)
    running = Running(np.zeros(SHAPE[-1]), np.ones(SHAPE[-1]))
    c_seq, dy_seq = c_seq[:1], dy_seq[:1]
    o_seq, running, _, grads = compute(model, c_seq, dy_seq, params, p, running)
    node, c = mpbn_node(params, p), leaf(c_seq)
    o = node(c)
    o.backward(to_torch(dy_seq))
    got = {"o": o, "dc": c.grad, "dgamma": node.vbn.weight.grad, "dbeta": node.vbn.bias.grad}
    got |= {"mean": node.vbn.running_mean, "var": node.vbn.running_var}
    want = {"o": o_seq, "dc": grads["c"], "dgamma": grads["weight"], "dbeta": grads["bias"]}
    assert_close(got, want | running._asdict())


def test_spikingjelly_keeps_the_potential_as_it_is_normalised(rng):
    """M6: refsnn keeps it as it was, as the authors' code does; so later steps differ."""
    model, p = NEURONS["mpbn"](), LIF(0.25, 0.5, make_surrogate("sigmoid", 4.0))
    c_seq, dy_seq, params = random_layer(rng, model, p)
    running = start = Running(np.zeros(SHAPE[-1]), np.ones(SHAPE[-1]))
    u, kept = np.zeros(SHAPE[1:]), []
    for c in c_seq:
        known = (p.tau * u + c)[None], params["weight"], params["bias"], running
        v, running, _ = batchnorm_forward(*known, BatchNorm(), training=True)
        u = v[0] * (v[0] < p.v_th)
        kept.append(u)
    node = mpbn_node(params, p)
    o = to_numpy(node(to_torch(c_seq)))
    assert_close({"u": node.v_seq}, {"u": np.stack(kept)})
    o_seq, _, cache, _ = compute(model, c_seq, dy_seq, params, p, start)
    np.testing.assert_array_equal(o[0], o_seq[0])
    assert (o[1:] != o_seq[1:]).mean() > 0.02
    after = (cache.u_pre_seq * (1 - o_seq))[0]
    np.testing.assert_allclose(cache.u_pre_seq[1], p.tau * after + c_seq[1], **CLOSE)


def batch_norm(rng, gamma, beta, norm):
    """Return x, dL/dy, and the values, statistics and gradients of a batch norm by name."""
    x_seq, dy_seq = rng.normal(0.5, 2, SHAPE), rng.normal(size=SHAPE)
    kept = gamma.shape if norm.statistics == "per_step" else SHAPE[-1:]
    y, running, cache = batchnorm_forward(
        x_seq, gamma, beta, Running(np.zeros(kept), np.ones(kept)), norm, training=True
    )
    dx_seq, dgamma, dbeta = batchnorm_backward(dy_seq, cache)
    want = {"y": y, "dx": dx_seq, "dgamma": dgamma, "dbeta": dbeta} | running._asdict()
    return x_seq, dy_seq, want


def by_module(module, x_seq, dy_seq):
    """Return what a module computes of x_seq, and dL/dx, as tensors."""
    x = leaf(x_seq)
    y = module(x)
    y.backward(to_torch(dy_seq))
    return {"y": y, "dx": x.grad}


def statistics(module):
    return {"mean": module.running_mean, "var": module.running_var}


def test_threshold_dependent_batch_norm(rng):
    """M1: SpikingJelly's scale is where gamma starts; refsnn's is a factor of gamma."""
    layer, alpha, v_th = spikingjelly("layer"), 0.5**0.5, 0.6
    gamma, beta = rng.uniform(0.5, 2, SHAPE[-1]), rng.normal(size=SHAPE[-1])
    module = layer.ThresholdDependentBatchNorm2d(alpha, v_th, SHAPE[-1]).double()
    np.testing.assert_allclose(module.weight.detach(), alpha * v_th, rtol=1e-6)
    module.weight.data, module.bias.data = torch.tensor(alpha * v_th * gamma), torch.tensor(beta)
    x_seq, dy_seq, want = batch_norm(rng, gamma, beta, BatchNorm(scale=alpha * v_th))
    got = by_module(module, x_seq, dy_seq) | statistics(module)
    got |= {"dgamma": alpha * v_th * module.weight.grad, "dbeta": module.bias.grad}
    assert_close(got, want)


def test_temporal_effective_batch_norm(rng):
    layer, model = spikingjelly("layer"), NORMS["tebn"]()
    start = model.initial(SHAPE[-1], SHAPE[0])
    params = {name: x + rng.normal(0, 0.3, x.shape) for name, x in start.items()}
    module = layer.TemporalEffectiveBatchNorm2d(SHAPE[0], SHAPE[-1]).double()
    own = {"weight": module.weight, "bias": module.bias, "p": module.scale}
    for name, value in params.items():
        np.testing.assert_array_equal(own[name].detach(), start[name])
        own[name].data = torch.tensor(value)
    x_seq, dy_seq, want = batch_norm(rng, *model.affine(params), BatchNorm())
    got = by_module(module, x_seq, dy_seq) | statistics(module)
    want |= model.gradients(want.pop("dgamma"), want.pop("dbeta"), params)
    assert_close(got | {name: x.grad for name, x in own.items()}, want)


def each_step(modules):
    """Return a function of a sequence, each step by its own module."""
    return lambda x: torch.stack([one(x_t) for one, x_t in zip(modules, x, strict=True)])


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
def test_batch_norm_through_time(rng, library):
    """Their usual eps is 1e-5, the authors' 1e-4."""
    steps, channels = SHAPE[::4]
    if library == "spikingjelly":
        module = spikingjelly("layer").BatchNormThroughTime2d(
            steps, channels, eps=1e-4, step_mode="m"
        )
        modules = module.bn_list
    else:
        snntorch = pytest.importorskip("snntorch")
        modules = snntorch.BatchNormTT2d(channels, steps, eps=1e-4)
        module = each_step(modules)
    modules.double()
    model = NORMS["bntt"]()
    start = model.initial(channels, steps)["weight"]
    gamma = start + rng.normal(0, 0.3, start.shape)
    for t, one in enumerate(modules):
        np.testing.assert_array_equal(one.weight.detach(), start[t])
        assert one.bias is None
        one.weight.data = torch.tensor(gamma[t])
    affine = model.affine({"weight": gamma})
    x_seq, dy_seq, want = batch_norm(rng, *affine, model.constants(BatchNorm()))
    got = by_module(module, x_seq, dy_seq)
    by_step = [statistics(one) | {"dgamma": one.weight.grad} for one in modules]
    want.pop("dbeta")
    for name in ("mean", "var", "dgamma"):
        found = np.stack([one[name].numpy() for one in by_step])
        np.testing.assert_allclose(found, want.pop(name), err_msg=name, **CLOSE)
    assert_close(got, want)


BLOCKS = {"alone": "stage1.block0", "with a projection": "stage2.block0"}
NAMES = {"conv1": "conv1", "bn1": "bn1", "conv2": "conv2", "bn2": "bn2"}
NAMES |= {"downsample.0": "skip.conv", "downsample.1": "skip.bn"}


def block_case(rng, kind, name, spikes):
    """Compute a block; return it, its input, dL/dy, parameters, and results by name."""
    p = LIF(0.5, 0.7, make_surrogate("atan", 2.0), fire_at_threshold=True)
    net = Network(architecture("1-1:3-4"), 1, 2, branches="none", lif=p, block=kind)
    (block,) = (block for block in net.blocks() if block.name == name)
    params = {key: x + rng.normal(0, 0.3, x.shape) for key, x in init_params(net, rng).items()}
    context = Context(net, params, init_buffers(net), NUMPY, training=True)
    x_seq = rng.normal(0.5, 1, (3, 4, 6, 6, block.c_in))
    x_seq = (x_seq > 0.5).astype(float) if spikes else x_seq
    y_seq, cache = KINDS[kind].forward(x_seq, block, context)
    dy_seq = rng.normal(size=y_seq.shape)
    dx_seq, grads = KINDS[kind].backward(dy_seq.copy(), cache, context)
    want = {"y": y_seq, "dx": dx_seq} | grads
    for unit in cache.units:
        for norm, running in unit.norms:
            want[f"{norm}.mean"], want[f"{norm}.var"] = running
    params = {key: x for key, x in params.items() if key.startswith(f"{name}.")}
    return block, x_seq, dy_seq, params, want


def compare_block(module, case):
    """Compare a block of SpikingJelly's with ours: output, statistics and all gradients."""
    functional = spikingjelly("functional")
    block, x_seq, dy_seq, params, want = case
    functional.set_step_mode(module, "m")
    module.double()
    parts = {f"{block.name}.{NAMES[n]}": part for n, part in module.named_modules() if n in NAMES}
    for name, value in params.items():
        layer, _, kind = name.rpartition(".")
        getattr(parts[layer], kind).data = to_torch(value)
    got = by_module(module, x_seq, dy_seq)
    for name in params:
        layer, _, kind = name.rpartition(".")
        got[name] = getattr(parts[layer], kind).grad
    for name, part in parts.items():
        if "bn" in name:
            got |= {f"{name}.{which}": x for which, x in statistics(part).items()}
    assert_close(got, want)


def projection(layer, block):
    """Return SpikingJelly's layers of a skip that changes the shape, or None."""
    if block.stride == 1:
        return None
    conv = layer.Conv2d(block.c_in, block.c_out, 1, block.stride, bias=False)
    return torch.nn.Sequential(conv, layer.BatchNorm2d(block.c_out))


def lif_node():
    neuron, surrogate = spikingjelly("neuron"), spikingjelly("surrogate")
    return lambda **_: neuron.LIFNode(2.0, False, 0.7, 0.0, surrogate.ATan(2.0))


@pytest.fixture
def sew_resnet(monkeypatch):
    """Return SpikingJelly's module, which wants a function of torchvision that loads weights."""
    spikingjelly("layer")
    name = "spikingjelly.activation_based.model.sew_resnet"
    if name not in sys.modules and find_spec("torchvision") is None:
        for part in ("torchvision", "torchvision.models", "torchvision.models.utils"):
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
        sys.modules["torchvision.models.utils"].load_state_dict_from_url = None
    return pytest.importorskip(name)


@pytest.mark.parametrize("name", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("join", ["add", "and", "iand"])
def test_block_of_sew_resnet(rng, sew_resnet, join, name):
    layer, case = spikingjelly("layer"), block_case(rng, f"sew_{join}", name, spikes=True)
    block = case[0]
    module = sew_resnet.BasicBlock(
        block.c_in,
        block.c_out,
        block.stride,
        projection(layer, block),
        cnf=join.upper(),
        spiking_neuron=lif_node(),
    )
    compare_block(module, case)


@pytest.mark.parametrize("name", BLOCKS.values(), ids=BLOCKS)
def test_block_of_ms_resnet(rng, name):
    ms_resnet, layer = spikingjelly("model.ms_resnet"), spikingjelly("layer")
    case = block_case(rng, "ms", name, spikes=False)
    block = case[0]
    module = ms_resnet._MSBlock(
        block.c_in, block.c_out, block.stride, projection(layer, block), lif_node(), {}
    )
    compare_block(module, case)


def by_leaky(c_seq, dy_seq, p, **given):
    """Return snnTorch's neuron after its backward pass, with spikes, potentials and dL/dc.

    It detaches the reset.
    """
    snntorch = pytest.importorskip("snntorch")

    def spike(x):
        return Fire.apply(x, lambda x: torch.tensor(p.surrogate.slope(x.numpy(), p.v_th)), False)

    leaky = snntorch.Leaky(spike_grad=spike, reset_mechanism=p.reset, **given)
    c, spikes, potentials, mem = leaf(c_seq), [], [], leaky.reset_mem()
    for c_t in c:
        o, mem = leaky(c_t, mem)
        spikes.append(o)
        potentials.append(mem)
    y = torch.stack(spikes)
    y.backward(to_torch(dy_seq))
    return leaky, {"y": y, "u_pre": torch.stack(potentials), "dc": c.grad}


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def test_spikes_of_a_learnt_size(rng):
    """Its factor is Real Spike's; refsnn has the gradient of a full reset too."""
    model, p = NEURONS["real_spike"](), LIF(0.5, 0.8, reset_gradient="detached")
    c_seq, dy_seq, params = random_layer(rng, model, p)
    y_seq, _, cache, grads = compute(model, c_seq, dy_seq, params, p)
    factor = torch.tensor(params["a"]).view(-1, 1, 1)
    leaky, got = by_leaky(
        c_seq,
        dy_seq,
        p,
        beta=number(p.tau),
        threshold=number(p.v_th),
        graded_spikes_factor=factor,
        learn_graded_spikes_factor=True,
    )
    assert_close(got, {"y": y_seq, "u_pre": cache.u_pre_seq, "dc": grads["c"]})
    da = leaky.graded_spikes_factor.grad.flatten()
    np.testing.assert_allclose(da, grads["a"], **CLOSE)


def test_a_learnt_leak_and_threshold(rng):
    p = LIF(0.6, 0.8, reset_gradient="detached")
    c_seq, dy_seq = rng.normal(0.6, 1, SHAPE), rng.normal(size=SHAPE)
    given = {"beta": number(p.tau), "threshold": number(p.v_th)}
    leaky, got = by_leaky(c_seq, dy_seq, p, learn_beta=True, learn_threshold=True, **given)
    o_seq, cache = NUMPY.lif_forward(c_seq, None, p)
    grads = NUMPY.lif_backward(dy_seq, cache)
    assert_close(got, {"y": o_seq, "u_pre": cache.u_pre_seq, "dc": grads.dc_seq})
    np.testing.assert_allclose(leaky.beta.grad, grads.dtau, **CLOSE)
    np.testing.assert_allclose(leaky.threshold.grad, grads.dv_th, **CLOSE)


def test_a_learnt_threshold_that_the_reset_subtracts_after_the_leak(rng):
    """M8: Diet-SNN's in the paper, but that its surrogate is a function of u_pre/v_th - 1."""
    model = NEURONS["diet"](reset_leaks=False)
    triangle = make_surrogate("triangular", 0.3)
    p = LIF(0.6, 0.8, triangle, reset_gradient="detached", reset="subtract")
    c_seq, dy_seq, _ = random_layer(rng, model, p)
    params = model.initial(p, SHAPE[-1], SHAPE[0])
    o_seq, _, cache, grads = compute(model, c_seq, dy_seq, params, p)
    scaled = LIF(0.6, 0.8, make_surrogate("triangular", 0.3 / p.v_th), reset="subtract")
    given = {"beta": number(p.tau), "threshold": number(p.v_th)}
    leaky, got = by_leaky(c_seq, dy_seq, scaled, learn_beta=True, learn_threshold=True, **given)
    u_pre = cache.u_pre_seq * p.v_th
    assert_close(got, {"y": o_seq, "u_pre": u_pre, "dc": grads["c"]})
    np.testing.assert_allclose(leaky.beta.grad, grads["leak"][0], **CLOSE)
    # the spike's own derivative is -h u_pre/v_th, where snnTorch's is -h
    h_seq = scaled.surrogate.slope(u_pre - p.v_th, p.v_th)
    rest = -(dy_seq * h_seq * (u_pre / p.v_th - 1)).sum()
    assert abs(rest) > 0.1
    np.testing.assert_allclose(leaky.threshold.grad + rest, grads["v_th"][0], **CLOSE)
