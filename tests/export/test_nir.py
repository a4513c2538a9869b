"""The NIR graph of a network computes what the network does."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.export.nir import node_outputs, read_nir, run_nir, to_nir, write_nir
from refsnn.network import (
    Architecture,
    Network,
    Stem,
    encode,
    fold,
    forward,
    init_buffers,
    neuron_caches,
)
from refsnn.network import init_params as initial
from refsnn.ops import LIF, NEURONS, NORMS, NUMPY, PLIF, AvgPool, BatchNorm

nir = pytest.importorskip("nir")


def evaluated(net, params, buffers, x_seq):
    run = forward(net, params, buffers, x_seq, NUMPY, training=False)
    return {name: cache.o_seq for name, cache in neuron_caches(run)}, run.branches[-1]


def images(size, dtype=np.float64, count=3):
    return np.random.default_rng(7).normal(size=(count, *size, 3)).astype(dtype)


SETTINGS = {
    "branches by stage": {},
    "branches by block, two a stage": {"arch": "2-2:4-8", "branches": "block"},
    "hidden layer in the head": {"arch": "resnet19-tet", "scale": 1 / 16},
    "stem with a stride and pooling": {"arch": "resnet18-imagenet", "scale": 1 / 16},
    "three convolutions in the stem": {"arch": "resnet20m", "scale": 1 / 16},
    "IF": {"lif": LIF(1.0, 0.7)},
    "another leak": {"lif": LIF(0.3, 0.5)},
    "fires at threshold": {"lif": LIF(fire_at_threshold=True)},
    "skip by average pooling": {"downsample": "avgpool"},
    "readout by sum": {"readout": "sum"},
    "batch norm": {"norm": BatchNorm("per_step", scale=0.8, eps=0.01)},
    "scaled sums": {"norm": BatchNorm(scale=0.8), "merge_scale": 0.6},
    "PLIF": {"neuron_model": PLIF(), "lif": LIF(0.4, 0.5), "arch": "2-1:4-8"},
    "PLIF of c[t]": {"neuron_model": PLIF(input_decay=False), "lif": LIF(0.4, 0.7)},
    "SEW ADD, three in a row": {"block": "sew_add", "arch": "3-2:4-8"},
    "SEW ADD, pooling": {"block": "sew_add", "arch": "resnet20m", "scale": 1 / 16},
    "SEW ADD, IF, skip by average pooling": {
        "block": "sew_add",
        "lif": LIF(1.0, 0.7),
        "downsample": "avgpool",
    },
    "SEW ADD, PLIF": {"block": "sew_add", "neuron_model": PLIF(), "lif": LIF(0.4, 0.5)},
    "MS, three in a row": {"block": "ms", "arch": "3-2:4-8", "lif": LIF(0.25, 0.5)},
    "MS, hidden layer in the head": {"block": "ms", "arch": "resnet19-tet", "scale": 1 / 16},
    "MS, pooling": {"block": "ms", "arch": "resnet20m", "scale": 1 / 16},
    "MS, skip by average pooling": {"block": "ms", "downsample": "avgpool"},
    "MS, scaled sums": {"block": "ms", "norm": BatchNorm(scale=0.8), "merge_scale": 0.6},
    "tdBN, normed skips": {"norm": BatchNorm(scale=0.8), "norm_identity": True, "arch": "2-1:4-8"},
    "MPBN": {"neuron_model": NEURONS["mpbn"]()},
    "MPBN, fires at threshold": {
        "neuron_model": NEURONS["mpbn"](),
        "lif": LIF(fire_at_threshold=True),
    },
    "Real Spike": {"neuron_model": NEURONS["real_spike"](), "arch": "2-1:4-8"},
    "PSP-BN": {"norm_model": NORMS["psp"]()},
    "MS, PSP-BN": {"norm_model": NORMS["psp"](), "block": "ms", "lif": LIF(0.5, 0.5)},
    "MS, Real Spike": {"neuron_model": NEURONS["real_spike"](), "block": "ms"},
    "MS, PLIF": {"block": "ms", "neuron_model": PLIF(), "lif": LIF(0.4, 0.5)},
}


class Sized(PLIF):
    """A neuron that NIR could describe but for its spikes' size."""

    binary = False

    def constants(self, params, p, channels, steps):
        k = super().constants(params, p, channels, steps)
        return k._replace(amplitude=2 * k.amplitude)


