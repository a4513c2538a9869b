"""`refsnn export` prints one line per file, and the file holds the run's network."""

import json
import sys

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data import load
from refsnn.data.digits import load_digits
from refsnn.export.parameters import load_parameters, read_run
from refsnn.network import encode, forward
from refsnn.ops import NUMPY
from refsnn.training.checkpoint import save
from refsnn.training.config import make_config
from refsnn.training.trainer import initial_state


@pytest.fixture
def folder(tmp_path, request):
    """A run on the digits that has begun, of the block that a test's parameter names."""
    block = getattr(request, "param", "basic")
    config = make_config(arch="1-1:4-8", steps=3, block=block)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(config.to_dict()))
    state = initial_state(config, config.build_network(1, 10))
    save(tmp_path / "run" / "checkpoint.npz", state, config.to_dict())
    return tmp_path / "run"


def exported(folder, file, capsys, *options):
    assert main(["export", str(folder), str(file), *options]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    (line,) = shown.out.splitlines()
    return line


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_exported_parameters_are_those_of_the_run(suffix, folder, tmp_path, capsys):
    if suffix != ".npz":
        pytest.importorskip("safetensors")
    file = tmp_path / f"out{suffix}"
    net, params, buffers, _ = read_run(folder)
    line = exported(folder, file, capsys)
    count = sum(value.size for value in params.values())
    assert line == f"{file}: {count} parameters of 1-1:4-8 with its running statistics"
    same_net, same_params, same_buffers = load_parameters(file)
    assert same_net == net
    for before, after in ((params, same_params), (buffers, same_buffers)):
        assert list(before) == list(after)
        assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("folder", ["basic", "sew_add", "ms"], indirect=True)
def test_an_exported_nir_graph_computes_what_the_run_does(folder, tmp_path, capsys):
    pytest.importorskip("nir")
    from refsnn.export.nir import read_nir, run_nir

    line = exported(folder, tmp_path / "a.nir", capsys, "--dt", "0.5")
    graph = read_nir(tmp_path / "a.nir")
    assert line == (
        f"{tmp_path}/a.nir: NIR graph of 1-1:4-8, {len(graph.nodes)} nodes, for 3 steps of 8x8 "
        "pixels; 50 parameters of side branches dropped"
    )
    assert graph.metadata == {"dt": 0.5, "readout": "mean", "steps": 3}
    net, params, buffers, config = read_run(folder)
    data = load(config.data.dataset, config.data_options())
    x_seq = encode(data.batch(data.test, np.arange(9), np.float32)[0], config.steps)
    logits = forward(net, params, buffers, x_seq, NUMPY, training=False).branches[-1]
    np.testing.assert_allclose(run_nir(graph, x_seq), logits, rtol=0, atol=1e-5)


def test_nir_for_images_of_a_given_size_needs_no_data(folder, tmp_path, capsys):
    pytest.importorskip("nir")
    config = read_run(folder)[3].to_dict() | {"dataset": str(tmp_path / "gone.npz")}
    state = initial_state(make_config(**config), make_config(**config).build_network(1, 10))
    (folder / "config.json").write_text(json.dumps(config))
    save(folder / "checkpoint.npz", state, config)
    line = exported(folder, tmp_path / "a.nir", capsys, "--image-size", "12")
    assert "3 steps of 12x12 pixels" in line


@pytest.mark.parametrize(
    ("file", "options", "message"),
    [
        ("a.pt", [], "file: got '.pt', want one of .npz, .safetensors, .nir"),
        ("a", [], "file: got '', want one of .npz, .safetensors, .nir"),
        ("a.npz", ["--dt", "1"], "dt: got one for a .npz file, want it only for .nir"),
        (
            "a.npz",
            ["--image-size", "8"],
            "image_size: got one for a .npz file, want it only",
        ),
        ("a.nir", ["--image-size", "0"], "size: got 0, want a whole number of at least 1"),
        ("a.nir", ["--dt", "0"], "dt: got 0.0, want a finite number above 0"),
        ("none/a.npz", [], "but there is no folder"),
    ],
)
def test_an_invalid_request_is_refused(file, options, message, folder, tmp_path, refused):
    pytest.importorskip("nir")
    assert message in refused(["export", folder, tmp_path / file, *options])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("folder", ["sew_and", "sew_iand"], indirect=True)
def test_a_block_that_nir_has_no_node_for_is_refused(folder, tmp_path, refused):
    """In one line, with nir or without it, before anything is written."""
    line = refused(["export", folder, tmp_path / "a.nir"])
    assert "multiplies spikes, for which NIR has no node; a .npz or .safetensors file" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_folder_without_a_run_is_refused(tmp_path, folder, refused):
    assert "no run there" in refused(["export", tmp_path, tmp_path / "a.npz"])
    (folder / "checkpoint.npz").unlink()
    assert "no checkpoint there" in refused(["export", folder, tmp_path / "a.npz"])


def test_a_missing_extra_is_named(folder, tmp_path, refused, monkeypatch):
    for module, file in (("nir", "a.nir"), ("safetensors.numpy", "a.safetensors")):
        monkeypatch.setitem(sys.modules, module, None)
        extra = module.split(".")[0]
        assert f"pip install 'refsnn[{extra}]'" in refused(["export", folder, tmp_path / file])


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_folded_network_answers_as_the_run(suffix, folder, tmp_path, capsys):
    if suffix != ".npz":
        pytest.importorskip("safetensors")
    file = tmp_path / f"folded{suffix}"
    assert main(["export", str(folder), str(file), "--folded"]) == 0
    assert "folded for inference" in capsys.readouterr().out
    run, folded = refsnn.load(folder), refsnn.load(file)
    assert folded.net.is_folded
    assert not folded.buffers
    assert "stem.conv0.bias" in folded.params
    images = load_digits().test.images[:50]
    np.testing.assert_allclose(
        folded.predict_logits(images), run.predict_logits(images), rtol=1e-3, atol=1e-4
    )
    with pytest.raises(ValueError, match="training: got True, but the network is folded"):
        folded.gradients(images, load_digits().test.labels[:50])
