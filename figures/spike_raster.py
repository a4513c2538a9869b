"""Spikes of a few neurons of each layer for one test image, and the layers' firing rates.

The network is that of the run in the folder --run, or one that is trained here for --epochs. With
--epochs 0 it is untrained, with the statistics of a batch that contains the image.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from _style import BLUE, GREY, WIDE, main, printed
from matplotlib.figure import Figure

from refsnn.data import Dataset, Loader, load
from refsnn.network import (
    Forward,
    Network,
    architecture,
    encode,
    forward,
    init_buffers,
    init_params,
    neuron_caches,
)
from refsnn.ops import get_ops, validate
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig, make_config
from refsnn.training.folder import load_state, read_config
from refsnn.training.trainer import Trainer, network_for

ROW = 0.026  # inches per neuron
MOST_ROWS = 10_000  # since a picture's side may have at most 2^16 pixels


def compute(
    run: str = "",
    epochs: int = 10,
    arch: str = "resnet8",
    steps: int = 8,
    image: int = 0,
    neurons: int = 8,
    seed: int = 0,
    dataset: str = "digits",
    batch_size: int = 64,
) -> dict[str, Any]:
    """Compute each layer's firing rate for the image, and the spikes (neuron, step) of `neurons`.

    The neurons are drawn with `seed`. With `run`, architecture, steps and data set are the run's.
    `batch_size` is that of the untrained network's statistics.
    """
    validate.whole("epochs", epochs, 0)
    validate.whole("neurons", neurons, 1)
    rng = np.random.default_rng(seed)
    if run:
        shown, title = of_run(Path(run), image), f"{Path(run).name}, test image {image}"
    elif epochs:
        config = make_config(arch=arch, dataset=dataset, steps=steps, epochs=epochs, seed=seed)
        shown = trained_here(config, image)
        title = f"{arch} after {epochs} epochs on {dataset}, test image {image}, seed {seed}"
    else:
        shown = untrained(arch, dataset, steps, image, batch_size, rng)
        title = f"untrained {arch}, {dataset}, test image {image}, seed {seed}"
    layers = []
    for name, cache in neuron_caches(shown):
        spikes = cache.o_seq[:, 0].reshape(len(cache.o_seq), -1)  # of the image
        which = np.sort(rng.choice(spikes.shape[1], min(neurons, spikes.shape[1]), replace=False))
        layers.append(
            {"name": name, "rate": float(spikes.mean()), "spikes": spikes.T[which].tolist()}
        )
    return {"layers": layers, "title": title}


def untrained(
    arch: str, dataset: str, steps: int, image: int, batch_size: int, rng: np.random.Generator
) -> Forward:
    """Compute a forward pass of initial parameters on the image and the test images after it."""
    validate.whole("batch_size", batch_size, 1)
    data = load(dataset)
    count = len(data.test.labels)
    check(image, count)
    net = Network(architecture(arch), data.test.images.shape[-1], data.num_classes)
    params, buffers = init_params(net, rng, np.float32), init_buffers(net, np.float32)
    which = (image + np.arange(min(batch_size, count))) % count
    x, _ = data.batch(data.test, which, np.float32)
    return forward(net, params, buffers, encode(x, steps), get_ops("numba"))


def of_run(folder: Path, image: int) -> Forward:
    """Compute a forward pass of the run's network on the image, with running statistics."""
    config = read_config(folder)
    data = load(config.data.dataset, config.data_options())
    net = network_for(config, data)
    return inferred(config, net, load_state(folder, config, net), data, image)


def trained_here(config: TrainConfig, image: int) -> Forward:
    """Train a network, and compute its forward pass on the image, with running statistics."""
    data = load(config.data.dataset, config.data_options())
    check(image, len(data.test.labels))
    trainer = Trainer(config, data, tests=False)
    with trainer.progress_bar(quiet=True) as bar, Loader(data, lambda: data, 0) as loader:
        for _ in trainer.train_epochs(loader, bar):
            pass
    return inferred(config, trainer.net, trainer.state, data, image)


def inferred(config: TrainConfig, net: Network, state: State, data: Dataset, image: int) -> Forward:
    """Compute a forward pass on a test image, with running statistics."""
    check(image, len(data.test.labels))
    x, _ = data.batch(data.test, np.array([image]), config.dtype)
    x_seq = encode(x, config.steps)
    return forward(net, state.params, state.buffers, x_seq, get_ops(config.ops), training=False)


def check(image: int, count: int) -> None:
    if not 0 <= image < count:
        raise ValueError(f"image: got {image}, want 0 to {count - 1}")


@printed
def draw(data: dict[str, Any]) -> Figure:
    layers = data["layers"]
    steps = len(layers[0]["spikes"][0])
    rows = [len(layer["spikes"]) for layer in layers]
    ends = np.cumsum(rows)
    if ends[-1] > MOST_ROWS:
        raise ValueError(f"neurons: got {ends[-1]} in all layers, want at most {MOST_ROWS}")
    figure = Figure(figsize=(WIDE, 0.9 + ROW * ends[-1]))
    figure.suptitle(data["title"])
    raster, rates = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    times = [np.flatnonzero(neuron) + 1 for layer in layers for neuron in layer["spikes"]]
    raster.eventplot(times, linelengths=0.8, linewidths=5, colors="black")
    for end in ends[:-1]:
        raster.axhline(end - 0.5, color=GREY, linewidth=0.5)
    middles = ends - np.array(rows) / 2 - 0.5
    rates.barh(
        middles, [layer["rate"] for layer in layers], height=0.7 * np.array(rows), color=BLUE
    )
    names = [layer["name"] for layer in layers]
    raster.set(xlabel="time step", xlim=(0.5, steps + 0.5), xticks=range(1, steps + 1))
    raster.set_yticks(middles, labels=names, fontsize=6)
    raster.set_ylim(ends[-1] - 0.5, -0.5)  # the layers near the input above
    raster.set_title(f"spikes of {max(rows)} neurons per layer")
    rates.set(xlabel="spikes per neuron and step", title="firing rate of the layer")
    for axes in (raster, rates):
        axes.grid(False, axis="y")
        axes.tick_params(axis="y", length=0)
    return figure


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__, compute, draw))