class Apart(PLIF):
    """A neuron whose channels differ in their leak, which a node of one leak can't say."""

    def constants(self, params, p, channels, steps):
        k = super().constants(params, p, channels, steps)
        return k._replace(leak=k.leak * np.linspace(0.5, 1, channels))


@pytest.mark.parametrize("model", [Sized(), Apart(), NEURONS["glif"](), NEURONS["diet"]()])
def test_neurons_that_no_node_describes_are_refused(model, numbers):
    reset = "subtract" if type(model).__name__ == "Diet" else "zero"
    net, params, buffers = numbers(neuron_model=model, lif=LIF(0.4, 0.5, reset=reset), steps=2)
    with pytest.raises(ValueError, match="for which NIR has no node"):
        to_nir(net, params, buffers, (8, 8))


@pytest.mark.parametrize("block", ["sew_and", "sew_iand"])
def test_products_of_spikes_are_refused(block, numbers):
    with pytest.raises(ValueError, match=f"^net: block {block} multiplies spikes, for which NIR"):
        to_nir(*numbers(block=block), (8, 8))


@pytest.mark.parametrize("norm", ["tebn", "bntt"])
def test_norms_of_each_step_are_refused(norm, numbers):
    with pytest.raises(ValueError, match=f"net: has {norm.upper()}, for which NIR has no node"):
        to_nir(*numbers(norm_model=NORMS[norm](), steps=2), (8, 8))


def test_firing_below_a_threshold_is_refused(numbers):
    net, params, buffers = numbers(neuron_model=NEURONS["mpbn"]())
    params["stage1.block0.lif2.weight"][1] = -0.5
    message = r"net: 1 channels of stage1\.block0\.lif2 fire below a threshold \(a negative gamma"
    with pytest.raises(ValueError, match=message):
        to_nir(net, params, buffers, (8, 8))


def test_amplitudes_that_meet_other_spikes_are_refused(numbers):
    with pytest.raises(ValueError, match="net: has RealSpike in blocks of kind sew_add"):
        to_nir(*numbers(neuron_model=NEURONS["real_spike"](), block="sew_add"), (8, 8))


def test_a_folded_network_gives_the_same_graph(numbers):
    net, params, buffers = numbers()
    folded = *fold(net, params, buffers), {}
    graphs = [to_nir(*given, (8, 8)) for given in ((net, params, buffers), folded)]
    assert graphs[0].nodes.keys() == graphs[1].nodes.keys()
    for name, node in graphs[0].nodes.items():
        for key in ("weight", "bias"):
            if hasattr(node, key):
                assert np.array_equal(getattr(node, key), getattr(graphs[1].nodes[name], key))


@pytest.mark.processes
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", SETTINGS)
def test_a_file_that_is_read_back_gives_the_same_spikes_and_logits(case, dtype, numbers, tmp_path):
    net, params, buffers = numbers(dtype=dtype, **SETTINGS[case])
    size = (16, 12) if net.downsample == "conv" else (8, 4)
    x_seq = encode(images(size, dtype), 4)
    spikes, logits = evaluated(net, params, buffers, x_seq)
    write_nir(tmp_path / "a.nir", to_nir(net, params, buffers, size))
    graph = read_nir(tmp_path / "a.nir")
    outputs = node_outputs(graph, x_seq)
    for name, o_seq in spikes.items():
        assert np.array_equal(outputs[name], o_seq), name
    assert all(0.01 < o_seq.mean() < 0.99 for o_seq in spikes.values())
    got = run_nir(graph, x_seq)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, logits, rtol=0, atol=1e-12 if dtype == "float64" else 1e-5)


