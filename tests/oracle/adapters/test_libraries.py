"""SpikingJelly, snnTorch and Norse: what they can express, and what is claimed of their defaults.

Each statement that docstrings and expected failures make of a library is asserted here against
the installed version.
"""

import importlib
from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.conventions import PAPER

torch = pytest.importorskip("torch")

ADAPTERS = {
    "spikingjelly": ("spikingjelly", "SpikingJelly", {}),
    "spikingjelly-float32": ("spikingjelly", "SpikingJelly", {"precision": "float32"}),
    "snntorch": ("snntorch", "SnnTorch", {}),
    "norse": ("norse", "Norse", {}),
    "norse-float32": ("norse", "Norse", {"precision": "float32"}),
}
DEFAULTS = {
    "spikingjelly": ("spikingjelly", "SpikingJellyDefaults", {}),
    "snntorch": ("snntorch", "SnnTorchDefaults", {}),
    "norse": ("norse", "NorseDefaults", {}),
}
ROUNDING = {"float64": 1e-12, "float32": 2e-6}


def make(library, name, options):
    pytest.importorskip(library)
    return getattr(importlib.import_module(f"refsnn.oracle.adapters.{library}"), name)(**options)


@pytest.fixture(params=ADAPTERS)
def adapter(request):
    return make(*ADAPTERS[request.param])


@pytest.fixture(params=DEFAULTS)
def default(request):
    return make(*DEFAULTS[request.param])


def neuron_case(c, do, **given):
    return SimpleNamespace(
        level="neuron", conventions=PAPER | given, settings={},
        inputs={"c": np.array(c, float), "do": np.array(do, float)},
    )  # fmt: skip


def tanh_slope(x):
    return 0.5 * (1 - np.tanh(x) ** 2)


def bptt(c, do, tau, v_th, slope=tanh_slope, bracket="full", gain=1.0):
    """Eq. 1 to 3, a number at a time; Eq. 1 with a factor `gain` of c."""
    u_pre, o, u, delta = (np.zeros_like(c) for _ in range(4))
    for n in range(c.shape[1]):
        potential = 0.0
        for t in range(len(c)):
            u_pre[t, n] = tau * potential + gain * c[t, n]
            o[t, n] = 1.0 if u_pre[t, n] > v_th else 0.0
            u[t, n] = potential = u_pre[t, n] * (1 - o[t, n])
        later = 0.0
        for t in reversed(range(len(c))):
            h = slope(u_pre[t, n] - v_th)
            through = 1 - o[t, n]
            if bracket == "full":
                through -= u_pre[t, n] * h
            delta[t, n] = later = do[t, n] * h + later * tau * through
    return {"u_pre": u_pre, "o": o, "u": u, "du_pre": delta, "dc": gain * delta}


def currents(steps=7, n=40, seed=0):
    """As float32 holds them, so that both precisions start from the same."""
    rng = np.random.default_rng(seed)
    return [a.astype("f4").astype(float) for a in (rng.normal(0.5, 0.9, (steps, n)),
                                                   rng.normal(size=(steps, n)))]  # fmt: skip


def assert_close(got, want, precision, names=("u_pre", "o", "u", "du_pre", "dc")):
    assert list(got) == ["u_pre", "o", "u", "du_pre", "dc"]
    for name in names:
        np.testing.assert_allclose(
            got[name], want[name], rtol=0, atol=ROUNDING[precision], err_msg=name
        )


# by hand: tau = 1/2, v_th = 1. Strict: 1 waits; 1/2 + 3/4 = 5/4 fires; 1 waits; 1/2 + 2 fires.
# At the threshold too: 1 fires; 3/4 waits; 3/8 + 1 = 11/8 fires; 2 fires.
TIES = {
    ">": ([1, 1.25, 1, 2.5], [0, 1, 0, 1], [1, 0, 1, 0]),
    ">=": ([1, 0.75, 1.375, 2], [1, 0, 1, 1], [0, 0.75, 0, 0]),
}


@pytest.mark.parametrize("fire", TIES)
def test_a_potential_on_the_threshold(adapter, fire):
    case = neuron_case([[1], [0.75], [1], [2]], np.zeros((4, 1)), fire=fire)
    got = adapter.run(case)
    for name, want in zip(("u_pre", "o", "u"), TIES[fire], strict=True):
        assert got[name].ravel().tolist() == want, name


@pytest.mark.parametrize("bracket", ["full", "detached"])
@pytest.mark.parametrize(("tau", "v_th"), [(0.5, 1.0), (0.25, 0.5), (0.75, 1.25)])
def test_equation_3(adapter, tau, v_th, bracket):
    c, do = currents()
    case = neuron_case(c, do, tau=tau, v_th=v_th, reset_gradient=bracket)
    want = bptt(c, do, tau, v_th, bracket=bracket)
    assert 0.1 < want["o"].mean() < 0.5
    assert_close(adapter.run(case), want, adapter.precision)


