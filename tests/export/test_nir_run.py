"""NIR graphs of other programs are run as NIR defines, or refused with the node's name and type."""

import warnings
from itertools import pairwise

import numpy as np
import pytest

from refsnn.export.nir import node_outputs, read_nir, run_nir

nir = pytest.importorskip("nir")


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
        tau=rng.uniform(0.15, 1, 3),
        r=rng.uniform(0.5, 3, 3),
        v_leak=rng.normal(0, 0.3, 3),
        v_threshold=rng.uniform(0.2, 1, 3),
        v_reset=rng.normal(0, 0.3, 3),
    )
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


def test_a_neuron_without_leak_adds_up_its_input():
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
        "input_shape": (5, 6),
        "weight": rng.normal(size=(2, 3, 3, 2)),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": 1,
        "groups": 1,
        "bias": rng.normal(size=2),
    }
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


def test_potentials_start_at_the_given_value():
    lif = neuron(v_reset=-0.5, v_leak=0.4)
    c = np.zeros((1, 1, 3))
    fires = {  # the input with which the first step's potential passes 1: dt/tau = 1/2, r = 2
        start: node_outputs(chain(lif), c + 0.8 - u0 / 2 + 1e-9, start=start)["output"].all()
        and not node_outputs(chain(lif), c + 0.8 - u0 / 2 - 1e-9, start=start)["output"].any()
        for start, u0 in {"zero": 0.0, "v_reset": -0.5, "v_leak": 0.4}.items()
    }
    assert all(fires.values()), fires
    with pytest.raises(ValueError, match="start: got 'rest', want one of zero, v_reset, v_leak"):
        node_outputs(chain(lif), c, start="rest")
    with pytest.raises(ValueError, match=r"node if \(IF\): start: got 'v_leak', which an IF"):
        node_outputs(chain(neuron(nir.IF)), c, start="v_leak")


def test_a_potential_that_starts_above_the_threshold_is_refused():
    lif = neuron(v_threshold=-50e-3, v_reset=-70e-3, v_leak=-65e-3)  # in volts
    with pytest.raises(ValueError, match=r"node lif .*v_threshold: got -0\.05 at \(0,\), want at"):
        node_outputs(chain(lif), rough())
    for start in ("v_reset", "v_leak"):
        assert not node_outputs(chain(lif), 0 * rough(), start=start)["output"].any()


def test_one_number_is_for_all_neurons():
    names = ("tau", "r", "v_leak", "v_threshold", "v_reset")
    want = node_outputs(chain(neuron()), rough())["output"]
    assert want.any()
    for shape in ((), (1,), (1, 3)):
        lif = neuron()
        small = nir.LIF(**{name: np.full(shape, getattr(lif, name)[0]) for name in names})
        assert np.array_equal(node_outputs(chain(small), rough())["output"], want)
    v_th = np.array([0.5, 1.5]).reshape(2, 1, 1)  # a threshold a channel
    graph = chain(
        nir.IF(np.full(v_th.shape, 10.0), v_th, np.zeros(v_th.shape)),
        shape=(2, 3, 4),
        out=(2, 3, 4),
    )
    got = node_outputs(graph, np.ones((1, 1, 3, 4, 2)))["output"]
    assert got[..., 0].all()
    assert not got[..., 1].any()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("dt", [1e-4, 0.1, 1 / 3, 1.0])
def test_a_tau_of_one_step_keeps_nothing(dt, dtype):
    lif = nir.LIF(*(np.full(3, x, dtype) for x in (dt, 1, 0, 1, 0)))
    got = node_outputs(chain(lif, metadata={"dt": dt}), np.full((5, 1, 3), 0.75))["output"]
    assert not got.any()
    below = np.nextafter(np.asarray(dt, dtype), np.asarray(0, dtype))
    lif = nir.LIF(*(np.full(3, x, dtype) for x in (below, 1, 0, 1, 0)))
    with pytest.raises(ValueError, match=r"^node lif \(LIF\): tau: got .* want at least dt, "):
        node_outputs(chain(lif, metadata={"dt": dt}), rough())


