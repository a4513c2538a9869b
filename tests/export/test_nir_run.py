"""Graphs of NIR that others made: run as NIR says, or refused by the node's name and type."""

from itertools import pairwise

import numpy as np
import pytest

from refsnn.export.nir_run import node_outputs, read_nir, run_nir

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")


def chain(*nodes, shape=(3,), out=(3,), metadata=None):
    """input -> the nodes, each by its type's name -> output"""
    named = {type(node).__name__.lower(): node for node in nodes}
    names = ["input", *named, "output"]
    ends = {"input": nir.Input(np.array(shape)), "output": nir.Output(np.array(out))}
    about = {"dt": 0.1, "readout": "mean"} if metadata is None else metadata
    edges = list(pairwise(names))
    return nir.NIRGraph(ends | named, edges, about, type_check=False)


def neuron(kind=None, **changes):
    values = {"tau": 0.2, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}
    if kind is nir.IF:
        values = {"r": 10.0, "v_threshold": 1.0, "v_reset": 0.0}
    return (kind or nir.LIF)(**{n: np.full(3, x) for n, x in (values | changes).items()})


def rough(shape=(6, 2, 3)):
    return np.random.default_rng(3).normal(1, 2, shape)


def test_neurons_with_constants_of_their_own_follow_their_equation():
    rng = np.random.default_rng(0)
    c, dt = rough(), 0.1
    lif = nir.LIF(
        tau=rng.uniform(0.15, 1, 3), r=rng.uniform(0.5, 3, 3), v_leak=rng.normal(0, 0.3, 3),
        v_threshold=rng.uniform(0.2, 1, 3), v_reset=rng.normal(0, 0.3, 3),
    )  # fmt: skip
    got = node_outputs(chain(lif), c)["output"]
    want = np.zeros_like(c)
    for n in range(2):
        for i in range(3):
            v = 0.0
            for t in range(6):
                v += dt / lif.tau[i] * (lif.v_leak[i] - v + lif.r[i] * c[t, n, i])
                if v > lif.v_threshold[i]:
                    want[t, n, i], v = 1, lif.v_reset[i]
    assert 0.1 < want.mean() < 0.9
    assert np.array_equal(got, want)


def test_integrate_and_fire():
    got = node_outputs(chain(neuron(nir.IF, r=5.0)), np.full((5, 1, 3), 0.9))["output"]
    assert got[:, 0, 0].tolist() == [0, 0, 1, 0, 0]  # 0.45 a step


@pytest.mark.parametrize("dt", np.random.default_rng(4).uniform(1e-5, 1, 20))
def test_a_leak_of_half_is_half_in_float32_too(dt):
    below_one = np.nextafter(np.float32(1), np.float32(0))
    for v_th, fires in ((np.float32(1), 0), (below_one, 1)):  # u_pre = 0.5 * 0.5 + 0.75
        lif = nir.LIF(*(np.full(3, x, np.float32) for x in (dt / 0.5, 2, 0, v_th, 0)))
        c = np.broadcast_to(np.float32([0.5, 0.75])[:, None, None], (2, 1, 3))
        got = node_outputs(chain(lif, metadata={"dt": dt}), c)["output"]
        assert got[:, 0, 0].tolist() == [0, fires]


def test_potentials_round_as_float32_does():
    c = np.broadcast_to(np.array([2.0**-26, 1])[:, None, None], (2, 1, 3))
    lif = neuron(tau=0.2, r=2.0)
    for dtype, fires in (("float64", 1), ("float32", 0)):
        assert node_outputs(chain(lif), c.astype(dtype))["output"][:, 0, 0].tolist() == [0, fires]


def test_axes_of_neurons_are_channels_first_in_the_graph():
    v_th = np.arange(24.0).reshape(2, 3, 4)  # (C, H, W)
    r, zero = np.full(v_th.shape, 10.0), np.zeros(v_th.shape)
    graph = chain(nir.IF(r, v_th, zero), shape=v_th.shape, out=v_th.shape)
    got = node_outputs(graph, np.full((1, 1, 3, 4, 2), 11.5))["output"]
    assert np.array_equal(got[0, 0], (v_th < 11.5).transpose(1, 2, 0))


