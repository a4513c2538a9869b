"""Parameters are written and read back to the bit, and PyTorch can load them."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from refsnn.equations.lif import RESET_GRADIENTS
from refsnn.export.network_json import CONFIG
from refsnn.export.parameters import (
    from_state_dict,
    load_parameters,
    read_run,
    save_parameters,
    state_dict,
)
from refsnn.files.arrays import SUFFIXES
from refsnn.network import (
    Architecture,
    Network,
    Stem,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import LIF, NUMPY, SURROGATES, AvgPool, BatchNorm
from refsnn.training.checkpoint import State, save
from refsnn.training.config import make_config
from refsnn.training.trainer import initial_state

SUFFIX = pytest.mark.parametrize("suffix", SUFFIXES)


def bits(values):
    return {name: (x.dtype.str, x.shape, x.tobytes()) for name, x in values.items()}


@st.composite
def networks(draw):
    depths = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    widths = draw(st.lists(st.integers(1, 5), min_size=len(depths), max_size=len(depths)))
    pool = draw(st.sampled_from([None, AvgPool(), AvgPool(3, 2, 1)]))
    stem = Stem(
        draw(st.sampled_from([3, 7])), draw(st.integers(1, 2)), draw(st.integers(1, 3)), pool
    )
    kind = draw(st.sampled_from(list(SURROGATES.values())))
    numbers, flags = st.floats(0.01, 1), st.tuples(st.booleans(), st.booleans())
    reset_gradient = draw(st.sampled_from(RESET_GRADIENTS))
    return Network(
        Architecture(
            tuple(depths), tuple(widths), draw(st.integers(1, 4)), stem, draw(st.integers(0, 3))
        ),
        draw(st.integers(1, 3)),
        draw(st.integers(2, 4)),
        draw(st.sampled_from(["none", "stage", "block"])),
        LIF(draw(numbers), draw(numbers), kind(draw(numbers)), reset_gradient, *draw(flags)),
        BatchNorm(draw(st.sampled_from(["pooled", "per_step"])), draw(numbers), draw(numbers)),
        draw(st.sampled_from(["conv", "avgpool"])),
        draw(st.sampled_from(["mean", "sum"])),
    )


@SUFFIX
@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(net=networks(), seed=st.integers(0, 99), dtype=st.sampled_from(["float32", "float64"]))
def test_any_network_is_restored_to_the_bit(suffix, net, seed, dtype, tmp_path):
    if suffix != ".npz":
        pytest.importorskip("safetensors")
    rng = np.random.default_rng(seed)
    params, buffers = init_params(net, rng, dtype), init_buffers(net, dtype)
    for values in (params, buffers):
        for name, value in values.items():
            values[name] = rng.gamma(1.0, size=value.shape).astype(dtype)
    save_parameters(tmp_path / f"a{suffix}", net, params, buffers)
    same_net, *same = load_parameters(tmp_path / f"a{suffix}")
    assert same_net == net
    for before, after in zip((params, buffers), same, strict=True):
        assert bits(after) == bits(before)
        assert list(after) == list(before)


@SUFFIX
def test_the_same_numbers_give_the_same_bytes(suffix, written, numbers, tmp_path):
    path = written(suffix=suffix)
    save_parameters(path, *numbers())
    save_parameters(tmp_path / f"b{suffix}", *load_parameters(path))
    assert path.read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_extreme_numbers_are_restored_exactly(numbers, tmp_path):
    net, params, buffers = numbers()
    params["head.fc.bias"] = np.array([-0.0, 5e-324, 1.7e308, -1e-310, 0.1])
    save_parameters(tmp_path / "a.npz", net, params, buffers)
    assert bits(load_parameters(tmp_path / "a.npz")[1]) == bits(params)


def test_no_pickle_is_inside(written):
    with np.load(written(), allow_pickle=False) as archive:
        assert not any(archive[name].dtype.hasobject for name in archive.files)


@pytest.mark.parametrize("branches", ["none", "stage", "block"])
def test_names_and_shapes_are_a_plain_pytorch_modules(branches, numbers):
    pytest.importorskip("torch")
    from refsnn.bench.peers import describe
    from refsnn.pytorch import Network

    net, params, buffers = numbers("1-2:4-8", branches=branches)
    model = Network(describe(net) | {"neuron": {}}, steps=3)
    theirs = {n: tuple(x.shape) for n, x in model.state_dict().items() if "num_batches" not in n}
    ours = {name: x.shape for name, x in state_dict(net, params, buffers).items()}
    assert list(ours.items()) == list(theirs.items())


def test_a_plain_pytorch_module_takes_the_file_and_computes_the_same(numbers, tmp_path):
    torch = pytest.importorskip("torch")
    from refsnn.bench import peers
    from refsnn.pytorch import Network

    net, params, buffers = numbers("1-2:4-8", branches="none")
    save_parameters(tmp_path / "a.npz", net, params, buffers)
    arrays = {n: torch.from_numpy(x) for n, x in np.load(tmp_path / "a.npz").items() if n != CONFIG}
    model = Network(peers.describe(net) | {"neuron": {}}, steps=3).double().eval()
    model.load_state_dict(arrays)  # strict
    x = np.random.default_rng(1).normal(size=(2, 8, 8, 3))
    run = forward(net, params, buffers, encode(x, 3), NUMPY, training=False)
    with torch.no_grad():
        logits = model(peers.encode(peers.to_images(x, False), 3))["head"]
    np.testing.assert_allclose(logits, run.branches[-1], rtol=0, atol=1e-12)
    model.stem.bn0.num_batches_tracked += 7
    back = from_state_dict(net, model.state_dict())  # tensors, and num_batches_tracked in it
    assert bits(back[0]) == bits(params)
    assert bits(back[1]) == bits(buffers)


def test_a_file_of_another_program_does_not_describe_its_network(written, numbers):
    path = written(lambda arrays: arrays.pop(CONFIG))
    with pytest.raises(ValueError, match=r"net\.npz: refsnn\.config: missing, want the arg"):
        load_parameters(path)
    net, params, _ = numbers()
    assert bits(load_parameters(path, net)[1]) == bits(params)


def test_only_num_batches_tracked_is_ignored(written, numbers):
    def add(name):
        return written(lambda arrays: arrays.update({name: np.array(3)}))

    assert bits(load_parameters(add("stem.bn0.num_batches_tracked"))[1]) == bits(numbers()[1])
    with pytest.raises(ValueError, match=r"stem\.bn0\.batches: surplus"):
        load_parameters(add("stem.bn0.batches"))


def test_a_run_is_read_without_its_data(tmp_path):
    config = make_config(arch="1-1:4-8", dataset=str(tmp_path / "gone.npz"), dtype="float32")
    state = initial_state(config, config.build_network(2, 7))
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    save(tmp_path / "checkpoint.npz", state, config.to_dict())
    net, params, buffers, read = read_run(tmp_path)
    assert (net, read) == (config.build_network(2, 7), config)
    assert bits(params) == bits(state.params)
    assert bits(buffers) == bits(state.buffers)
    save(tmp_path / "checkpoint.npz", State({}, {}, {}, state.rng), config.to_dict())
    with pytest.raises(ValueError, match="holds no network"):
        read_run(tmp_path)


def test_reading_writes_nothing_into_what_it_was_given(numbers):
    net, params, buffers = numbers()
    state = state_dict(net, params, buffers)
    before = bits(params), bits(buffers), bits(state)
    for values in from_state_dict(net, state):
        for value in values.values():
            value += 1
    assert (bits(params), bits(buffers), bits(state)) == before
