"""The raster of spikes and the layers' rates."""

import numpy as np
import pytest

from refsnn.data import load
from refsnn.network import (
    Network,
    architecture,
    encode,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
)
from refsnn.ops import NUMPY
from refsnn.training.config import make_config
from refsnn.training.run import start

DATA = {
    "title": "a network",
    "layers": [
        {"name": "stem.lif0", "rate": 0.2, "spikes": [[0, 1, 0], [1, 0, 1]]},
        {"name": "stage1.block0.lif1", "rate": 0.4, "spikes": [[0, 0, 0], [1, 1, 1]]},
        {"name": "head.lif", "rate": 0.1, "spikes": [[0, 0, 1]]},
    ],
}


@pytest.fixture
def figure(script):
    return script("spike_raster")


def test_ticks_are_the_spikes_and_bars_the_rates(figure):
    drawn = figure.draw(DATA)
    raster, rates = drawn.axes
    assert drawn.get_suptitle() == "a network"
    rows = raster.collections
    times = [row.get_positions() for row in rows]
    assert [list(t) for t in times] == [[2], [1, 3], [], [1, 2, 3], [3]]
    assert [row.get_lineoffset() for row in rows] == [0, 1, 2, 3, 4]
    assert [bar.get_width() for bar in rates.patches] == [0.2, 0.4, 0.1]
    middles = [bar.get_y() + bar.get_height() / 2 for bar in rates.patches]
    assert middles == pytest.approx([0.5, 2.5, 4])
    assert [line.get_ydata()[0] for line in raster.lines] == [1.5, 3.5]
    assert list(raster.get_yticks()) == pytest.approx(middles)
    names = [label.get_text() for label in raster.get_yticklabels()]
    assert names == ["stem.lif0", "stage1.block0.lif1", "head.lif"]
    low, high = raster.get_ylim()
    assert low > high  # the input's side above
    assert list(raster.get_xticks()) == [1, 2, 3]


def spikes_of(run):
    return {name: cache.o_seq[:, 0].reshape(len(cache.o_seq), -1) for name, cache in run}


def assert_shown(layers, wanted, neurons):
    assert [layer["name"] for layer in layers] == list(wanted)
    for layer in layers:
        o = wanted[layer["name"]]
        assert layer["rate"] == pytest.approx(o.mean())
        rows = [tuple(row) for row in o.T.astype(int)]
        shown = [tuple(row) for row in layer["spikes"]]
        assert len(shown) == min(neurons, len(rows))
        found = iter(rows)  # they are among the layer's neurons, in order
        assert all(row in found for row in shown)


def test_an_untrained_network_is_normalised_by_a_batch_that_begins_with_the_image(figure):
    data = figure.compute(epochs=0, arch="1:2", steps=3, image=350, neurons=4, seed=5, batch_size=8)
    digits, net = load("digits"), Network(architecture("1:2"), 1, 10)
    params = init_params(net, np.random.default_rng(5), np.float32)
    which = [350, 351, 352, 353, 354, 0, 1, 2]
    x, _ = digits.batch(digits.test, np.array(which), np.float32)
    run = forward(net, params, init_buffers(net, np.float32), encode(x, 3), NUMPY)
    assert_shown(data["layers"], spikes_of(neuron_caches(run)), 4)
    assert "untrained 1:2" in data["title"]


def test_a_network_is_trained_for_the_picture(figure, tmp_path):
    data = figure.compute(epochs=1, arch="1:2", steps=3, image=7, neurons=4, seed=5)
    config = make_config(arch="1:2", epochs=1, steps=3, seed=5)
    run = start(tmp_path / "same", config)
    run.train(quiet=True)
    of_run = figure.compute(run=str(tmp_path / "same"), image=7, neurons=4, seed=5)
    assert data["layers"] == of_run["layers"]
    assert data["title"] == "1:2 after 1 epochs on digits, test image 7, seed 5"


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_run_is_shown_with_its_running_statistics(figure, tmp_path, dtype):
    config = make_config(
        arch="1:2", epochs=1, batch_size=721, steps=3, ops="numpy", dtype=dtype, method="vanilla"
    )
    run = start(tmp_path / "trained", config)
    run.train(quiet=True)
    data = figure.compute(run=str(tmp_path / "trained"), image=7, neurons=4)
    digits = load("digits")
    x, _ = digits.batch(digits.test, np.array([7]), dtype)
    shown = forward(
        run.net, run.state.params, run.state.buffers, encode(x, 3), NUMPY, training=False
    )
    assert_shown(data["layers"], spikes_of(neuron_caches(shown)), 4)
    assert data["title"] == "trained, test image 7"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": 355}, r"^image: got 355, want 0 to 354"),
        ({"image": -1}, r"^image: got -1"),
        ({"neurons": 0}, r"^neurons: got 0"),
        ({"batch_size": 0, "epochs": 0}, r"^batch_size: got 0"),
        ({"epochs": -1}, r"^epochs: got -1"),
        ({"run": "nowhere"}, r"^nowhere: no run there"),
    ],
)
def test_an_invalid_image_or_neuron_count_is_named(figure, options, said):
    with pytest.raises(ValueError, match=said):
        figure.compute(**options)


def test_more_rows_than_a_picture_can_hold_are_refused(figure):
    layers = [{"name": "a", "rate": 0.1, "spikes": [[0, 1]] * 20_000}]
    with pytest.raises(ValueError, match=r"^neurons: got 20000 in all layers, want at most 10000$"):
        figure.draw({"title": "a network", "layers": layers})


def test_the_seed_draws_the_neurons(figure):
    first, again, other = (
        figure.compute(epochs=0, arch="1:8", steps=4, neurons=5, seed=seed)["layers"]
        for seed in (0, 0, 1)
    )
    assert first == again != other
