"""Parameters leave and come back to the bit, PyTorch takes them, and what is wrong is named."""

import json
import sys
import tracemalloc
import zipfile
from dataclasses import replace

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
from refsnn.files.arrays import SUFFIXES, read_arrays
from refsnn.network import (
    Architecture,
    Network,
    Stem,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.ops import LIF, NUMPY, SURROGATES, AvgPool, BatchNorm, make_surrogate
from refsnn.training.checkpoint import State, save
from refsnn.training.config import make_config
from refsnn.training.run import initial_state

CONV = "stage2.block0.conv1.weight"  # (3, 3, 4, 8) here
SUFFIX = pytest.mark.parametrize("suffix", SUFFIXES)


@pytest.fixture
def written(tmp_path, numbers):
    """Writes a file, after `change` has had the arrays."""

    def write(change=lambda arrays: None, suffix=".npz"):
        path = tmp_path / f"net{suffix}"
        if suffix != ".npz":
            pytest.importorskip("safetensors")
        save_parameters(path, *numbers())
        if suffix == ".npz":
            arrays = dict(np.load(path))
            change(arrays)
            np.savez(path, **arrays)
        else:
            from safetensors.numpy import load_file, save_file

            arrays = load_file(path)
            with_config = {CONFIG: str(read_arrays(path)[CONFIG])}
            change(arrays)
            save_file(arrays, path, with_config)
        return path

    return write


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
def test_any_network_comes_back_to_the_bit(suffix, net, seed, dtype, tmp_path):
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


def test_numbers_that_no_sum_survives_come_back(numbers, tmp_path):
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


def test_tensors_that_numpy_can_not_take_are_named(numbers):
    torch = pytest.importorskip("torch")
    net, params, buffers = numbers()
    state = {n: torch.from_numpy(x) for n, x in state_dict(net, params, buffers).items()}
    for bad in (state[CONV].bfloat16(), state[CONV].clone().requires_grad_()):
        with pytest.raises(TypeError, match=f"^{CONV}: NumPy can't take it "):
            from_state_dict(net, state | {CONV: bad})


def test_a_foreign_file_says_nothing_of_its_network(written, numbers):
    path = written(lambda arrays: arrays.pop(CONFIG))
    with pytest.raises(ValueError, match=r"net\.npz: refsnn\.config: missing, so net is wanted"):
        load_parameters(path)
    net, params, _ = numbers()
    assert bits(load_parameters(path, net)[1]) == bits(params)


def renamed(arrays):
    arrays["x"] = arrays.pop("head.fc.bias")


def spoilt(name, change):
    def spoil(arrays):
        arrays[name] = change(arrays[name])

    return spoil


def with_value(value, where):
    def put(x):
        x = x.copy()
        x[where] = value
        return x

    return put


@SUFFIX
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop(CONV), f"{CONV}: missing, want shape (8, 4, 3, 3)"),
        (
            lambda a: [a.pop(n) for n in list(a) if n.startswith("stem.bn0")],
            "stem.bn0.weight: missing (and 3 more), want shape (4,)",
        ),
        (lambda a: a.update(x=np.zeros(2)), "x: surplus, not part of this network"),
        (renamed, "head.fc.bias: missing, want shape (5,); got instead, the nearest first: x"),
        (
            spoilt(CONV, lambda x: np.ascontiguousarray(x.transpose(2, 3, 1, 0))),
            f"{CONV}: got (3, 3, 4, 8), which is refsnn's own order; want (8, 4, 3, 3)",
        ),
        (
            spoilt("head.fc.weight", lambda x: np.ascontiguousarray(x.T)),
            "head.fc.weight: got (8, 5), which is refsnn's own order; want (5, 8)",
        ),
        (spoilt(CONV, lambda x: x[:3].copy()), f"{CONV}: got (3, 4, 3, 3), want (8, 4, 3, 3)"),
        (spoilt(CONV, lambda x: x.reshape(8, -1)), f"{CONV}: got (8, 36), want (8, 4, 3, 3)"),
        (
            spoilt(CONV, lambda x: x.astype("float32")),
            f"{CONV}: got dtype float32, want float64 like stem.conv0.weight",
        ),
        (
            spoilt("head.fc.bias", lambda x: x.astype("int64")),
            "head.fc.bias: got dtype int64, want float32 or float64",
        ),
        (
            spoilt(CONV, with_value(np.nan, (7, 0, 2, 1))),
            f"{CONV}: got nan at (7, 0, 2, 1), want finite numbers",
        ),
        (
            spoilt("head.fc.bias", with_value(-np.inf, 3)),
            "head.fc.bias: got -inf at (3,), want finite numbers",
        ),
        (
            spoilt("stem.bn0.running_var", with_value(-0.5, 1)),
            "stem.bn0.running_var: got -0.5 at (1,), want finite numbers of at least 0",
        ),
    ],
)
def test_numbers_that_do_not_fit_are_named(suffix, change, message, written):
    path = written(change, suffix)
    with pytest.raises((ValueError, TypeError)) as caught:
        load_parameters(path)
    assert str(caught.value) == f"{path}: {message}"


