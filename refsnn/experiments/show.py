"""What a trained network's neurons do on images: firing rates, potentials, spikes of a few.

Also the paired comparison of two runs on the same images.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import binomtest

from refsnn.network import neuron_caches
from refsnn.ops import Array, validate
from refsnn.training.config import TrainConfig
from refsnn.training.evaluate import forward_passes

EDGES = np.linspace(-5, 5, 101)  # of the potentials' bins, in units of the threshold


class Layer(NamedTuple):
    """What a layer's neurons did."""

    name: str
    rates: Array  # of each neuron: spikes per image and step
    potentials: Array  # shares of u_pre in the bins of EDGES; the rest lies outside
    spikes: Array  # (samples, T, neurons): of a few neurons, for the first images

    @property
    def dead(self) -> float:
        """Return the share of neurons that never fire."""
        return float((self.rates == 0).mean())

    @property
    def saturated(self) -> float:
        """Return the share of neurons that fire at every step."""
        return float((self.rates == 1).mean())


class Seen(NamedTuple):
    """What `look` found in a run."""

    config: TrainConfig
    images: int
    layers: list[Layer]
    weights: Array  # of the first convolution (kh, kw, C_in, C_out)


def look(
    folder: Path,
    data: str | None = None,
    images: int = 200,
    neurons: int = 12,
    samples: int = 1,
    workers: int | None = None,
    best: bool = False,
) -> Seen:
    """Watch a run's network on the first `images` of the held-out ones, or of `data`.

    Of each layer, `neurons` that are spread over it are followed for the first `samples` images.
    """
    for name, value in (("images", images), ("neurons", neurons), ("samples", samples)):
        validate.whole(name, value, 1)
    fired, potentials, followed = dict[str, Any](), dict[str, Any](), dict[str, list[Array]]()
    count = 0
    for tested, run, labels in forward_passes(folder, data, images, workers, best):
        config = tested.config
        for name, cache in neuron_caches(run):
            o_seq = cache.o_seq.reshape(*cache.o_seq.shape[:2], -1)  # (T, N, neurons)
            fired[name] = fired.get(name, 0) + (o_seq != 0).sum(axis=(0, 1))
            potentials[name] = potentials.get(name, 0) + np.histogram(cache.relative_seq, EDGES)[0]
            few = np.linspace(0, o_seq.shape[2] - 1, min(neurons, o_seq.shape[2])).astype(int)
            wanted = max(0, samples - count)
            followed.setdefault(name, []).append((o_seq[:, :wanted, few] != 0).swapaxes(0, 1))
        count += len(labels)
        weights = run.context.params["stem.conv0.weight"]
    layers = [
        Layer(
            name,
            fired[name] / (count * config.steps),
            potentials[name] / (count * config.steps * fired[name].size),
            np.concatenate(followed[name]),
        )
        for name in fired
    ]
    return Seen(config, count, layers, weights)


class Comparison(NamedTuple):
    """Two networks' answers to the same images."""

    images: int
    first: list[int]  # indices of the images that the first alone classifies correctly
    second: list[int]
    p_value: float  # of the exact McNemar test: both are right equally often

    @property
    def only_first(self) -> int:
        """Return the number of images that the first alone classifies correctly."""
        return len(self.first)

    @property
    def only_second(self) -> int:
        """Return the number of images that the second alone classifies correctly."""
        return len(self.second)

    @property
    def difference(self) -> float:
        """Return the second accuracy minus the first."""
        return (self.only_second - self.only_first) / self.images


def compare(first: Array, second: Array) -> Comparison:
    """Compare which images (N,) two networks classify correctly.

    The p-value is that of the exact McNemar test (a binomial test of the images on which they
    differ). It says whether these two networks differ, not whether two methods do: for that, runs
    of several seeds are needed.
    """
    of_first, of_second = (np.flatnonzero(x).tolist() for x in (first & ~second, second & ~first))
    discordant = len(of_first) + len(of_second)
    p_value = float(binomtest(len(of_first), discordant).pvalue) if discordant else 1.0
    return Comparison(len(first), of_first, of_second, p_value)
