"""Other programs read the NIR files written here, and compute what the export guide says."""

import contextlib
import io

import numpy as np
import pytest

from refsnn.export.nir import node_outputs, read_nir, run_nir, to_nir, write_nir
from refsnn.network import encode, forward
from refsnn.ops import LIF, NUMPY
from refsnn.oracle.layout import image_to_torch

nir = pytest.importorskip("nir")
torch = pytest.importorskip("torch")
pytest.importorskip("nirtorch")
ARCHITECTURES = {
    "1-1:4-8": {},
    "resnet20m": {"scale": 1 / 16},
    "resnet19-tet": {"scale": 1 / 16},
    "resnet18-imagenet": {"scale": 1 / 16},
}
BATCHES = pytest.mark.parametrize("batch", [1, 3])
BLOCKS = pytest.mark.parametrize("block", ["sew_add", "ms"])
NETWORKS = [("1-1:4-8", 0.5), *((arch, 0.3) for arch in ARCHITECTURES)]


@pytest.fixture
def case(numbers, tmp_path):
    """Writes a network's file; (file, input, logits)."""

    def make(batch, arch="1-1:4-8", dt=1e-4, **settings):
        net, params, buffers = numbers(arch, "float32", **ARCHITECTURES.get(arch, {}), **settings)
        images = np.random.default_rng(7).normal(size=(batch, 16, 16, 3)).astype("float32")
        x_seq = encode(images, 4)
        write_nir(tmp_path / "a.nir", to_nir(net, params, buffers, (16, 16), dt))
        run = forward(net, params, buffers, x_seq, NUMPY, training=False)
        return tmp_path / "a.nir", x_seq, run.branches[-1]

    return make


def computed(model, x_seq):
    """The mean over time of what an imported model gives step by step."""
    state, total = None, 0
    with torch.no_grad():
        for x in x_seq:
            x = torch.from_numpy(image_to_torch(x) if x.ndim == 4 else x)
            y, state = model(x, state)
            total = total + y.numpy()
    return total / len(x_seq)


def snntorch_model(path):
    importer = pytest.importorskip("snntorch.import_nir")
    with contextlib.redirect_stdout(io.StringIO()):
        return importer.import_from_nir(nir.read(path))


@BATCHES
@pytest.mark.parametrize(("arch", "tau"), [*NETWORKS, ("1-1:4-8", 1.0)])
def test_spikingjelly_computes_the_same(arch, tau, batch, case):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    for dt in (1e-4, 1e-3):
        path, x_seq, logits = case(batch, arch, dt, lif=LIF(tau))
        got = computed(exchange.import_from_nir(path, dt=dt), x_seq)
        np.testing.assert_allclose(got, logits, rtol=0, atol=1e-6)


@BATCHES
@pytest.mark.parametrize(("arch", "tau"), NETWORKS)
def test_snntorch_computes_the_same_at_the_dt_that_it_takes(arch, tau, batch, case):
    path, x_seq, logits = case(batch, arch, lif=LIF(tau))
    got = computed(snntorch_model(path), x_seq)
    np.testing.assert_allclose(got, logits, rtol=0, atol=1e-6)


@BLOCKS
@pytest.mark.parametrize("arch", ["3-2:4-8", *ARCHITECTURES])
def test_both_compute_the_same_of_blocks_that_pass_on_sums(arch, block, case):
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    path, x_seq, logits = case(2, arch, lif=LIF(0.3), block=block)
    for model in (exchange.import_from_nir(path, dt=1e-4), snntorch_model(path)):
        np.testing.assert_allclose(computed(model, x_seq), logits, rtol=0, atol=1e-6)


def test_snntorch_reads_another_dt_wrongly_and_no_if(case):
    path, x_seq, logits = case(2, dt=1e-3)
    assert abs(computed(snntorch_model(path), x_seq) - logits).max() > 0.01
    with pytest.raises(AssertionError, match="r != 1"):
        snntorch_model(case(2, lif=LIF(1.0))[0])


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated")
def test_norse_leaves_average_pooling_out(case):
    norse = pytest.importorskip("norse.torch")
    path, _, _ = case(1)
    model = norse.from_nir(nir.read(path), dt=1e-4, ignore_warnings=True)
    assert model.get_submodule("stem_conv0") is not None
    with pytest.raises(AttributeError):
        model.get_submodule("head_pool")


def test_a_file_of_spikingjelly_runs_as_in_spikingjelly(tmp_path):
    """Its potentials start at v_reset."""
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")
    from spikingjelly.activation_based import functional, neuron

    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(12, 20),
        neuron.IFNode(v_threshold=1.0, v_reset=-0.3),
        torch.nn.Linear(20, 5),
        neuron.LIFNode(tau=1.5, v_threshold=0.1, v_reset=-0.1),
    )
    x_seq = np.random.default_rng(0).normal(0, 3, (6, 2, 12)).astype("float32")
    with torch.no_grad():
        want = np.stack([model(torch.from_numpy(x)).numpy() for x in x_seq])
    functional.reset_net(model)
    graph = exchange.export_to_nir(model, torch.zeros(2, 12))
    nir.write(tmp_path / "a.nir", graph)
    again = read_nir(tmp_path / "a.nir")
    got = run_nir(again, x_seq, dt=1e-4, readout="sum", start="v_reset")
    assert want.any()
    assert np.array_equal(got, want.sum(axis=0))
    from_zero = node_outputs(again, x_seq, dt=1e-4)["output"]
    assert not np.array_equal(from_zero, want)