def test_what_pytorch_counts_is_ignored_and_nothing_else_is(written, numbers):
    def add(name):
        return written(lambda arrays: arrays.update({name: np.array(3)}))

    assert bits(load_parameters(add("stem.bn0.num_batches_tracked"))[1]) == bits(numbers()[1])
    with pytest.raises(ValueError, match=r"stem\.bn0\.batches: surplus"):
        load_parameters(add("stem.bn0.batches"))


@pytest.mark.parametrize("where", ["params", "buffers"])
@pytest.mark.parametrize("change", ["missing", "surplus", "nan"])
def test_what_does_not_fit_is_not_written(where, change, numbers, tmp_path):
    net, params, buffers = numbers()
    values = params if where == "params" else buffers
    name = next(iter(values))
    if change == "missing":
        del values[name]
    elif change == "surplus":
        values["y"] = values[name]
    else:
        values[name] = np.full_like(values[name], np.nan)
    with pytest.raises(ValueError, match="y" if change == "surplus" else name):
        save_parameters(tmp_path / "a.npz", net, params, buffers)
    assert not list(tmp_path.iterdir())


@SUFFIX
def test_truncated_files_are_refused_at_any_length(suffix, written):
    path = written(suffix=suffix)
    content = path.read_bytes()
    for length in [*range(0, len(content), 997), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=f"is no {suffix} file"):
            load_parameters(path)


@SUFFIX
@pytest.mark.parametrize("content", [b"", b"no archive", b"\x80\x04K\x01."])
def test_other_files_are_refused(suffix, content, tmp_path):
    if suffix != ".npz":
        pytest.importorskip("safetensors")
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"a{suffix}: is no {suffix} file"):
        load_parameters(path)
    with pytest.raises(FileNotFoundError):
        load_parameters(tmp_path / f"none{suffix}")


class Trap:
    sprung = False

    def __reduce__(self):
        return (setattr, (Trap, "sprung", True))


def test_a_pickle_inside_is_refused_and_not_run(written):
    path = written(lambda arrays: arrays.update(x=np.array([Trap()], object)))
    with pytest.raises(ValueError, match=r"net\.npz: x: got dtype object, want numbers"):
        load_parameters(path)
    assert not Trap.sprung


