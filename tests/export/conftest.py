import numpy as np
import pytest

from refsnn.export.network_json import CONFIG
from refsnn.export.parameters import save_parameters
from refsnn.files.arrays import read_arrays
from refsnn.network import Network, architecture, init_buffers, init_params


@pytest.fixture
def numbers():
    """Make a network whose biases and running statistics are not round numbers."""

    def make(arch="1-1:4-8", dtype=np.float64, seed=0, scale=1.0, **settings):
        rng = np.random.default_rng(seed)
        net = Network(architecture(arch).scaled(scale), 3, 5, **settings)
        params, buffers = init_params(net, rng, dtype), init_buffers(net, dtype)
        for name, value in params.items():
            if value.ndim == 1:
                params[name] = (value + rng.normal(0.5, 0.3, value.shape)).astype(dtype)
        for name, value in buffers.items():
            buffers[name] = (value + rng.uniform(0, 0.5, value.shape)).astype(dtype)
        return net, params, buffers

    return make


@pytest.fixture
def written(tmp_path, numbers):
    """Write a file of arrays, after `change` has changed them."""

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
