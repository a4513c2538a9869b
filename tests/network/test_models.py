"""Networks whose neurons or batch norms have parameters of their own."""

import json
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.export.parameters import from_state_dict, state_dict
from refsnn.network import (
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
    is_neuron,
    is_norm,
    limited,
    neuron_caches,
)
from refsnn.network.model import recomputed_neurons
from refsnn.ops import CROSS_ENTROPY, LIF, NEURONS, NORMS, NUMPY, get_ops
from refsnn.training.config import make_config
from refsnn.training.monitor import firing_rates, weight_gradient_norms
from refsnn.training.optimizer import decay_of

P = LIF(0.4, 0.7)
#: settings of a network with each model
MODELS = {
    **{name: {"neuron_model": kind(), "lif": P} for name, kind in NEURONS.items()},
    "diet": {"neuron_model": NEURONS["diet"](), "lif": replace(P, reset="subtract")},
    **{name: {"norm_model": kind(), "lif": P} for name, kind in NORMS.items()},
    "glif, tebn": {"neuron_model": NEURONS["glif"](), "norm_model": NORMS["tebn"](), "lif": P},
}
MODEL = pytest.mark.parametrize("model", MODELS)


def trained_step(net, params, buffers, x_seq, labels, ops, **options):
    run = forward(net, params, buffers, x_seq, ops, **options)
    loss, cache = ops.objective_forward(run.branches, labels, 0.25, "logits", CROSS_ENTROPY)
    return run, loss, backward(run, ops.objective_backward(cache))


@MODEL
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.slow_after(3)
def test_gradients_of_a_smooth_network_equal_differences(model, training, build, sequence):
    net, params, buffers = build(**MODELS[model], steps=3)
    net = replace(net, lif=replace(net.lif, smooth=True))
    x_seq, labels = sequence(3, 3, 6)

    def at(values):
        return trained_step(net, values, buffers, x_seq, labels, NUMPY, training=training)

    grads, rng = at(params)[2], np.random.default_rng(0)
    assert list(grads) == list(net.shapes())
    for name, x in params.items():
        v, h = rng.normal(size=x.shape), 1e-5
        above, below = (at(params | {name: x + s * v})[1] for s in (h, -h))
        got = float((grads[name] * v).sum())
        assert got == pytest.approx((above - below) / (2 * h), rel=1e-4, abs=1e-8), name


@MODEL
def test_low_memory_has_the_same_bits(model, build, sequence):
    net, params, buffers = build(**MODELS[model], steps=3)
    x_seq, labels = sequence(3, 4, 8)
    x_seq, params, buffers = (
        x_seq.astype(np.float32),
        *({n: x.astype(np.float32) for n, x in group.items()} for group in (params, buffers)),
    )
    ops = get_ops("numba")
    all_kept = trained_step(net, params, buffers, x_seq, labels, ops)
    spikes_kept = trained_step(net, params, buffers, x_seq, labels, ops, keep="spikes")
    assert all_kept[1] == spikes_kept[1]
    for name, g in all_kept[2].items():
        assert g.tobytes() == spikes_kept[2][name].tobytes(), name
    for name, x in all_kept[0].buffers.items():
        assert x.tobytes() == spikes_kept[0].buffers[name].tobytes(), name
    assert firing_rates(all_kept[0]) == firing_rates(spikes_kept[0])


@MODEL
def test_kernels_and_numpy_agree_in_a_network(model, build, sequence):
    net, params, buffers = build("1-1:5-16", **MODELS[model], steps=3)
    x_seq, labels = sequence(3, 4, 8)
    groups = [{n: x.astype(np.float32) for n, x in g.items()} for g in (params, buffers)]
    found = [
        trained_step(net, *groups, x_seq.astype(np.float32), labels, ops)
        for ops in (NUMPY, get_ops("numba"))
    ]
    (run, loss, grads), (other, other_loss, other_grads) = found
    for a, b in zip(recomputed_neurons(run), recomputed_neurons(other), strict=True):
        assert np.array_equal(a.o_seq, b.o_seq)
    assert loss == pytest.approx(other_loss, rel=1e-5)
    for name, g in grads.items():
        assert other_grads[name].dtype == np.float32
        scale = max(float(np.abs(g).max()), 1e-3)
        np.testing.assert_allclose(other_grads[name], g, rtol=0, atol=1e-3 * scale, err_msg=name)


