"""Checks of decisions that are tables and rules: architectures, data and schedules."""

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.data import Options, load
from refsnn.data.augment import cutout
from refsnn.data.dataset import CHANNEL_STATISTICS, channel_statistics, standardize
from refsnn.data.digits import stratified_mask
from refsnn.data.events import events_to_frames, resize_nearest, split_by_order
from refsnn.network import ARCHITECTURES, Network, architecture
from refsnn.oracle.naive import data as naive
from refsnn.oracle.naive import network as naive_network
from refsnn.training.optimizer import cosine
from verification import cases
from verification.record import Recorder
from verification.registry import check

PLAIN = {
    "neuron": {
        "tau": 0.5,
        "v_th": 1.0,
        "surrogate": "tanh",
        "surrogate_shape": 0.5,
        "surrogate_edge": "outside",
        "reset_gradient": "full",
        "fire_at_threshold": False,
    },
    "norm": {"statistics": "pooled", "scale": 1.0, "eps": 1e-5, "momentum": 0.1},
    "in_channels": 3,
    "num_classes": 10,
    "downsample": "conv",
    "readout": "mean",
}
CIFAR, IMAGENET, TRIPLE = (1, 3, 1, None), (1, 7, 2, (3, 2, 1)), (3, 3, 1, (2, 2, 0))
#: name -> clause, depths, widths, stem, stem's width, hidden units, as in the papers
WRITTEN = {
    "resnet18": ("D19", (2, 2, 2, 2), (64, 128, 256, 512), CIFAR, 64, 0),
    "resnet34": ("D19", (3, 4, 6, 3), (64, 128, 256, 512), CIFAR, 64, 0),
    "resnet18-imagenet": ("D19", (2, 2, 2, 2), (64, 128, 256, 512), IMAGENET, 64, 0),
    "resnet34-imagenet": ("D19", (3, 4, 6, 3), (64, 128, 256, 512), IMAGENET, 64, 0),
    "resnet19": ("D20", (3, 3, 2), (128, 256, 512), CIFAR, 128, 0),
    "resnet19-tet": ("D20", (3, 3, 2), (128, 256, 512), CIFAR, 64, 256),
    "resnet20": ("D21", (3, 3, 3), (16, 32, 64), CIFAR, 16, 0),
    "resnet20m": ("D21", (2, 2, 2, 2), (64, 128, 256, 512), TRIPLE, 64, 0),
    "resnet8": ("D21", (1, 1, 1), (16, 32, 64), CIFAR, 16, 0),
}
#: published numbers of parameters, for 10 classes without side branches
COUNTS = {"resnet18": 11_173_962, "resnet20": 272_474, "resnet20m": 11_247_946}


def written(name: str, branches: str) -> dict[str, Any]:
    _, depths, widths, (convs, kernel, stride, pool), width, hidden = WRITTEN[name]
    stem = {"convs": convs, "kernel": kernel, "stride": stride, "width": width, "pool": pool}
    return PLAIN | {
        "depths": depths,
        "widths": widths,
        "hidden": hidden,
        "branches": branches,
        "stem": stem,
    }


@check("architectures against loops", "oracle", "D19 D20 D21 D9 D11 D12")
def architectures(case: Any, record: Recorder) -> None:
    """Compare every parameter's name and shape of the named networks at full width."""
    for name in ARCHITECTURES:
        record.true(WRITTEN[name][0], f"{name} is written down", name in WRITTEN)
        for branches in ("none", "stage", "block"):
            want = naive_network.shapes(written(name, branches))
            got = Network(architecture(name), 3, 10, branches).shapes()
            record.equal(f"{WRITTEN[name][0]} D9 D11 D12", f"parameters of {name}", got, want)
        # strides and pooling have no parameters
        same = cases.network_of(written(name, "none")).arch
        record.equal(WRITTEN[name][0], f"structure of {name}", architecture(name), same)