def test_members_that_are_no_arrays_are_named(written):
    path = written(lambda arrays: arrays.pop("head.fc.bias"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("head.fc.bias", b"text")
    with pytest.raises(ValueError, match=r"net\.npz: head\.fc\.bias: got 4 bytes without a header"):
        load_parameters(path)


def config_of(path):
    return json.loads(str(np.load(path)[CONFIG]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format=3), "format: got 3, want 2"),
        (lambda c: c.pop("format"), "network: format is missing"),
        (lambda c: c.pop("network"), "network: network is missing"),
        (lambda c: c.update(network=[1]), "network: got a list, want an object"),
        (lambda c: c["network"].pop("arch"), "network.arch is missing"),
        (lambda c: c["network"]["lif"].pop("smooth"), "lif.smooth is missing"),
        (lambda c: c["network"].update(colour=1), "colour"),
        (lambda c: c["network"].update(readout="max"), "readout: got 'max'"),
        (lambda c: c["network"].update(in_channels=True), "in_channels: got True, want an integer"),
        (lambda c: c["network"]["lif"].update(tau=3), "tau: got 3"),
        (lambda c: c["network"]["lif"].update(tau=10**400), "tau: got an integer of more than 60"),
        (lambda c: c["network"]["lif"].update(v_th=np.inf), "lif.v_th: got inf, want a number"),
        (lambda c: c["network"]["lif"].update(smooth="no"), "smooth: got 'no', want a boolean"),
        (
            lambda c: c["network"]["lif"].update(fire_at_threshold=3),
            "fire_at_threshold: got 3, want a boolean",
        ),
        (lambda c: c["network"]["lif"]["surrogate"].update(name="step"), "step"),
        (
            lambda c: c["network"]["lif"]["surrogate"].update(name=[]),
            "name: got a list, want a string",
        ),
        (
            lambda c: c["network"]["lif"]["surrogate"].update(k=True),
            "k: got True, want a number or",
        ),
        (lambda c: c["network"]["norm"].update(eps=None), "norm.eps: got None, want a number"),
        (lambda c: c["network"]["arch"].update(depths=["a", 1]), "depths[0]: got 'a'"),
        (lambda c: c["network"]["arch"].update(depths=3), "depths: got 3, want an array"),
        (lambda c: c["network"]["arch"].update(depths=[]), "depths"),
        (lambda c: c["network"]["arch"].update(depths=[1, 10**9]), "got more blocks than the file"),
        (lambda c: c["network"]["arch"]["stem"].update(convs=10**9), "got more blocks than the"),
        (
            lambda c: c["network"]["arch"].update(widths=[1, 1e308]),
            "widths[1]: got 1e+308, want an",
        ),
        (lambda c: c["network"]["arch"].update(widths=[1, 10**30]), "widths[1]: got 1000000000000"),
        (lambda c: c["network"]["arch"]["stem"].update(pool={"kernel": -1}), "pool.kernel: got -1"),
        (lambda c: c["network"]["arch"]["stem"].update(pool=3), "stem.pool: got 3, want an object"),
    ],
)
def test_a_configuration_of_no_network_is_refused(change, message, written):
    path = written()
    config = config_of(path)
    change(config)
    arrays = dict(np.load(path)) | {CONFIG: np.array(json.dumps(config))}
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match=r"refsnn\.config: describes no network") as caught:
        load_parameters(path)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["network"]["arch"].update(widths=[2**16, 2**16], stem_width=2**16),
        lambda c: c["network"]["arch"].update(widths=[2**31 - 1, 2**31 - 1]),
        lambda c: c["network"].update(num_classes=2**31 - 1, in_channels=2**31 - 1),
        lambda c: c["network"]["arch"]["stem"].update(kernel=2**31 - 1),
        lambda c: c["network"]["arch"].update(hidden=2**31 - 1),
    ],
)
def test_a_configuration_of_absurd_sizes_takes_no_memory(change, written):
    path = written()
    config = config_of(path)
    change(config)
    np.savez(path, **dict(np.load(path)) | {CONFIG: np.array(json.dumps(config))})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"net\.npz: [^\n]+: (got|missing).* want"):
            load_parameters(path)
        assert tracemalloc.get_traced_memory()[1] < 2**24
    finally:
        tracemalloc.stop()


def test_a_configuration_that_is_nested_deeply_is_refused(written):
    for depth in (100, 10**5):
        text = np.array("[" * depth + "]" * depth)
        path = written(lambda arrays, text=text: arrays.update({CONFIG: text}))
        with pytest.raises(
            ValueError, match=r"refsnn\.config: describes no network: got values ne"
        ):
            load_parameters(path)


def test_names_of_another_module_are_shown_with_the_nearest(numbers):
    net, params, buffers = numbers()
    state = {f"module.{n}": x for n, x in state_dict(net, params, buffers).items()}
    count = len(state)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        from_state_dict(net, state)
    assert str(caught.value) == (
        f"stem.conv0.weight: missing (and {count - 1} more), want shape (4, 3, 3, 3); got instead, "
        "the nearest first: module.stem.conv0.weight, module.stem.bn0.weight, module.stem.bn0.bias "
        f"and {count - 3} more"
    )
    state = dict(state_dict(net, params, buffers))
    state["layer1.0.conv1.weight"] = state.pop("stage1.block0.conv1.weight")
    state["layer1.0.bn1.weight"] = state.pop("stage1.block0.bn1.weight")
    with pytest.raises(ValueError, match=r"\(and 1 more\), .* first: layer1\.0\.conv1\.weight, l"):
        from_state_dict(net, state)