def test_linear_affine_and_flatten():
    rng, x = np.random.default_rng(1), rough((4, 2, 2, 3, 5))
    flatten = nir.Flatten({"input": np.array([5, 2, 3])}, 0, -1)
    weight, bias = rng.normal(size=(4, 30)), rng.normal(size=4)
    flat = x.transpose(0, 1, 4, 2, 3).reshape(4, 2, 30)
    for node, want in (
        (nir.Linear(weight), flat @ weight.T),
        (nir.Affine(weight, bias), flat @ weight.T + bias),
    ):
        graph = chain(flatten, node, shape=(5, 2, 3), out=(4,))
        np.testing.assert_allclose(node_outputs(graph, x)["output"], want, atol=1e-12)
        np.testing.assert_allclose(run_nir(graph, x), want.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(run_nir(graph, x, readout="sum"), want.sum(0), atol=1e-12)


def conv(**changes):
    rng = np.random.default_rng(2)
    values = {
        "input_shape": (5, 6), "weight": rng.normal(size=(2, 3, 3, 2)), "stride": (2, 1),
        "padding": (1, 0), "dilation": 1, "groups": 1, "bias": rng.normal(size=2),
    }  # fmt: skip
    return nir.Conv2d(**values | changes)


def test_convolution_against_the_sum_written_out():
    node, x = conv(), rough((1, 1, 5, 6, 3))
    got = node_outputs(chain(node, shape=(3, 5, 6), out=(2, 3, 5)), x)["output"]
    padded = np.pad(x[0, 0], ((1, 1), (0, 0), (0, 0)))
    assert got.shape == (1, 1, 3, 5, 2)
    for o, i, j in np.ndindex(2, 3, 5):
        want = node.bias[o] + sum(
            node.weight[o, c, a, b] * padded[2 * i + a, j + b, c] for c, a, b in np.ndindex(3, 3, 2)
        )
        assert got[0, 0, i, j, o] == pytest.approx(want, abs=1e-12)


def pool(kernel, stride, padding):
    return nir.AvgPool2d(*map(np.array, (kernel, stride, padding)))


def test_average_pooling_counts_padding_as_zeros():
    x = rough((1, 1, 4, 4, 1))
    graph = chain(pool((3, 3), (2, 2), (1, 1)), shape=(1, 4, 4), out=(1, 2, 2))
    got = node_outputs(graph, x)["output"]
    assert got[0, 0, 0, 0, 0] == pytest.approx(x[0, 0, :2, :2].sum() / 9)
    whole = chain(pool((4, 4), (4, 4), (0, 0)), shape=(1, 4, 4), out=(1, 1, 1))
    assert node_outputs(whole, x)["output"].item() == pytest.approx(x.mean())


def test_edges_that_meet_add():
    graph = chain(neuron())
    graph.nodes["scale"] = nir.Linear(2 * np.eye(3))
    graph.edges += [("input", "scale"), ("scale", "output")]
    x = rough()
    outputs = node_outputs(graph, x)
    np.testing.assert_allclose(outputs["output"], outputs["lif"] + 2 * x, atol=1e-12)
    assert outputs["lif"].any()


def cuba():
    names = ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in", "v_reset")
    return nir.CubaLIF(**{name: np.ones(3) for name in names})


@pytest.mark.parametrize(
    "node",
    [cuba(), nir.Threshold(np.ones(3)), nir.Scale(np.ones(3)), nir.Delay(np.ones(3)),
     chain(neuron())],
    ids=lambda node: type(node).__name__,
)  # fmt: skip
def test_types_that_are_not_supported_are_refused_by_name(node, tmp_path):
    kind = type(node).__name__
    message = rf"node {kind.lower()}: got type {kind}, want one of Input, Output, Conv2d, "
    graph = chain(node)
    with pytest.raises(ValueError, match="^" + message):
        node_outputs(graph, rough())
    nir.write(tmp_path / "a.nir", graph)
    with pytest.raises(ValueError, match=rf"a\.nir: {message}"):
        read_nir(tmp_path / "a.nir")


def test_a_type_that_the_package_does_not_know_is_refused_by_name(tmp_path):
    nir.write(tmp_path / "a.nir", chain(neuron()))
    with h5py.File(tmp_path / "a.nir", "a") as file:
        del file["node/nodes/lif/type"]
        file["node/nodes/lif/type"] = "Resonator"
    with pytest.raises(ValueError, match="node lif: got type Resonator, want one of"):
        read_nir(tmp_path / "a.nir")


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (conv(groups=3), r"groups 3 and dilation \(1, 1\), want 1"),
        (conv(dilation=(1, 2)), r"groups 1 and dilation \(1, 2\), want 1"),
        (conv(padding="same", stride=1), "padding: got 'same', want numbers"),
        (conv(weight=np.ones((2, 4, 3, 2))), "want 3 like x"),
        (pool((2, 3), (2, 2), (0, 0)), r"got kernel \(2, 3\), .* want square ones"),
        (nir.Flatten({"input": np.array([3, 5, 6])}, 1, -1), "got start_dim 1 and end_dim -1"),
        (neuron(), r"got parameters for \(3,\), want \(5, 6, 3\) like the input"),
        (nir.Affine(np.ones((4, 3)), np.ones(4)), r"x: got shape .*, want \(N, in\)"),
    ],
)
def test_nodes_that_can_not_be_run_are_named(node, message):
    kind = type(node).__name__
    graph = chain(node, shape=(3, 5, 6))
    with pytest.raises(ValueError, match=rf"^node {kind.lower()} \({kind}\): .*{message}"):
        node_outputs(graph, rough((2, 2, 5, 6, 3)))