def test_an_input_that_decays(adapter):
    c, do = currents(seed=1)
    case = neuron_case(2 * c, do, tau=0.75, decay="tau*u + (1-tau)*c")
    if adapter.name == "snnTorch":
        with pytest.raises(Unsupported, match="no decay"):
            adapter.run(case)
        return
    want = bptt(2 * c, do, 0.75, 1.0, gain=0.25)
    assert want["o"].any()
    assert_close(adapter.run(case), want, adapter.precision)


def test_no_leak(adapter):
    c, do = currents(seed=2)
    assert_close(adapter.run(neuron_case(c, do, tau=1.0)), bptt(c, do, 1.0, 1.0), adapter.precision)


def test_nothing_is_kept_from_run_to_run(adapter):
    c, do = currents(seed=3)
    runs = [adapter.run(neuron_case(c, do)) for _ in range(2)]
    assert len(adapter.neurons) == 1  # the same object, so it could have kept something
    for name, first in runs[0].items():
        assert np.array_equal(first, runs[1][name]), name


def test_other_shapes_after_another(adapter):
    for n in (5, 3):
        c, do = currents(n=n)
        assert_close(adapter.run(neuron_case(c, do)), bptt(c, do, 0.5, 1.0), adapter.precision)


@pytest.mark.parametrize(
    "given",
    [
        {"surrogate": "superspike"}, {"reset_gradient": "ignored"}, {"reset": "subtract"},
        {"decay": "(1-tau)*u + c"}, {"norm_running": "biased"}, {"surrogate_at": "u"},
    ],
    ids=str,
)  # fmt: skip
def test_what_can_not_be_expressed_is_refused(adapter, given):
    with pytest.raises(Unsupported):
        adapter.run(neuron_case(*currents(), **given))


def test_levels_above_the_block_are_refused(adapter):
    with pytest.raises(Unsupported, match="no level training"):
        adapter.run(SimpleNamespace(level="training"))


def test_a_precision_is_one_of_two():
    with pytest.raises(ValueError, match="precision: got 'float16', want one of float64, float32"):
        make("norse", "Norse", {"precision": "float16"})


def test_norse_has_no_rectangle_and_no_literal_tanh():
    pytest.importorskip("norse")
    from norse.torch.functional import threshold

    for surrogate in ("rectangular", "tanh_literal"):
        with pytest.raises(Unsupported, match=f"no surrogate {surrogate}"):
            make("norse", "Norse", {}).run(neuron_case(*currents(), surrogate=surrogate))
    with pytest.raises(ValueError, match="no such function exist"):  # and takes names only
        threshold.threshold(torch.ones(1), lambda x: x, 1.0)


def test_a_unit_of_potential_makes_norses_constructor_the_papers():
    """tau = k = 1/2: tau_mem_inv dt = 1/2, v_th = 1/2, tanh with alpha = 2; no current is scaled."""
    norse = pytest.importorskip("norse.torch")
    p = norse.LIFBoxParameters(
        tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.5), method="tanh", alpha=2.0
    )
    cell = norse.LIFBoxCell(p, dt=0.001)
    c, do = currents()
    want = bptt(c, do, 0.5, 1.0)
    x = torch.tensor(c, requires_grad=True)
    spikes, state = [], None
    for c_t in x:
        o, state = cell(c_t, state)
        spikes.append(o)
    o = torch.stack(spikes)
    assert np.array_equal(o.detach().numpy(), want["o"])
    (dc,) = torch.autograd.grad(o, x, torch.tensor(do))
    np.testing.assert_allclose(dc.numpy(), want["dc"], rtol=0, atol=1e-12)


X = [-3.0, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 3.0]


def slopes(fire, dtype=torch.float64, at=X):
    x = torch.tensor(at, dtype=dtype, requires_grad=True)
    (h,) = torch.autograd.grad(fire(x).sum(), x)
    return h.numpy()


def test_spikingjellys_surrogates():
    surrogate = pytest.importorskip("spikingjelly.activation_based.surrogate")
    x = np.array(X)
    for fire, want in (
        (surrogate.Sigmoid(2.0), tanh_slope(x)),
        (surrogate.PiecewiseQuadratic(2.0), 2 * np.maximum(0, 1 - 2 * np.abs(x))),  # v_th = 1/2
        (surrogate.Rect(1.0), 1.0 * (np.abs(x) < 0.5)),
        (surrogate.Rect(0.5), 0.5 * (np.abs(x) < 1)),
        (surrogate.Sigmoid(), 1 / np.cosh(2 * x) ** 2),  # alpha = 4
        (surrogate.SuperSpike(), 1 / (1 + np.abs(x)) ** 2),  # alpha is its height
    ):
        np.testing.assert_allclose(slopes(fire), want, atol=1e-15)
    assert surrogate.Sigmoid()(torch.zeros(1)) == 1  # it fires at the threshold