def test_integer_constants_of_neurons_are_accepted():
    lif = nir.LIF(*(np.full(3, x) for x in (2, 4, 0, 1, 0)))  # of dtype int64
    got = node_outputs(chain(lif, metadata={"dt": 0.5}), np.full((3, 1, 3), 0.6))["output"]
    assert got[:, 0, 0].tolist() == [0, 1, 0]  # 0.6, 1.05
    node = nir.IF(*(np.full(3, x) for x in (2, 1, 0)))
    got = node_outputs(chain(node, metadata={"dt": 0.5}), np.full((3, 1, 3), 0.6))["output"]
    assert got[:, 0, 0].tolist() == [0, 1, 0]


def test_an_if_node_meant_for_dt_1_gives_a_warning():
    unit = neuron(nir.IF, r=1.0)
    x = np.full((4, 1, 3), 0.6)
    with pytest.warns(UserWarning, match=r"node if \(IF\): has r = 1.* give dt=1"):
        got = node_outputs(chain(unit), x)["output"]
    assert not got.any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = node_outputs(chain(unit), x, dt=1)["output"]
        node_outputs(chain(neuron(nir.IF)), x)
    assert got[:, 0, 0].tolist() == [0, 1, 0, 1]


def cuba():
    names = ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in", "v_reset")
    return nir.CubaLIF(**{name: np.ones(3) for name in names})


@pytest.mark.parametrize(
    "node",
    [
        cuba(),
        nir.Threshold(np.ones(3)),
        nir.Scale(np.ones(3)),
        nir.Delay(np.ones(3)),
        chain(neuron()),
    ],
    ids=lambda node: type(node).__name__,
)
def test_types_that_are_not_supported_are_refused_by_name(node, tmp_path):
    kind = type(node).__name__
    message = rf"node {kind.lower()}: got type {kind}, want one of Input, Output, Conv2d, "
    graph = chain(node)
    with pytest.raises(ValueError, match="^" + message):
        node_outputs(graph, rough())
    nir.write(tmp_path / "a.nir", graph)
    with pytest.raises(ValueError, match=rf"a\.nir: {message}"):
        read_nir(tmp_path / "a.nir")


def bad(node, **changes):
    """The node with fields that its type would not take."""
    for name, value in changes.items():
        setattr(node, name, value)
    return node


def with_one(value, shape=(3,)):
    x = np.ones(shape)
    x.flat[1] = value
    return x


@pytest.mark.parametrize(
    ("node", "message"),
    [
        *(
            (bad(neuron(), **{field: with_one(value)}), rf"{field}: got {value} at \(1,\), want fi")
            for field in ("tau", "r", "v_leak", "v_threshold", "v_reset")
            for value in (np.nan, np.inf, -np.inf)
        ),
        *(
            (bad(neuron(), **{field: with_one(value)}), rf"{field}: got {value} at \(1,\), want fi")
            for field in ("tau", "r")
            for value in (0.0, -0.2)
        ),
        (neuron(tau=0.099), r"tau: got 0\.099 at \(0,\), want at least dt, 0\.1"),
        (neuron(nir.IF, r=np.nan), r"r: got nan at \(0,\), want finite numbers"),
        (neuron(nir.IF, r=0.0), r"r: got 0\.0 at \(0,\), want finite numbers above 0"),
        (bad(neuron(), r=np.ones(4)), r"tau: got shape \(3,\), want \(4,\) like r"),
        (bad(neuron(), tau=np.array(["a"])), "tau: got dtype <U1, want numbers"),
        (bad(neuron(), tau=None), "tau: missing"),
        (bad(neuron(), tau=np.ones(0)), r"tau: got shape \(0,\), want at least one number"),
        (nir.Linear(with_one(np.nan, (3, 3))), r"weight: got nan at \(0, 1\), want finite"),
        (nir.Affine(np.eye(3), with_one(np.inf)), r"bias: got inf at \(1,\), want finite"),
        (nir.Affine(np.eye(3), np.ones(1)), r"bias: got shape \(1,\), want \(3,\) like weight"),
        (nir.Linear(np.ones((3, 3, 3))), r"weight: got shape \(3, 3, 3\), want 2 axes"),
        (nir.Linear(np.full((3, 3), 1e200)), r"output: got \w+ at .*, want finite numbers"),
        (bad(nir.Flatten(np.array([3]), 0, -1), start_dim=0.5), "start_dim: got 0.5, want whole"),
        (nir.Flatten({"input": np.array([4])}, 0, -1), r"input_type: got \(4,\), want \(3,\) like"),
    ],
)
def test_fields_of_nodes_for_features_are_checked(node, message):
    kind = type(node).__name__
    graph, x = chain(node), rough() * (1e200 if message.startswith("output") else 1)
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match=rf"^node {kind.lower()} \({kind}\): {message}"),
    ):
        node_outputs(graph, x)


