"""Operations are counted exactly: as one by one, on small random networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.experiments.energy import Operations, reach, summary
from refsnn.network import Network, architecture, encode, forward, init_buffers, init_params
from refsnn.network.model import units
from refsnn.ops import NUMPY, get_ops


def one_by_one(x, w, p):
    """The pairs of an input that is not 0 and a weight that meet in the image, in plain loops."""
    (images, height, width, c_in), (kh, kw, _, c_out) = x.shape, w.shape
    (sh, sw), (ph, pw) = p.stride, p.padding
    met = all_met = 0
    for n in range(images):
        for r in range((height + 2 * ph - kh) // sh + 1):
            for s in range((width + 2 * pw - kw) // sw + 1):
                for i in range(kh):
                    for j in range(kw):
                        row, column = r * sh + i - ph, s * sw + j - pw
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(c_in):
                                all_met += c_out
                                met += c_out * int(x[n, row, column, c] != 0)
    return met, all_met


def counted(net, images, steps, ops=NUMPY, seed=0, batches=1):
    """The counts of a forward pass, and the convolutions that it made."""
    rng = np.random.default_rng(seed)
    params, buffers = init_params(net, rng), init_buffers(net)
    params = {k: v + 0.7 if "bn" in k and k.endswith("bias") else v for k, v in params.items()}
    seen, operations = [], Operations()

    def watched(x, w, p):
        seen.append((x, w, p))
        return ops.conv_forward(x, w, p)

    for batch in np.array_split(images, batches):
        x_seq = encode(batch.astype(np.float64), steps)
        run = forward(net, params, buffers, x_seq, replace(ops, conv_forward=watched), False)
        operations.add(run)
    return operations, seen, run


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(
    ("arch", "downsample"),
    [
        ("1-2:3-5", "conv"),
        ("1-1:2-3", "avgpool"),
        ("resnet20m", "conv"),
        ("resnet18-imagenet", "avgpool"),
    ],
)
def test_counts_are_those_of_plain_loops(arch, downsample, steps):
    spec = architecture(arch)
    small = spec if ":" in arch else replace(spec, depths=(1, 1), widths=(3, 4), stem_width=3)
    net = Network(small, 2, 4, branches="none", downsample=downsample)
    size = (2, 8, 8, 2) if ":" not in arch else (2, 8, 6, 2)
    operations, seen, _ = counted(net, np.random.default_rng(1).normal(size=size), steps)
    convs = [c for c in operations.layers.values() if "conv" in c.name]
    assert len(convs) == len(seen) > 2
    for count, (x, w, p) in zip(convs, seen, strict=True):
        met, every = one_by_one(x, w, p)
        if count.takes == "spikes":
            assert set(np.unique(x)) <= {0, 1}
            assert (count.synaptic, count.macs) == (met, 0)
            assert count.spikes == x.sum()
            assert count.dense_macs * steps == every
        else:
            assert (count.synaptic, count.macs) == (0, every)
    assert sum(c.synaptic for c in convs) > 0
    assert convs[0].takes == "numbers"
    averaged = [c.name for c in convs[1:] if c.takes == "numbers"]
    pooled = ["stage1.block0.conv1"] if small.stem.pool is not None else []
    assert averaged == pooled + (["stage2.block0.skip.conv"] if downsample == "avgpool" else [])


def test_images_that_are_repeated_are_convolved_once_and_recordings_at_each_step():
    net = Network(architecture("1:3"), 2, 4, branches="none")
    images = np.random.default_rng(1).normal(size=(2, 5, 5, 2))
    first = {}
    for steps in (1, 3):
        first[steps] = next(iter(counted(net, images, steps)[0].layers.values()))
    assert first[1].macs == first[3].macs == first[3].dense_macs > 0
    frames = np.random.default_rng(2).normal(size=(2, 3, 5, 5, 2))
    moving = next(iter(counted(net, frames, 3)[0].layers.values()))
    assert moving.macs == 3 * first[1].macs


@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_neurons_skips_and_heads(readout):
    net = Network(architecture("1-1:3-5"), 2, 4, branches="none", readout=readout)
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 2))
    operations, seen, run = counted(net, images, 3)
    layers = operations.layers
    neurons = [neuron for unit in units(run) for neuron in unit.neurons]
    assert sum(c.updates for c in layers.values()) == sum(n.o_seq.size for n in neurons)
    norms = 2 * 3 * (6 * 6 * 3 * 3 + 3 * 3 * 5 * 3)  # of N T pixels: 3 convolutions in each stage
    assert sum(c.norm_macs for c in layers.values()) == norms
    identity = layers["stage1.block0.skip"]
    assert identity.synaptic == identity.spikes == seen[1][0].sum()
    assert identity.reads == 0
    for count in layers.values():
        if not count.name.endswith("skip"):
            assert count.reads == count.synaptic + count.macs > 0
    fc = layers["head.fc"]
    assert (fc.takes, fc.macs, fc.dense_macs) == ("numbers", 2 * 3 * 5 * 4, 2 * 5 * 4)


def test_a_hidden_layer_takes_averages_and_the_last_one_spikes():
    net = Network(replace(architecture("1:3"), hidden=6), 2, 4, branches="none")
    images = np.random.default_rng(1).normal(size=(5, 6, 6, 2))
    operations, _, run = counted(net, images, 3)
    hidden, last = (operations.layers[f"head.{name}"] for name in ("hidden", "fc"))
    assert (hidden.takes, hidden.macs, hidden.updates) == ("numbers", 5 * 3 * 3 * 6, 5 * 3 * 6)
    spikes = run.heads[-1].fc.x
    assert (last.takes, last.spikes, last.synaptic) == ("spikes", spikes.sum(), 4 * spikes.sum())
    assert 0 < last.spikes < spikes.size


def test_batches_add_up_and_kernels_count_the_same():
    net = Network(architecture("1-1:3-16"), 2, 4, branches="none")
    images = np.random.default_rng(1).normal(size=(6, 6, 6, 2))
    whole = counted(net, images, 2)[0]
    parts = counted(net, images, 2, batches=3)[0]
    assert whole.layers == parts.layers
    assert counted(net, images, 2, get_ops("numba"))[0].layers == whole.layers


@pytest.mark.parametrize(
    "case", [(5, 3, 1, 1), (6, 3, 2, 1), (7, 1, 2, 0), (4, 7, 2, 3), (1, 3, 1, 1)]
)
def test_reach_counts_the_windows_that_read_a_place(case):
    size, kernel, stride, padding = case
    outputs = (size + 2 * padding - kernel) // stride + 1
    want = [0] * size
    for r in range(outputs):
        for i in range(kernel):
            if 0 <= r * stride + i - padding < size:
                want[r * stride + i - padding] += 1
    assert reach(*case, outputs).tolist() == want


def test_energies_are_counts_times_constants():
    net = Network(architecture("1-1:3-5"), 2, 4, branches="none")
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 2))
    operations = counted(net, images, 3)[0]
    result = summary(operations, 2.0, 7.0)
    counts = operations.layers.values()
    joules = sum(2.0 * c.synaptic + 7.0 * c.macs for c in counts) / 2
    assert result["total"]["nanojoules"] == pytest.approx(1e-3 * joules, rel=1e-12)
    dense = 7.0 * sum(c.dense_macs for c in counts) / 2
    assert result["total"]["dense_nanojoules"] == pytest.approx(1e-3 * dense, rel=1e-12)
    assert result["dense_over_spiking"] == pytest.approx(dense / joules, rel=1e-12)
    for row, count in zip(result["layers"], counts, strict=True):
        if count.takes == "spikes" and "conv" in count.name:
            rate = count.spikes / count.elements
            assert row["firing_rate"] == rate
            assert row["formula"] >= row["synaptic_operations"] or "skip.conv" in count.name


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--arch=1-1:4-8", "--epochs=1", "--batch-size=300", "--ops=numpy"]
    assert main(["train", "--out", str(folder), *options]) == 0
    return folder


def test_the_command_prints_a_table_an_object_and_a_picture(run_folder, tmp_path, capsys):
    paths = tmp_path / "out.json", tmp_path / "out.png"
    capsys.readouterr()
    given = ["--images=40", "--json", str(paths[0]), "--picture", str(paths[1])]
    assert main(["energy", str(run_folder), *given]) == 0
    shown, result = capsys.readouterr().out, json.loads(paths[0].read_text())
    assert result["images"] == 40
    total = result["total"]
    assert f"{total['synaptic_operations']:,.0f}" in shown
    assert "0.9 pJ for a synaptic operation" in shown
    assert f"{result['dense_over_spiking']:.2f} times the energy" in shown
    assert paths[1].read_bytes().startswith(b"\x89PNG")
    cheaper = ["--images=40", "--accumulate=0.1", "--json", "-"]
    assert main(["energy", str(run_folder), *cheaper]) == 0
    other = json.loads(capsys.readouterr().out)["total"]
    assert other["synaptic_operations"] == total["synaptic_operations"]
    saved = 1e-3 * 0.8 * total["synaptic_operations"]
    assert total["nanojoules"] - other["nanojoules"] == pytest.approx(saved)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--accumulate=-1"], "accumulate: got -1"),
        (["--multiply-accumulate=nan"], "multiply_accumulate: got nan"),
        (["--images=0"], "images: got 0"),
        (["--picture=seen.bmp"], "--picture: got seen.bmp"),
        (["--data=nothing.npz"], "nothing.npz does not exist"),
    ],
)
def test_bad_options_are_refused(options, words, run_folder, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(["energy", str(run_folder), *options])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arch", ["1-2:3-5", "resnet20m"])
def test_counts_are_those_of_a_hook_in_pytorch(arch):
    """A convolution of the spikes with ones counts the windows that each of them lies in."""
    torch = pytest.importorskip("torch")
    from refsnn.bench.peers import describe
    from refsnn.pytorch import LIF, to_torch
    from refsnn.pytorch import Network as Module

    spec = architecture(arch)
    small = spec if ":" in arch else replace(spec, depths=(1, 1), widths=(3, 4), stem_width=3)
    net, steps = Network(small, 2, 4, branches="none"), 3
    images = np.random.default_rng(1).normal(size=(2, 8, 6, 2))
    operations, _, run = counted(net, images, steps)
    module = Module(describe(net), steps, lambda steps: LIF(steps)).double().eval()
    numbers = {**run.context.params, **run.context.buffers}
    state = {name: to_torch(value) for name, value in numbers.items()}
    assert not module.load_state_dict(state, strict=False).unexpected_keys
    found = {}

    def hook(name, layer):
        def count(_, inputs, output):
            (x,) = inputs
            ones = torch.ones_like(layer.weight)
            met = torch.nn.functional.conv2d(
                (x != 0).double(), ones, None, layer.stride, layer.padding
            )
            found[name] = int(met.sum())

        layer.register_forward_hook(count)

    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Conv2d):
            hook(name, layer)
    x_seq = torch.from_numpy(np.stack([images] * steps).transpose(0, 1, 4, 2, 3).copy())
    with torch.no_grad():
        module(x_seq)
    spiking = {n: c.synaptic for n, c in operations.layers.items() if "conv" in n and c.synaptic}
    assert len(spiking) > 3
    assert {name: found[name] for name in spiking} == spiking