def test_cycles_loose_nodes_and_other_numbers_of_ends_are_refused():
    graph = chain(neuron())
    graph.edges.append(("lif", "lif"))
    with pytest.raises(ValueError, match="graph: got the cycle lif -> lif, want none"):
        node_outputs(graph, rough())
    graph = chain(neuron())
    graph.edges = graph.edges[1:]
    with pytest.raises(ValueError, match="node lif: got no edge that leads to it"):
        node_outputs(graph, rough())
    graph = chain(neuron())
    graph.nodes["more"] = nir.Input(np.array([3]))
    with pytest.raises(ValueError, match="graph: got 2 nodes of type Input, want 1"):
        node_outputs(graph, rough())


def test_what_the_metadata_does_not_say_must_be_given():
    graph, x = chain(neuron(), metadata={}), rough()
    with pytest.raises(ValueError, match="dt: got None, and the graph's metadata has none"):
        run_nir(graph, x)
    with pytest.raises(ValueError, match="readout: got None, want one of mean, sum"):
        run_nir(graph, x, dt=0.1)
    with pytest.raises(ValueError, match=r"dt: got 0\.0, want a finite number above 0"):
        run_nir(graph, x, dt=0)
    want = run_nir(chain(neuron()), x)
    assert want.any()
    assert np.array_equal(run_nir(graph, x, dt=0.1, readout="mean"), want)
    assert not np.array_equal(run_nir(graph, x, dt=0.05, readout="mean"), want)


def test_inputs_of_another_shape_or_type_are_refused():
    graph = chain(pool((5, 6), (5, 6), (0, 0)), shape=(3, 5, 6), out=(3, 1, 1))
    node_outputs(graph, rough((2, 2, 5, 6, 3)))
    with pytest.raises(ValueError, match=r"x_seq: got \(2, 2, 3, 5, 6\), want \(T, N, 5, 6, 3\)"):
        node_outputs(graph, rough((2, 2, 3, 5, 6)))
    with pytest.raises(TypeError, match="x_seq: got dtype int64"):
        node_outputs(graph, np.ones((2, 2, 5, 6, 3), np.int64))


def test_computing_is_in_the_inputs_precision():
    graph = chain(nir.Linear(np.eye(3)), neuron())
    for dtype in ("float32", "float64"):
        for value in node_outputs(graph, rough().astype(dtype)).values():
            assert value.dtype == dtype


def test_files_that_are_no_graphs_are_refused(tmp_path):
    path = tmp_path / "a.nir"
    with pytest.raises(FileNotFoundError):
        read_nir(path)
    nir.write(path, chain(neuron()))
    content = path.read_bytes()
    for length in [*range(0, len(content), 1009), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=r"a\.nir: no NIR graph, or damaged"):
            read_nir(path)
    with h5py.File(path, "w") as file:
        file["x"] = 1
    with pytest.raises(ValueError, match=r"a\.nir: no NIR graph, or damaged"):
        read_nir(path)