@pytest.mark.parametrize("model", ["plif", "mpbn", "real_spike", "glif, tebn"])
def test_a_hidden_layer_of_the_head_has_such_neurons_too(model, build, sequence):
    """Its linear layer takes numbers, where convolutions take spikes as they are."""
    net, params, buffers = build("resnet19-tet", width=0.03, **MODELS[model], steps=3)
    assert any(name.startswith("head.lif.") for name in params)
    x_seq, labels = sequence(3, 4, 8)
    groups = [{n: x.astype(np.float32) for n, x in g.items()} for g in (params, buffers)]
    given = net, *groups, x_seq.astype(np.float32), labels
    _, loss, grads = trained_step(*given, NUMPY)
    run, other_loss, other = trained_step(*given, get_ops("numba"))
    low = trained_step(*given, get_ops("numba"), keep="spikes")
    assert loss == pytest.approx(other_loss, rel=1e-5)
    assert low[1] == other_loss
    assert "head.lif" in firing_rates(run)
    for name, g in grads.items():
        atol = 1e-3 * max(float(np.abs(g).max()), 1e-3)
        np.testing.assert_allclose(other[name], g, rtol=0, atol=atol, err_msg=name)
    if model == "mpbn":
        assert np.any(run.buffers["head.lif.running_mean"] != groups[1]["head.lif.running_mean"])


@MODEL
def test_names_shapes_and_start(model, build):
    net, _, _ = build(**MODELS[model], steps=3)
    params, buffers = init_params(net, np.random.default_rng(0)), init_buffers(net)
    assert {n: x.shape for n, x in params.items()} == net.shapes()
    assert {n: x.shape for n, x in buffers.items()} == net.buffer_shapes()
    layers = {name.rpartition(".")[0] for name in params if is_neuron(name)}
    assert layers == (set(net.neurons()) if net.neuron_model else set())
    plain, plain_params = replace(net, neuron_model=None, norm_model=None), {}
    plain_params = init_params(plain, np.random.default_rng(0))
    for name, x in plain_params.items():
        if not is_norm(name):
            assert np.array_equal(params[name], x), name
    assert net.count_parameters() == sum(x.size for x in params.values())


@MODEL
def test_a_file_holds_the_network(model, build, tmp_path):
    """PyTorch's order turns linear weights, not what has steps and channels."""
    net, params, buffers = build(**MODELS[model], steps=3)
    state = state_dict(net, params, buffers)
    for name, x in (params | buffers).items():
        if is_norm(name) or is_neuron(name):
            assert np.array_equal(state[name], x), name
    back = from_state_dict(net, state)
    for group, same in zip((params, buffers), back, strict=True):
        assert group.keys() == same.keys()
        assert all(np.array_equal(group[name], same[name]) for name in group)