@check("published sizes", "structure", "D19 D20 D21 D11")
def sizes(case: Any, record: Recorder) -> None:
    """Compare numbers of parameters, layers and side branches with published ones."""
    for name, count in COUNTS.items():
        net = Network(architecture(name), 3, 10, "none")
        record.equal(WRITTEN[name][0], f"parameters of {name}", net.count_parameters(), count)
    for name, depth in (("resnet18", 18), ("resnet34", 34), ("resnet19", 18), ("resnet20", 20)):
        arch = architecture(name)
        # ResNet-19's nineteenth layer is the second fully connected one of its origin
        layers = arch.stem.convs + 2 * sum(arch.depths) + 1
        record.equal(WRITTEN[name][0], f"layers of {name}", layers, depth)
    for name, sides in (("resnet18", 3), ("resnet34", 3), ("resnet19", 2), ("resnet20", 2)):
        net = Network(architecture(name), 3, 10, "stage")
        record.equal("D11", f"side branches of {name}", len(net.segments()) - 1, sides)
        net = Network(architecture(name), 3, 10, "block")
        blocks = sum(architecture(name).depths)
        record.equal("D11", f"side branches of {name} by block", len(net.segments()), blocks)
    half = architecture("resnet18").scaled(0.5)
    record.equal("D19", "half the width", (half.widths, half.stem_width), ((32, 64, 128, 256), 32))
    for name in ("resnet19", "resnet19-tet"):
        hidden = [n for n in Network(architecture(name), 3, 10).shapes() if "hidden" in n]
        record.equal("D20", f"hidden layer of {name}", bool(hidden), name.endswith("tet"))


