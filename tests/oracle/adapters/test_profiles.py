"""Every profile against the library's plain default neuron, which is made here with nothing set.

`T` steps of `N` neurons, in the library's own precision: float32 unless all of it is float64.
"""

import importlib
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from refsnn.oracle import conventions
from refsnn.oracle.cases import kinks
from refsnn.oracle.conventions import PAPER, make_conventions
from refsnn.oracle.recipes import AUTHORS
from refsnn.oracle.variant_neuron import delay_of, leak_of, lif_backward, lif_forward

PROFILES = tomllib.loads((Path(conventions.__file__).parent / "profiles.toml").read_text())
T, N = 8, 64
ALWAYS = {"tau", "v_th", "surrogate", "surrogate_shape"}
NO_LIBRARY = ("paper", "authors")
ROUNDING = {"float64": 1e-9, "float32": 1e-4}


def gradient(run, c, do):
    """Return what a neuron of PyTorch computes: o, dc and its potentials."""
    torch = importlib.import_module("torch")
    c = torch.tensor(c, requires_grad=True)
    o, potentials = run(c)
    (dc,) = torch.autograd.grad(o, c, torch.tensor(do, dtype=o.dtype))
    return o.detach().numpy(), dc.numpy(), potentials.detach().numpy()


def by_steps(step, c, state=None):
    """Return spikes and potentials of a step (c_t, state) -> o, state, potential."""
    torch = importlib.import_module("torch")
    spikes, potentials = [], []
    for c_t in c:
        o, state, v = step(c_t, state)
        spikes.append(o)
        potentials.append(v)
    return torch.stack(spikes), torch.stack(potentials)


def spikingjelly(c, do):
    neuron = pytest.importorskip("spikingjelly.activation_based.neuron")
    node = neuron.LIFNode()
    return gradient(lambda c: by_steps(lambda c_t, _: (node(c_t), None, node.v), c), c, do)


def snntorch(c, do):
    leaky = pytest.importorskip("snntorch").Leaky(beta=0.9)

    def step(c_t, mem):
        o, mem = leaky(c_t, leaky.reset_mem() if mem is None else mem)
        return o, mem, mem

    return gradient(lambda c: by_steps(step, c), c, do)


def norse_cell(name):
    def run(c, do):
        cell = getattr(pytest.importorskip("norse.torch"), name)()

        def step(c_t, state):
            o, state = cell(c_t, state)
            return o, state, state.v

        return gradient(lambda c: by_steps(step, c), c, do)

    return run


def adapter(library, name):
    def run(c, do):
        pytest.importorskip(library)
        made = getattr(importlib.import_module(f"refsnn.oracle.adapters.{library}"), name)()
        got = made.run(SimpleNamespace(inputs={"c": c, "do": do}))
        return got["o"], got["dc"], got[made.shows[0]]

    return run


def rockpool_jax(c, do):
    pytest.importorskip("rockpool")
    jax = pytest.importorskip("jax")
    from rockpool.nn.modules import LIFJax

    layer = LIFJax(N)

    def run(c):
        o, _, recorded = layer(c[None], record=True)
        return o[0], recorded["vmem"][0]

    o, pull_back, potentials = jax.vjp(run, c, has_aux=True)
    return o, pull_back(do)[0], potentials


#: how to run it, the profile, what its potential is, its precision
LIBRARIES = {
    "spikingjelly": (spikingjelly, "spikingjelly", "u", "float64"),
    "snntorch": (snntorch, "snntorch", "u_pre", "float32"),
    "norse": (norse_cell("LIFCell"), "norse", "u", "float32"),
    "norse-adapter": (adapter("norse", "NorseLIFCell"), "norse", "u", "float32"),
    "norse-box": (norse_cell("LIFBoxCell"), "norse-box", "u", "float32"),
    "sinabs": (adapter("sinabs", "SinabsDefaults"), "sinabs", "u", "float32"),
    "rockpool": (adapter("rockpool", "RockpoolDefaults"), "rockpool", "u", "float32"),
    "rockpool-jax": (rockpool_jax, "rockpool", "u", "float32"),
    "spyx": (adapter("spyx", "SpyxDefaults"), "spyx", "u_pre", "float32"),
    "brainpy": (adapter("brainpy", "BrainPyDefaults"), "brainpy", "u_pre", "float32"),
}