def test_tensors_are_taken_and_those_that_numpy_can_not_take_named():
    torch = pytest.importorskip("torch")
    x, node = rough(), nir.Linear(2 * np.eye(3))
    want = node_outputs(chain(node), x)["output"]
    assert np.array_equal(node_outputs(chain(nir.Linear(2 * torch.eye(3))), x)["output"], want)
    graph = chain(nir.Linear(torch.eye(3, requires_grad=True)))
    with pytest.raises(ValueError, match=r"node linear \(Linear\): weight: NumPy can't take it"):
        node_outputs(graph, x)


def test_numbers_that_the_inputs_precision_can_not_hold_are_refused():
    for node in (nir.Linear(np.full((3, 3), 1e39)), neuron(r=1e39), neuron(v_leak=-1e39)):
        node_outputs(chain(node), rough())
        with pytest.raises(
            ValueError, match=r"e\+3\d at .*, want numbers that are finite in float32"
        ):
            node_outputs(chain(node), rough().astype("float32"))


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (
            bad(conv(), stride=np.array([0, 1])),
            r"stride: got 0 at \(0,\), want whole numbers from 1 ",
        ),
        (bad(conv(), stride=np.array([1.5, 1])), r"stride: got 1\.5 at \(0,\), want whole numbers"),
        (bad(conv(), stride=np.ones(3, int)), r"stride: got shape \(3,\), want one or two numbers"),
        (bad(conv(), padding=-1), "padding: got -1, want whole numbers from 0 to"),
        (bad(conv(), padding=(7, 0)), r"padding: got \(7, 0\), want at most 6 pixels"),
        (bad(conv(), padding=2**40), "padding: got 1099511627776, want whole numbers"),
        (bad(conv(), weight=np.ones((2, 3, 3))), r"weight: got shape \(2, 3, 3\), want 4 axes"),
        (conv(bias=np.ones(1)), r"bias: got shape \(1,\), want \(2,\) like weight"),
        (conv(bias=with_one(np.nan, 2)), r"bias: got nan at \(1,\), want finite numbers"),
        (conv(input_shape=(6, 5)), r"input_shape: got \(6, 5\), want \(5, 6\) like the input"),
        (pool((0, 0), (1, 1), (0, 0)), r"kernel_size: got 0 at \(0,\), want whole numbers from 1"),
        (pool((2, 2), (0, 0), (0, 0)), r"stride: got 0 at \(0,\), want whole numbers from 1"),
        (pool((2, 2), (2, 2), (-1, -1)), r"padding: got -1 at \(0,\), want whole numbers from 0"),
        (pool((10**8,) * 2, (1, 1), (5 * 10**7,) * 2), r"padding: got .*, want at most 6 pixels"),
    ],
)
def test_fields_of_nodes_for_images_are_checked(node, message):
    kind = type(node).__name__
    with pytest.raises(ValueError, match=rf"^node {kind.lower()} \({kind}\): {message}"):
        node_outputs(chain(node, shape=(3, 5, 6)), rough((2, 2, 5, 6, 3)))


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