@settings(deadline=None, max_examples=40)
@given(
    tau=st.floats(0.01, 1),
    v_th=st.floats(0.1, 2),
    dt=st.floats(1e-6, 10),
    steps=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 999),
    widths=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    block=st.sampled_from(["basic", "sew_add", "ms"]),
)
def test_any_leak_threshold_and_step(tau, v_th, dt, steps, size, seed, widths, block):
    net = Network(Architecture((1, 1), widths, 2), 3, 4, lif=LIF(tau, v_th), block=block)
    rng = np.random.default_rng(seed)
    params, buffers = initial(net, rng), init_buffers(net)
    buffers = {name: x + rng.uniform(0, 1, x.shape) for name, x in buffers.items()}
    x_seq = rng.normal(0, 3, (steps, 2, *size, 3))
    spikes, logits = evaluated(net, params, buffers, x_seq)
    graph = to_nir(net, params, buffers, size, dt)
    outputs = node_outputs(graph, x_seq)
    assert all(np.array_equal(outputs[name], o_seq) for name, o_seq in spikes.items())
    np.testing.assert_allclose(run_nir(graph, x_seq), logits, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dt", np.random.default_rng(4).uniform(1e-5, 1, 5))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_neuron_with_a_tiny_tau_is_exported(dtype, dt, numbers):
    for tau in (1e-300, 1e-12, 3e-8, 1e-7):  # tau of NIR is dt, or the next float
        net, params, buffers = numbers(dtype=dtype, lif=LIF(tau))
        x_seq = encode(images((4, 4), dtype), 2)
        outputs = node_outputs(to_nir(net, params, buffers, (4, 4), dt), x_seq)
        spikes, _ = evaluated(net, params, buffers, x_seq)
        assert all(np.array_equal(outputs[name], o_seq) for name, o_seq in spikes.items())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("v_th", [1.0, 0.7])
@pytest.mark.parametrize("fire_at_threshold", [False, True])
def test_potentials_that_land_on_the_threshold(fire_at_threshold, v_th, dtype, numbers):
    net, params, buffers = numbers(
        dtype=dtype, lif=LIF(0.5, v_th, fire_at_threshold=fire_at_threshold)
    )
    params["stem.conv0.weight"][:] = 0
    params["stem.bn0.bias"][:] = v_th  # so c is v_th in every step
    buffers["stem.bn0.running_mean"][:] = 0
    outputs = node_outputs(to_nir(net, params, buffers, (4, 4)), encode(images((4, 4), dtype), 3))
    fired = outputs["stem.lif0"].all(axis=(1, 2, 3, 4)).tolist()
    assert fired == ([True, True, True] if fire_at_threshold else [False, True, False])


def test_the_fields_of_the_nodes(numbers):
    net, params, buffers = numbers(dtype="float32")
    graph = to_nir(net, params, buffers, (8, 6), dt=0.25, about={"steps": 4})
    assert graph.metadata == {"dt": 0.25, "readout": "mean", "steps": 4}
    assert not any(name.startswith("branch") for name in graph.nodes)
    assert {name for name, node in graph.nodes.items() if type(node) is nir.LIF} == {
        "stem.lif0",
        "stage1.block0.lif1",
        "stage1.block0.lif2",
        "stage2.block0.lif1",
        "stage2.block0.lif2",
    }
    lif = graph.nodes["stage2.block0.lif2"]
    for name, value in {"tau": 0.5, "r": 2, "v_leak": 0, "v_threshold": 1, "v_reset": 0}.items():
        assert getattr(lif, name).shape == (8, 4, 3)
        assert getattr(lif, name).dtype == np.float32
        assert (getattr(lif, name) == value).all(), name
    into = {name: {a for a, b in graph.edges if b == name} for name in graph.nodes}
    assert into["stage1.block0.lif2"] == {"stage1.block0.conv2", "stem.lif0"}
    assert into["stage2.block0.lif2"] == {"stage2.block0.conv2", "stage2.block0.skip.conv"}
    weight = graph.nodes["stage2.block0.conv1"].weight
    assert weight.shape == (8, 4, 3, 3)
    assert graph.nodes["head.fc"].weight.shape == (5, 8)
    node = to_nir(*numbers(lif=LIF(1.0)), (8, 6), dt=0.25).nodes["stem.lif0"]
    assert type(node) is nir.IF
    assert (node.r == 4).all()


@pytest.mark.parametrize(
    ("block", "first", "last"),
    [
        ("sew_add", "conv1", "lif2"),
        ("ms", "lif1", "conv2"),
    ],
)
def test_edges_lead_from_each_term_of_a_sum(block, first, last, numbers):
    """The stem's is the first one; edges are in the order in which the network adds."""
    graph = to_nir(*numbers("2-1:4-8", block=block), (8, 6))
    stem = "stem.conv0" if block == "ms" else "stem.lif0"
    into = {name: [a for a, b in graph.edges if b == name] for name in graph.nodes}
    assert into[f"stage1.block0.{first}"] == [stem]
    assert into[f"stage1.block1.{first}"] == [stem, f"stage1.block0.{last}"]
    passed = [stem, f"stage1.block0.{last}", f"stage1.block1.{last}"]
    assert into[f"stage2.block0.{first}"] == into["stage2.block0.skip.conv"] == passed
    if block == "ms":
        assert into["final.lif"] == ["stage2.block0.skip.conv", "stage2.block0.conv2"]
        assert into["head.pool"] == ["final.lif"]
        assert "stem.lif0" not in graph.nodes
    else:
        assert into["head.pool"] == ["stage2.block0.skip.lif", "stage2.block0.lif2"]


def test_a_folded_convolution_is_the_convolution_then_batch_norm(numbers):
    net, params, buffers = numbers(norm=BatchNorm(scale=0.5, eps=0.1))
    conv = to_nir(net, params, buffers, (4, 4)).nodes["stem.conv0"]
    for out in range(4):
        gain = 0.5 * params["stem.bn0.weight"][out]
        gain /= (buffers["stem.bn0.running_var"][out] + 0.1) ** 0.5
        want = params["stem.conv0.weight"][2, 0, 1, out] * gain
        assert conv.weight[out, 1, 2, 0] == pytest.approx(want, rel=1e-14)
        shift = params["stem.bn0.bias"][out] - buffers["stem.bn0.running_mean"][out] * gain
        assert conv.bias[out] == pytest.approx(shift, rel=1e-12)


@pytest.mark.processes
def test_a_file_holds_the_same_graph_and_the_same_bytes_each_time(numbers, tmp_path):
    graph = to_nir(*numbers(), (6, 6))
    for name in "ab":
        write_nir(tmp_path / name, graph)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    again = read_nir(tmp_path / "a")
    assert set(again.edges) == set(graph.edges)
    assert again.metadata == graph.metadata
    assert {n: type(node) for n, node in again.nodes.items()} == {
        n: type(node) for n, node in graph.nodes.items()
    }
    for name, node in graph.nodes.items():
        for key in ("weight", "bias", "tau", "r", "v_leak", "v_threshold", "v_reset"):
            if hasattr(node, key):
                value = getattr(again.nodes[name], key)
                assert value.dtype == getattr(node, key).dtype
                assert value.tobytes() == getattr(node, key).tobytes()


def test_a_network_that_nir_can_not_express_is_refused(numbers):
    with pytest.raises(ValueError, match="net: fires the surrogate's primitive"):
        to_nir(*numbers(lif=LIF(smooth=True)), (8, 8))
    for size in ((0, 8), (8, 0), (8, 8.0)):
        with pytest.raises(ValueError, match=r"size: got .*, want a whole number of at least 1"):
            to_nir(*numbers(), size)
    for dt in (0, -1, float("nan")):
        with pytest.raises(ValueError, match=r"dt: got .*, want a finite number above 0"):
            to_nir(*numbers(), (8, 8), dt)
    net, params, buffers = numbers()
    params["head.fc.bias"][2] = np.nan
    with pytest.raises(ValueError, match=r"head\.fc\.bias: got nan"):
        to_nir(net, params, buffers, (8, 8))


def test_an_image_that_is_too_small_for_the_pooling_is_refused():
    net = Network(Architecture((1,), (2,), 2, Stem(pool=AvgPool(2, 2))), 3, 4)
    params, buffers = initial(net, np.random.default_rng(0)), init_buffers(net)
    with pytest.raises(ValueError, match=r"size: got \(1, 1\) pixels at stem\.pool"):
        to_nir(net, params, buffers, (1, 1))


def test_a_missing_extra_is_named_in_one_line(numbers, tmp_path, monkeypatch):
    graph = to_nir(*numbers(), (4, 4))
    write_nir(tmp_path / "a.nir", graph)
    for module in ("nir", "h5py"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, module, None)
            with pytest.raises(ValueError, match=rf"^{module} is .*pip install 'refsnn\[nir\]'$"):
                read_nir(tmp_path / "a.nir")