@pytest.mark.parametrize("value", [np.array("{"), np.array("[1]"), np.array(3.0), np.zeros(3)])
def test_a_configuration_that_is_no_object_is_refused(value, written):
    with pytest.raises(ValueError, match=r"refsnn\.config: describes no network"):
        load_parameters(written(lambda arrays: arrays.update({CONFIG: value})))


def test_numbers_of_another_network_are_refused(written, numbers):
    path = written()
    other = replace(numbers()[0], num_classes=6)
    with pytest.raises(ValueError, match=r"head\.fc\.weight: got \(5, 8\), want \(6, 8\)"):
        load_parameters(path, other)


def test_a_missing_extra_is_named_in_one_line(numbers, tmp_path, monkeypatch):
    for module in ("safetensors", "safetensors.numpy"):
        monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / "a.safetensors"
    path.touch()
    for call in (lambda: save_parameters(path, *numbers()), lambda: load_parameters(path)):
        with pytest.raises(ValueError, match=r"pip install 'refsnn\[safetensors\]'$"):
            call()


def test_other_suffixes_are_refused(numbers, tmp_path):
    with pytest.raises(ValueError, match=r"file: got '\.pt', want one of \.npz, \.safetensors"):
        save_parameters(tmp_path / "a.pt", *numbers())
    with pytest.raises(ValueError, match="file: got '', want one of"):
        load_parameters(tmp_path / "a")


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
    with pytest.raises(ValueError, match="of no network"):
        read_run(tmp_path)


def test_reading_writes_nothing_into_what_it_was_given(numbers):
    net, params, buffers = numbers()
    state = state_dict(net, params, buffers)
    before = bits(params), bits(buffers), bits(state)
    for values in from_state_dict(net, state):
        for value in values.values():
            value += 1
    assert (bits(params), bits(buffers), bits(state)) == before


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            {"lif": LIF(surrogate=type("Mine", (SURROGATES["tanh"],), {})())},
            "surrogate: got Mine, want one of tanh, tanh_literal, rectangular, triangular",
        ),
        (
            {"lif": LIF(surrogate=type("Own", (), {"slope": np.ones_like})())},
            "surrogate: got Own, want one of tanh",
        ),
        ({"lif": type("Kept", (LIF,), {})()}, "net: got Kept, want exactly LIF"),
        ({"norm": type("Still", (BatchNorm,), {})()}, "net: got Still, want exactly BatchNorm"),
    ],
)
@SUFFIX
def test_a_network_that_no_file_can_describe_is_refused(numbers, part, words, suffix, tmp_path):
    net, params, buffers = numbers()
    path = tmp_path / f"own{suffix}"
    with pytest.raises(TypeError, match=f"^{words}"):
        save_parameters(path, replace(net, **part), params, buffers)
    assert not path.exists()


def test_a_file_of_the_first_format_is_read_by_the_names_of_today(written):
    path = written()
    net, params, _ = load_parameters(path)
    config = config_of(path)
    lif = config["network"]["lif"]
    lif["inclusive"] = lif.pop("fire_at_threshold")
    lif["detach_reset"] = lif.pop("reset_gradient") == "detached"
    lif["surrogate"] = {"name": "rectangular", "a": 2.0, "inclusive": True}
    arrays = dict(np.load(path))
    np.savez(path, **arrays | {CONFIG: np.array(json.dumps(config | {"format": 1}))})
    read = load_parameters(path)
    surrogate = make_surrogate("rectangular", 2.0, edge="inside")
    assert read[0] == replace(net, lif=replace(net.lif, surrogate=surrogate))
    assert all(np.array_equal(params[name], read[1][name]) for name in params)
    lif["detach_reset"] = "no"
    np.savez(path, **arrays | {CONFIG: np.array(json.dumps(config | {"format": 1}))})
    with pytest.raises(ValueError, match="format: got 1, want 2"):
        load_parameters(path)