SETTINGS = {
    "plif": {"neuron_model": "plif", "plif_input_decay": False},
    "glif": {"neuron_model": "glif", "tau": 0.25, "v_th": 0.5},
    "diet": {"neuron_model": "diet", "reset": "subtract"},
    "mpbn": {"neuron_model": "mpbn"},
    "real_spike": {"neuron_model": "real_spike"},
    "tebn": {"norm_model": "tebn"},
    "bntt": {"norm_model": "bntt"},
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.slow_after(1)
def test_a_run_is_trained_resumed_evaluated_and_exported(name, tmp_path, capsys):
    options = [f"--{'no-' * (v is False)}{k.replace('_', '-')}" for k, v in SETTINGS[name].items()]
    values = [[] if v is False else [str(v)] for v in SETTINGS[name].values()]
    given = [x for pair in zip(options, values, strict=True) for x in (pair[0], *pair[1])]
    folder = tmp_path / "run"
    assert main(["train", "--epochs", "1", "--arch", "1-1:8-16", *given, "--out", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config.items() >= SETTINGS[name].items()
    assert main(["train", "--resume", str(folder), "--epochs", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    accuracy = json.loads(capsys.readouterr().out)["test_accuracy"]
    assert accuracy > 0.3
    file = tmp_path / "model.npz"
    assert main(["export", str(folder), str(file)]) == 0
    model = refsnn.load(file)
    test = refsnn.load_digits().test
    assert model.score(test.images, test.labels) == pytest.approx(accuracy)
    if find_spec("nir") is None:
        return
    nir = tmp_path / "model.nir"
    if name in ("plif", "mpbn", "real_spike", "psp"):  # LIFs, once they are folded
        assert main(["export", str(folder), str(nir)]) == 0
        return
    assert main(["export", str(folder), str(nir)]) == 2
    assert "for which NIR has no node" in capsys.readouterr().err
    assert not nir.exists()


def test_parameters_of_neurons_never_decay():
    settings = make_config(weight_decay=0.1, decay_on="all").optimizer
    assert decay_of("stage1.block0.lif1.w", settings) == 0
    assert decay_of("stem.lif0.weight", settings) == 0
    assert decay_of("stem.bn0.weight", settings) == 0.1
    assert decay_of("stem.bn0.p", settings) == 0.1
    weights = make_config(weight_decay=0.1, decay_on="weights").optimizer
    assert decay_of("stem.bn0.weight", weights) == 0
    assert decay_of("stem.conv0.weight", weights) == 0.1


def test_the_limit_of_a_leak_holds_after_an_update(build):
    net, params, _ = build(**MODELS["diet"])
    moved = params | {"stem.lif0.leak": np.array([1.3])}
    after = limited(net, moved)
    assert after["stem.lif0.leak"].tolist() == [1]
    assert after["stem.conv0.weight"] is moved["stem.conv0.weight"]
    assert limited(replace(net, neuron_model=None), moved) is moved


def test_norms_of_weights_are_of_weights_alone(build, sequence):
    net, params, buffers = build(**MODELS["bntt"], steps=3)
    x_seq, labels = sequence(3, 3, 6)
    *_, grads = trained_step(net, params, buffers, x_seq, labels, NUMPY)
    assert all(".bn" not in name for name in weight_gradient_norms(grads))


def test_caches_of_neurons_have_potentials_and_spikes(build, sequence):
    net, params, buffers = build(**MODELS["mpbn"])
    run = forward(net, params, buffers, sequence(3, 3, 6)[0], NUMPY)
    for _, cache in neuron_caches(run):
        assert cache.u_pre_seq.shape == cache.o_seq.shape


@pytest.mark.parametrize("model", ["glif", "tebn", "bntt"])
def test_another_number_of_steps_is_refused(model, build, sequence):
    net, params, buffers = build(**MODELS[model], steps=3)
    want = "x_seq: got 2 steps, want 3: it has parameters for each step"
    with pytest.raises(ValueError, match=want):
        forward(net, params, buffers, sequence(2, 3, 6)[0], NUMPY)
    with pytest.raises(ValueError, match="steps: got 0"):
        replace(net, steps=0)


def test_models_of_another_class_are_refused():
    config = make_config()
    for field, value in (("neuron_model", "plif"), ("norm_model", NORMS["tebn"])):
        with pytest.raises(TypeError, match=f"{field}: got"):
            replace(config.build_network(1, 3), **{field: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"neuron_model": "glif"}, "v_th: got 1.0, want less than 1 for glif"),
        ({"neuron_model": "diet"}, "reset: got zero, want subtract"),
        (
            {"plif_input_decay": False},
            "plif_input_decay: got False, but neuron_model is lif; only plif has this option",
        ),
        (
            {"neuron_model": "plif", "diet_reset_leaks": False},
            "diet_reset_leaks: got False, but neuron_model is plif; only diet has this option",
        ),
        ({"neuron_model": "izhikevich"}, "neuron_model: got 'izhikevich', want one of lif, plif"),
        ({"norm_model": "layer"}, "norm_model: got 'layer', want one of bn, tebn, bntt, psp"),
        ({"psp_root": False}, "psp_root: got False, but norm_model is bn; only psp has this"),
        (
            {"norm_model": "psp", "norm_statistics": "per_step"},
            "norm_statistics: got per_step, but PSP-BN has pooled alone",
        ),
        ({"norm_model": "psp", "norm_scale": 0.5}, "norm_scale: got 0.5, but PSP-BN has 1.0"),
        (
            {"norm_model": "psp", "norm_identity": True},
            "norm_identity: got True, but PSP-BN normalises no terms of sums",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        make_config(**given)


def test_images_are_encoded_for_the_steps_of_the_run():
    config = make_config(norm_model="tebn", steps=5)
    net = config.build_network(1, 3)
    assert net.steps == 5
    params, buffers = init_params(net, np.random.default_rng(0)), init_buffers(net)
    run = forward(net, params, buffers, encode(np.zeros((2, 8, 8, 1)), 5), NUMPY)
    assert len(run.heads[-1].y_seq) == 5
    assert make_config(steps=5).build_network(1, 3).steps == 0