def drawn(told):
    """Return currents and dL/do whose potentials keep off the threshold and the slope's kinks."""
    _, b = leak_of(told)
    scale = 1 / (b * float(told["input_gain"]))
    v_th = float(told["v_th"])
    at = v_th * np.arange(1, 40) if told["spikes"] == "several" else np.array([v_th])
    critical = np.concatenate([at, v_th + np.array(kinks(told))])
    for seed in range(1000):
        rng = np.random.default_rng(seed)
        c = (rng.normal(0.5, 1, (T, N)) * scale).astype("f4").astype(float)
        _, cache = lif_forward(c, None, told)
        if np.abs(np.subtract.outer(critical, cache.u_pre_seq)).min() > 1e-4:
            return c, rng.normal(size=(T, N)).astype("f4").astype(float)
    raise AssertionError("no draw keeps off the threshold")


def differences(profile, got, shown, c, do):
    """Return the largest difference of o, dc and the potentials."""
    o_seq, cache = lif_forward(c, None, profile)
    grads, _ = lif_backward(do, cache)
    potentials = cache.u_pre_seq if shown == "u_pre" else cache.u_seq
    pairs = zip(got, (o_seq, grads.dc_seq, potentials), strict=True)
    return [np.abs(np.asarray(value) - want).max() for value, want in pairs]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_library_follows_its_profile_and_not_the_paper(name):
    run, profile, shown, precision = LIBRARIES[name]
    told = make_conventions(PROFILES[profile]["conventions"])
    c, do = drawn(told)
    o_seq, _ = lif_forward(c, None, told)
    assert o_seq.any(0).sum() > N / 2  # most neurons spike
    if told["spikes"] == "several":
        assert o_seq.max() > 1
    got = run(c.astype(precision), do.astype(precision))
    assert np.array_equal(got[0], o_seq)
    assert max(differences(told, got, shown, c, do)) < ROUNDING[precision]
    for convention in PROFILES[profile]["conventions"]:
        if told[convention] == PAPER[convention] or convention == "fire_at_threshold":
            continue
        without = told | {convention: PAPER[convention]}
        assert max(differences(without, got, shown, c, do)) > 10 * ROUNDING[precision], convention


@pytest.mark.parametrize("name", sorted(LIBRARIES.keys() - {"rockpool-jax"}))  # it skips v_th
def test_a_potential_on_the_threshold(name):
    """Of the floats around a current that brings v_th, some bring it exactly."""
    run, profile, shown, precision = LIBRARIES[name]
    told = make_conventions(PROFILES[profile]["conventions"])
    _, b = leak_of(told)
    dtype = np.dtype(precision).type
    c = np.full(N, told["v_th"] / (b * told["input_gain"]), dtype)
    c += np.spacing(c[0]) * np.arange(-N // 2, N // 2, dtype=dtype)
    c_seq = np.concatenate([c[None], np.zeros((delay_of(told), N), dtype)])
    o, _, potentials = map(np.asarray, run(c_seq, np.ones_like(c_seq)))
    fires = told["fire_at_threshold"]
    ties = potentials[0] == (0.0 if fires and shown == "u" else told["v_th"])
    if name == "spikingjelly":  # whose reset to zero hides u_pre; but 2/2 is exactly 1
        ties = c == 2
    assert ties.any()
    assert (o[-1][ties] == fires).all()
    assert {0.0, 1.0} == set(o[-1])


def test_every_profile_has_a_library_and_states_its_numbers():
    assert PROFILES["paper"]["conventions"] == {}
    assert PROFILES["authors"]["conventions"] == AUTHORS
    assert {profile for _, profile, _, _ in LIBRARIES.values()} == set(PROFILES) - set(NO_LIBRARY)
    for name, profile in PROFILES.items():
        assert set(profile) == {"summary", "conventions"}, name
        told = profile["conventions"]
        assert name == "paper" or set(told) >= ALWAYS, name
        assert make_conventions(told) | told == make_conventions(told)
        for convention, value in told.items():
            assert value != PAPER[convention] or convention in ALWAYS, (name, convention)


DEFAULTS = {
    "spikingjelly": ("spikingjelly", "SpikingJellyDefaults"),
    "snntorch": ("snntorch", "SnnTorchDefaults"),
    "norse-box": ("norse", "NorseDefaults"),
}


@pytest.mark.parametrize("profile", DEFAULTS)
def test_adapters_of_defaults_run_cases_of_their_profile(profile):
    library, name = DEFAULTS[profile]
    pytest.importorskip(library)
    made = getattr(importlib.import_module(f"refsnn.oracle.adapters.{library}"), name)()
    told = make_conventions(PROFILES[profile]["conventions"])
    for convention, value in made.forced.items():
        assert told[convention] == value, convention
    c, do = drawn(told)
    case = SimpleNamespace(level="neuron", conventions=told, settings={})
    case.inputs = {"c": c, "do": do}
    got = made.run(case)
    shown = got["o"], got["dc"], got["u_pre"]
    assert max(differences(told, shown, "u_pre", c, do)) < 1e-4