def test_spikingjelly_keeps_its_potential_unless_it_is_reset():
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode(tau=2.0, decay_input=False)
    assert [node(torch.full((1,), 0.75)).item() for _ in range(2)] == [0, 1]
    with pytest.raises(AssertionError):
        neuron.LIFNode(tau=1.0)


def test_snntorchs_surrogates():
    surrogate = pytest.importorskip("snntorch.surrogate")
    x = np.array(X)
    np.testing.assert_allclose(slopes(surrogate.sigmoid(slope=2)), tanh_slope(x), atol=1e-7)
    np.testing.assert_allclose(slopes(surrogate.atan()), 1 / (1 + (np.pi * x) ** 2), atol=1e-7)
    fast = 1 / (1 + 25 * np.abs(x)) ** 2
    np.testing.assert_allclose(slopes(surrogate.fast_sigmoid()), fast, atol=1e-7)
    assert slopes(surrogate.triangular()).tolist() == [1] * 4 + [-1] * 5  # not a triangle
    assert np.isnan(slopes(surrogate.sigmoid(), torch.float32, [-3.6])).all()  # inf / inf
    assert surrogate.sigmoid()(torch.zeros(1, dtype=torch.float64)).dtype == torch.float32


def test_snntorchs_reset_to_zero_is_the_papers_by_potentials_but_not_by_gradient():
    """By default; only the documentation's formula takes the new input along."""
    snntorch = pytest.importorskip("snntorch")
    leaky = snntorch.Leaky(
        beta=0.5, reset_mechanism="zero", spike_grad=snntorch.surrogate.sigmoid(2)
    )
    c, do = currents()
    x = torch.tensor(c, dtype=torch.float32, requires_grad=True)
    spikes, mems, mem = [], [], leaky.reset_mem()
    for c_t in x:
        o, mem = leaky(c_t, mem)
        spikes.append(o)
        mems.append(mem.detach())
    want = {b: bptt(c, do, 0.5, 1.0, bracket=b) for b in ("full", "detached")}
    np.testing.assert_allclose(torch.stack(mems), want["full"]["u_pre"], atol=1e-6)
    (dc,) = torch.autograd.grad(torch.stack(spikes), x, torch.tensor(do, dtype=torch.float32))
    np.testing.assert_allclose(dc, want["detached"]["dc"], atol=1e-6)
    assert np.abs(dc.numpy() - want["full"]["dc"]).max() > 0.1


def test_norses_surrogates():
    pytest.importorskip("norse")
    from norse.torch.functional.threshold import threshold

    x = np.array(X)
    for method, alpha, want in (
        ("tanh", 2.0, 1 - np.tanh(2 * x) ** 2),
        ("triangle", 0.5, 0.5 * np.maximum(0, 1 - np.abs(x))),
        ("super", 100.0, 1 / (1 + np.abs(x)) ** 2),  # alpha is left out
        ("super", 1.0, 1 / (1 + np.abs(x)) ** 2),
    ):
        h = slopes(lambda x, m=method, a=alpha: threshold(x, m, a))
        np.testing.assert_allclose(h, want, atol=1e-15, err_msg=method)
        assert threshold(torch.zeros(1), method, alpha) == 0  # strict


def test_norses_lif_cell_filters_its_input():
    """So it is not the paper's neuron: a current stays, and decays by its own time constant."""
    norse = pytest.importorskip("norse.torch")
    cell, state = norse.LIFCell(), None
    currents = []
    for c in (0.25, 0.0, 0.0):
        _, state = cell(torch.full((1,), c), state)
        currents.append(state.i.item())
    np.testing.assert_allclose(currents, [0.2, 0.16, 0.128], rtol=1e-6)


def test_norses_defaults_have_a_wide_surrogate():
    c, do = currents()
    adapter = make("norse", "NorseDefaults", {})
    want = bptt(3 * c, do, 0.5, 1.0, slope=lambda x: 1 / (1 + abs(x)) ** 2, gain=0.5)
    assert want["o"].any()
    assert_close(adapter.run(neuron_case(3 * c, do)), want, "float64")


def test_defaults_that_can_not_keep_everything(default):
    case = neuron_case(*currents(), tau=1.0)
    if default.name == "snnTorch's defaults":
        assert default.run(case)["o"].any()
    else:
        with pytest.raises(Unsupported, match="leak factor 1"):
            default.run(case)
