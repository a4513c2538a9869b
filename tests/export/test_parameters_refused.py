"""Wrong parameters and files of parameters are refused with the reason."""

import json
import sys
import tracemalloc
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from refsnn.export.network_json import CONFIG
from refsnn.export.parameters import (
    from_state_dict,
    load_parameters,
    save_parameters,
    state_dict,
)
from refsnn.files.arrays import SUFFIXES
from refsnn.ops import LIF, SURROGATES, BatchNorm, make_surrogate

CONV = "stage2.block0.conv1.weight"  # (3, 3, 4, 8) here
SUFFIX = pytest.mark.parametrize("suffix", SUFFIXES)


def test_tensors_that_numpy_can_not_take_are_named(numbers):
    torch = pytest.importorskip("torch")
    net, params, buffers = numbers()
    state = {n: torch.from_numpy(x) for n, x in state_dict(net, params, buffers).items()}
    for bad in (state[CONV].bfloat16(), state[CONV].clone().requires_grad_()):
        with pytest.raises(TypeError, match=f"^{CONV}: NumPy can't take it "):
            from_state_dict(net, state | {CONV: bad})


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


@pytest.mark.parametrize("where", ["params", "buffers"])
@pytest.mark.parametrize("change", ["missing", "surplus", "nan"])
def test_arrays_that_do_not_fit_are_not_written(where, change, numbers, tmp_path):
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


def test_members_that_are_not_arrays_are_named(written):
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
def test_a_configuration_that_describes_no_network_is_refused(change, message, written):
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
