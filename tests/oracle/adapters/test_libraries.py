"""SpikingJelly, snnTorch and Norse: what they can express, and what is claimed of their defaults.

Their neurons against Eq. 1 to 3 written out here, and against every case of the oracle.
"""

import importlib
import tomllib
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.oracle import adapters
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.cases import build
from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import CONVENTIONS, LEVELS, PAPER
from refsnn.oracle.recipes import recipes
from refsnn.oracle.tolerances import tolerances

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
        level="neuron",
        conventions=PAPER | given,
        settings={},
        inputs={"c": np.array(c, float), "do": np.array(do, float)},
    )


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
    return [
        a.astype("f4").astype(float)
        for a in (rng.normal(0.5, 0.9, (steps, n)), rng.normal(size=(steps, n)))
    ]


def assert_close(got, want, precision, names=("u_pre", "o", "u", "du_pre", "dc")):
    assert list(got) == ["u_pre", "o", "u", "du_pre", "dc"]
    for name in names:
        np.testing.assert_allclose(
            got[name], want[name], rtol=0, atol=ROUNDING[precision], err_msg=name
        )


# by hand: tau = 1/2, v_th = 1. Strict: 1 waits; 1/2 + 3/4 = 5/4 fires; 1 waits; 1/2 + 2 fires.
# At the threshold too: 1 fires; 3/4 waits; 3/8 + 1 = 11/8 fires; 2 fires.
TIES = {
    False: ([1, 1.25, 1, 2.5], [0, 1, 0, 1], [1, 0, 1, 0]),
    True: ([1, 0.75, 1.375, 2], [1, 0, 1, 1], [0, 0.75, 0, 0]),
}


@pytest.mark.parametrize("tie", TIES)
def test_a_potential_on_the_threshold(adapter, tie):
    case = neuron_case([[1], [0.75], [1], [2]], np.zeros((4, 1)), fire_at_threshold=tie)
    got = adapter.run(case)
    for name, want in zip(("u_pre", "o", "u"), TIES[tie], strict=True):
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
    case = neuron_case(2 * c, do, tau=0.75, leak="tau*u + (1-tau)*c")
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
        {"surrogate": "superspike"},
        {"reset_gradient": "ignored"},
        {"reset": "subtract"},
        {"leak": "(1-tau)*u + c"},
        {"norm_running": "biased"},
        {"surrogate_at": "u"},
    ],
    ids=str,
)
def test_cases_that_can_not_be_expressed_are_refused(adapter, given):
    with pytest.raises(Unsupported):
        adapter.run(neuron_case(*currents(), **given))


def test_snntorch_can_not_fire_at_the_threshold_and_keep_a_rectangle():
    case = neuron_case(
        *currents(), fire_at_threshold=True, surrogate="rectangular", surrogate_shape=1.0
    )
    with pytest.raises(Unsupported, match="would move the edge"):
        make("snntorch", "SnnTorch", {}).run(case)


def test_levels_above_the_block_are_refused(adapter):
    with pytest.raises(Unsupported, match="no level training"):
        adapter.run(SimpleNamespace(level="training"))


def test_a_precision_is_one_that_is_known():
    with pytest.raises(ValueError, match="precision: got 'float8', want one of float64, float32"):
        make("norse", "Norse", {"precision": "float8"})


def test_norse_has_no_rectangle_and_no_literal_tanh():
    pytest.importorskip("norse")
    from norse.torch.functional import threshold

    for surrogate in ("rectangular", "tanh_literal"):
        with pytest.raises(Unsupported, match=f"no surrogate {surrogate}"):
            make("norse", "Norse", {}).run(neuron_case(*currents(), surrogate=surrogate))
    with pytest.raises(ValueError, match="no such function exist"):  # and takes names only
        threshold.threshold(torch.ones(1), lambda x: x, 1.0)


def test_a_unit_of_potential_makes_norses_constructor_the_papers():
    """tau = k = 1/2 is tau_mem_inv dt = 1/2, v_th = 1/2, tanh with alpha = 2, currents as given."""
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


@pytest.fixture(scope="module")
def cases():
    return [build(recipe) for recipe in recipes(("surrogate", "neuron", "layer", "block"))]


def repeated(adapter, case):
    """Return the outputs of the last run; None where the adapter can't express the case."""
    try:
        return [adapter.run(case) for _ in range(case.repeat)][-1]
    except Unsupported:
        return None


NORSE_HAS = ("tanh", "triangular")


def test_every_case(adapter, cases):
    for case in cases:
        got = repeated(adapter, case)
        if got is None:
            assert adapter.name == "Norse", case.id
            assert case.conventions["surrogate"] not in NORSE_HAS, case.id
            continue
        compared = compare_case(case, got, adapter.precision)
        if adapter.name == "snnTorch" and case.id.endswith("/far-tanh"):
            # its sigmoid's slope is inf/inf far below the threshold
            assert [text for text in compared.problems if "got nan" in text], case.id
            continue
        assert compared.passed, compared.lines()
        assert not compared.flips


def test_defaults_are_what_is_said_of_them(default, cases):
    """All that they compute is what refsnn does under the conventions that they have."""
    compared = 0
    for case in cases:
        got = repeated(default, case)
        if got is None:
            assert case.conventions["tau"] == 1, case.id
            continue
        seen = LEVELS[: LEVELS.index(case.level) + 1]
        fixed = {n: v for n, v in default.forced.items() if CONVENTIONS[n].level in seen}
        conventions = case.conventions | fixed
        want = compute(case.level, case.inputs, case.settings, conventions, case.repeat)
        expected = replace(
            case, conventions=conventions, outputs=want, tolerances=tolerances(case.level, want)
        )
        result = compare_case(expected, got, default.precision)
        assert result.passed, result.lines()
        compared += len(want)
    assert compared > 200


def test_defaults_fail_as_expected(default, cases):
    """Each case that fails has an entry, and none of these is stale."""
    file = f"{default.__module__.rpartition('.')[2]}_defaults.toml"
    expected = tomllib.loads((Path(adapters.__file__).parent / file).read_text())["cases"]
    used = set()
    for case in cases:
        patterns = [p for p in expected if fnmatchcase(case.id, p)]
        got = repeated(default, case)
        if got is not None:
            passed = compare_case(case, got, default.precision).passed
            assert passed == (not patterns), case.id
            used |= set(patterns)
    assert used == set(expected)