@st.composite
def recordings(draw: Any) -> Any:
    """Draw events in order of time, some of them at the same microsecond."""
    n, sensor = draw(st.integers(1, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(cases.SEEDS))
    start = draw(st.sampled_from([0, 5, 10**12]))
    t = start + np.sort(rng.integers(0, draw(st.sampled_from([1, 7, 100, 10**9])), n))
    x, y, polarity = rng.integers(0, sensor, n), rng.integers(0, sensor, n), rng.integers(0, 2, n)
    return t, x, y, polarity, draw(st.integers(1, 8)), sensor


@check("event frames against loops", "oracle", "D23", recordings(), quick=50, full=2000)
def frames(case: Any, record: Recorder) -> None:
    t, x, y, polarity, steps, sensor = case
    for slices in ("count", "duration"):
        got = events_to_frames(t, x, y, polarity, steps, sensor, slices)
        want = naive.frames(t, x, y, polarity, steps, sensor, slices)
        record.equal("D23", f"frames by {slices}", got, want)
    for size in (48, 3, sensor):
        record.equal(
            "D23", f"resized to {size}", resize_nearest(got, size), naive.resize_nearest(got, size)
        )
    labels = x % 3
    record.equal(
        "D23",
        "first two of each class",
        split_by_order(labels, 2).tolist(),
        naive.first_of_each_class(labels, 2),
    )


@check("events are kept", "structure", "D23", recordings(), quick=40, full=1000)
def events_kept(case: Any, record: Recorder) -> None:
    """Check that no event is lost or added, and that slices hold equal counts.

    Also check that moving a recording in time and exchanging x and y change what they should.
    """
    t, x, y, polarity, steps, sensor = case
    got = events_to_frames(t, x, y, polarity, steps, sensor)
    record.equal("D23", "events", int(got.sum()), len(t))
    share = len(t) // steps
    if share:
        record.equal(
            "D23",
            "events in all slices but the last",
            got.sum(axis=(1, 2, 3))[:-1],
            np.full(steps - 1, share),
        )
    moved = events_to_frames(t + 1000, x, y, polarity, steps, sensor, "duration")
    record.equal(
        "D23",
        "frames of a later recording",
        moved,
        events_to_frames(t, x, y, polarity, steps, sensor, "duration"),
    )
    turned = events_to_frames(t, y, x, 1 - polarity, steps, sensor)
    record.equal("D23", "x and y exchanged", turned, got.swapaxes(1, 2)[..., ::-1])
    labels = np.arange(2000) % 2
    mask = split_by_order(labels, 900)
    record.equal(
        "D23", "training recordings", [int(mask[labels == k].sum()) for k in (0, 1)], [900] * 2
    )


IMAGES = st.tuples(st.integers(1, 4), st.integers(2, 20), st.integers(1, 20), cases.SEEDS)


@check("cutout", "structure", "D24", IMAGES, quick=20, full=500)
def holes(case: Any, record: Recorder) -> None:
    """Check that cutout is off by default, and else sets one square of at most that size to 0."""
    n, side, size, seed = case
    images = 1 + np.random.default_rng(seed).random((n, side, side, 2))
    out = cutout(images, np.random.default_rng(seed), size)
    for before, after in zip(images, out, strict=True):
        hole = (after == 0).all(axis=-1)
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        record.true("D24", "there is a hole", len(rows) > 0)
        record.true("D24", f"a square of at most {size}", max(len(rows), len(columns)) <= size)
        record.equal("D24", "pixels in the hole", int(hole.sum()), len(rows) * len(columns))
        record.equal("D24", "pixels outside", after[~hole], before[~hole])
        touches = {0, side - 1} & {*rows.tolist(), *columns.tolist()}
        record.true("D24", "a whole square", touches or len(rows) == len(columns) == size)
    record.equal("D24", "augmentation by itself", len(load("digits").augment), 1)
    record.equal(
        "D24", "augmentation with cutout", len(load("digits", Options(cutout=4)).augment), 2
    )


@check("channel statistics", "structure", "D22", IMAGES, quick=10, full=200)
def statistics(case: Any, record: Recorder) -> None:
    """Check the published constants, and that computed ones give mean 0 and variance 1."""
    record.equal(
        "D22",
        "CIFAR-10",
        CHANNEL_STATISTICS["cifar10"],
        ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    )
    record.equal(
        "D22",
        "CIFAR-100",
        CHANNEL_STATISTICS["cifar100"],
        ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    )
    n, side, _, seed = case
    images = np.random.default_rng(seed).integers(0, 256, (n, side, side, 3)).astype(np.uint8)
    z = standardize(images, *channel_statistics(images), "float64")
    record.close("D22", "means", z.mean(axis=(0, 1, 2)), np.zeros(3), 1e-12, 1.0)
    record.close("D22", "variances", z.var(axis=(0, 1, 2)), np.ones(3), 1e-12, 1.0)


@check("channel statistics against loops", "oracle", "D22", IMAGES, quick=10, full=100)
def statistics_by_loops(case: Any, record: Recorder) -> None:
    n, side, _, seed = case
    images = np.random.default_rng(seed).integers(0, 256, (n, side, side, 2)).astype(np.uint8)
    mean, std = channel_statistics(images)
    for c in range(2):
        values = images[..., c].reshape(-1).tolist()
        m = sum(values) / len(values)
        v = sum((x - m) ** 2 for x in values) / len(values)
        record.close("D22", f"mean of channel {c}", mean[c], m, 1e-12)
        record.close("D22", f"deviation of channel {c}", std[c], v**0.5, 1e-12)
        want = (float(images[0, 0, 0, c]) - m) / v**0.5
        got = standardize(images, mean, std, "float64")[0, 0, 0, c]
        record.close("D22", "a standardised pixel", got, want, 1e-12, 1.0)


@check("digits split", "structure", "R2 D22")
def digits_split(case: Any, record: Recorder) -> None:
    """Check that 1,442 and 355 of the 1,797 digits are in the splits, in proportion by class."""
    data = load("digits")
    record.equal("R2", "sizes", (len(data.train.labels), len(data.test.labels)), (1442, 355))
    for k in range(10):
        total = int((data.train.labels == k).sum() + (data.test.labels == k).sum())
        record.equal("R2", f"held-out {k}s", int((data.test.labels == k).sum()), total // 5)
    images = data.train.images.astype(float)
    record.close("D22", "mean of the training images", data.mean[0], images.mean(), 1e-12)
    record.close("D22", "deviation of the training images", data.std[0], images.std(), 1e-12)


@check(
    "digits split against loops",
    "oracle",
    "R2",
    st.tuples(st.integers(0, 60), cases.SEEDS),
    quick=20,
    full=300,
)
def split_by_loops(case: Any, record: Recorder) -> None:
    n, seed = case
    labels = np.random.default_rng(seed).integers(0, 3, n)
    seen = {0: 0, 1: 0, 2: 0}
    want = []
    for label in labels.tolist():
        seen[label] += 1
        want.append(seen[label] % 5 == 0)
    record.equal("R2", "held out", stratified_mask(labels).tolist(), want)


@check("cosine schedule", "structure", "R3", st.integers(1, 5000), quick=20, full=500)
def schedule(total: int, record: Recorder) -> None:
    """Check that the rate falls from lr to just above 0, symmetrically about half the time."""
    rates = [cosine(0.1, i, total) for i in range(1, total + 1)]
    record.equal("R3", "first", rates[0], 0.1)
    record.true("R3", "never rises", all(a >= b for a, b in pairwise(rates)))
    record.true("R3", "stays above 0", rates[-1] > 0)
    record.close("R3", "after the last", cosine(0.1, total + 1, total), 0.0, 1e-16, 1.0)
    for i in range(2, total + 1):
        pair = rates[i - 1] + rates[total + 1 - i]
        record.close("R3", f"rates {i} and its mirror", pair, 0.1, 1e-14, 1.0)