def test_invalid_edges_are_refused():
    def with_edges(*more):
        graph = chain(neuron())
        graph.edges = [*graph.edges, *more]
        return graph

    for edge, message in {
        ("lif", "gone"): "graph: got the edge lif -> gone, but no node gone",
        ("gone", "lif"): "graph: got the edge gone -> lif, but no node gone",
        ("lif", "output"): "graph: got the edge lif -> output twice, want it once",
        ("lif", "input"): "node input: got an edge that leads to it, want none to an Input",
        ("lif",): r"graph: got the edge \('lif',\), want two names",
    }.items():
        with pytest.raises(ValueError, match=message):
            node_outputs(with_edges(edge), rough())


def test_inputs_of_a_node_that_differ_in_shape_are_refused():
    graph = chain(nir.Linear(np.ones((1, 3))))
    graph.edges.append(("input", "output"))
    message = r"node output \(Output\): got inputs of \(1,\) and \(3,\), want one shape"
    with pytest.raises(ValueError, match=message):
        node_outputs(graph, rough())


def test_shapes_that_the_graph_states_hold():
    with pytest.raises(ValueError, match=r"node output \(Output\): shape: got \(4,\), want \(3,\)"):
        node_outputs(chain(neuron(), out=(4,)), rough())
    for shape in ((0,), (-3,), (1, 2, 3, 4, 5), ()):
        with pytest.raises(ValueError, match=r"node input \(Input\): shape: got "):
            node_outputs(chain(neuron(), shape=shape), rough())


def test_a_batch_axis_in_the_graphs_shapes_is_ignored():
    rng = np.random.default_rng(1)
    nodes = [
        conv(bias=None, weight=rng.normal(size=(2, 3, 3, 2)), input_shape=None),
        nir.Flatten({"input": np.array([7, 2, 3, 5])}, 1, -1),
        nir.Linear(rng.normal(size=(4, 30))),
    ]
    x = rough((3, 2, 5, 6, 3))
    got = run_nir(chain(*nodes, shape=(7, 3, 5, 6), out=(7, 4)), x)
    nodes[1] = nir.Flatten({"input": np.array([2, 3, 5])}, 0, -1)
    assert np.array_equal(run_nir(chain(*nodes, shape=(3, 5, 6), out=(4,)), x), got)
    assert got.any()


@pytest.mark.parametrize("shape", [(0, 2, 3), (2, 0, 3), (0, 0, 3)])
def test_inputs_without_steps_or_images_are_refused(shape):
    for run in (run_nir, node_outputs):
        with pytest.raises(ValueError, match="want at least one step and one image"):
            run(chain(neuron()), np.ones(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_inputs_that_are_not_finite_are_refused(value):
    x = rough()
    x[1, 0, 2] = value
    with pytest.raises(ValueError, match=rf"x_seq: got {value} at \(1, 0, 2\), want finite"):
        node_outputs(chain(neuron()), x)


def test_metadata_of_other_kinds_are_refused():
    for dt in ("fast", np.ones(2), True, b"1"):
        with pytest.raises(TypeError, match=r"dt: got .*, want a number"):
            node_outputs(chain(neuron(), metadata={"dt": dt}), rough())
    for readout in (np.array(["mean", "sum"]), 3, "max"):
        with pytest.raises(ValueError, match=r"readout: got .*, want one of mean, sum"):
            run_nir(chain(neuron(), metadata={"dt": 0.1, "readout": readout}), rough())


def test_values_missing_in_the_metadata_must_be_given():
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
