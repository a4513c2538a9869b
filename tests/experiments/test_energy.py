"""Operations are counted exactly: as one by one, on small random networks."""

import json
from dataclasses import replace

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.experiments.energy import Operations, reach, summary
from refsnn.network import (
    BLOCKS,
    Network,
    architecture,
    encode,
    forward,
    init_buffers,
    init_params,
)
from refsnn.network.model import recomputed_neurons
from refsnn.ops import LIF, NEURONS, NUMPY, get_ops

BLOCK = pytest.mark.parametrize("block", BLOCKS)
REAL_SPIKE = NEURONS["real_spike"]()


def one_by_one(x, w, p):
    """The pairs of a spike and a weight that meet in the image, in plain loops, and of any input.

    An input of n is n spikes.
    """
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
                                met += c_out * int(x[n, row, column, c])
    return met, all_met


def counted(net, images, steps, ops=NUMPY, seed=0, batches=1, dtype=np.float64):
    """The counts of a forward pass, and the convolutions that it made: input, weight, settings.

    Real Spike's spikes have size 3.
    """
    rng = np.random.default_rng(seed)
    params, buffers = init_params(net, rng), init_buffers(net)
    params = {k: v + 0.7 if "bn" in k and k.endswith("bias") else v for k, v in params.items()}
    params |= {k: v + 2 for k, v in params.items() if k.endswith(".a")}
    params, buffers = ({k: v.astype(dtype) for k, v in x.items()} for x in (params, buffers))
    seen, operations = [], Operations()

    def watched(x, w, p):
        seen.append((x, w, p))
        return ops.conv_forward(x, w, p)

    for batch in np.array_split(images, batches):
        x_seq = encode(batch.astype(dtype), steps)
        run = forward(net, params, buffers, x_seq, replace(ops, conv_forward=watched), False)
        operations.add(run)
    return operations, seen, run


@BLOCK
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
def test_counts_are_those_of_plain_loops(arch, downsample, steps, block):
    spec = architecture(arch)
    small = spec if ":" in arch else replace(spec, depths=(1, 1), widths=(3, 4), stem_width=3)
    settings = {"downsample": downsample, "block": block, "lif": LIF(v_th=0.8)}
    net = Network(small, 2, 4, branches="none", **settings)
    size = (2, 8, 8, 2) if ":" not in arch else (2, 8, 6, 2)
    operations, seen, _ = counted(net, np.random.default_rng(1).normal(size=size), steps)
    convs = [c for c in operations.layers.values() if "conv" in c.name]
    assert len(convs) == len(seen) > 2
    most = 1
    for count, (x, w, p) in zip(convs, seen, strict=True):
        met, every = one_by_one(x, w, p)
        if count.takes == "spikes":
            assert not (x % 1).any()
            most = max(most, x.max())
            assert (count.synaptic, count.macs) == (met, 0)
            assert count.spikes == x.sum()
            assert count.dense_macs * steps == every
        else:
            assert (count.synaptic, count.macs) == (0, every)
    assert (most > 1) == (block == "sew_add" and ":" in arch)  # no pooling before
    assert sum(c.synaptic for c in convs) > 0
    assert convs[0].takes == "numbers"
    found = [c.name for c in convs[1:] if c.takes == "numbers"]
    wanted = {"stage1.block0.conv1"} if small.stem.pool is not None and block != "ms" else set()
    if wanted and block.startswith("sew"):  # stage 1 passes on averages
        wanted |= {"stage2.block0.conv1", "stage2.block0.skip.conv"}
    if downsample == "avgpool" or block == "ms":  # ms: currents
        wanted.add("stage2.block0.skip.conv")
    assert (len(found), set(found)) == (len(wanted), wanted)


@BLOCK
def test_spikes_of_any_size_count_as_one(block):
    """Sums of them count as many: with size 3, an input of 6 to SEW ADD's next weights is two."""
    net = Network(architecture("2-2:3-5"), 2, 4, "none", block=block, neuron_model=REAL_SPIKE)
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 2))
    operations, seen, _ = counted(net, images, 2)
    convs = [c for c in operations.layers.values() if "conv" in c.name]
    for count, (x, w, p) in list(zip(convs, seen, strict=True))[1:]:
        if not (block == "ms" and "skip" in count.name):
            n = x / 3 if block == "sew_add" else x != 0
            assert not (n % 1).any()
            assert (count.spikes, count.synaptic) == (n.sum(), one_by_one(n, w, p)[0])
            assert count.spikes > 0


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


@BLOCK
@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_neurons_skips_and_heads(readout, block):
    net = Network(architecture("2-2:3-5"), 2, 4, branches="none", readout=readout, block=block)
    images = np.random.default_rng(1).normal(size=(2, 6, 6, 2))
    operations, seen, run = counted(net, images, 3)
    layers = operations.layers
    assert sum(c.updates for c in layers.values()) == sum(
        neuron.o_seq.size for neuron in recomputed_neurons(run)
    )
    stage1, stage2 = 2 * 3 * 6 * 6 * 3, 2 * 3 * 3 * 3 * 5  # outputs of all images and steps
    norms = 5 * stage1 + 5 * stage2  # the stem's and 4 convolutions, 4 and the skip's
    assert sum(c.norm_macs for c in layers.values()) == norms
    bare = [name for name in layers if name.endswith(".skip")]
    inputs = dict(zip([name for name in layers if "conv" in name], seen, strict=True))
    if block.startswith("sew"):
        assert not bare
    else:
        assert bare == [f"{at}.skip" for at in ("stage1.block0", "stage1.block1", "stage2.block1")]
    for name in bare:
        count, (x, *_) = layers[name], inputs[name.removesuffix("skip") + "conv1"]
        assert count.synaptic == (x.sum() if block == "basic" else x.size) > 0
        assert count.takes == ("spikes" if block == "basic" else "numbers")
        assert count.spikes == (x.sum() if block == "basic" else 0)
        assert (count.elements, count.reads, count.macs) == (x.size, 0, 0)
    for count in layers.values():
        if not count.name.endswith("skip"):
            assert count.reads == count.synaptic + count.macs > 0
    fc = layers["head.fc"]
    assert (fc.takes, fc.macs, fc.dense_macs) == ("numbers", 2 * 3 * 5 * 4, 2 * 5 * 4)


@pytest.mark.parametrize("block", ["basic", "ms"])
def test_batch_norms_of_bare_skips_are_counted(block):
    images, found = np.random.default_rng(1).normal(size=(2, 6, 6, 2)), []
    for norm_identity in (False, True):
        spec, options = architecture("1-2:3-5"), {"block": block, "norm_identity": norm_identity}
        layers = counted(Network(spec, 2, 4, "none", **options), images, 3)[0].layers
        found.append(sum(c.norm_macs for c in layers.values()))
    assert found[1] - found[0] == 2 * 3 * (6 * 6 * 3 + 3 * 3 * 5)


def test_neurons_that_take_currents_are_counted_with_the_layer_before():
    """Behind a pooling they are fewer than the currents of the stem."""
    spec = replace(architecture("resnet20m"), depths=(1, 1), widths=(3, 4), stem_width=3)
    net = Network(spec, 2, 4, branches="none", block="ms")
    operations, _, run = counted(net, np.random.default_rng(1).normal(size=(2, 8, 8, 2)), 3)
    updates = [c.updates for c in operations.layers.values()]
    assert updates == [
        *[2 * 3 * 8 * 8 * 3] * 2,
        *[2 * 3 * 4 * 4 * 3] * 3,  # lif1 behind the stem and the pooling, lif2, the next lif1
        *(0, 2 * 3 * 2 * 2 * 4, 2 * 3 * 2 * 2 * 4, 0),  # the skip; lif2, final.lif, the skip
        0,
    ]
    assert sum(updates) == sum(neuron.o_seq.size for neuron in recomputed_neurons(run))


def test_a_sum_of_spikes_and_averages_is_numbers():
    """SEW ADD right behind the stem's pooling; the additions are counted where there are some."""
    spec = replace(architecture("resnet20m"), depths=(2, 1), widths=(3, 4), stem_width=3)
    images, found = np.random.default_rng(1).normal(size=(2, 8, 8, 2)), {}
    for block in ("sew_add", "sew_and"):
        net = Network(spec, 2, 4, branches="none", block=block)
        layers = counted(net, images, 3)[0].layers
        found[block] = {name: (c.takes, c.synaptic, c.macs > 0) for name, c in layers.items()}
    for block, row in found.items():
        for name in ("stage1.block0.conv1", "stage1.block1.conv1", "stage2.block0.skip.conv"):
            assert row[name] == ("numbers", 0, True)
        bare = [name for name in row if name.endswith(".skip")]
        assert bare == (["stage1.block0.skip", "stage1.block1.skip"] if block == "sew_add" else [])
        assert all(row[name] == ("numbers", 2 * 3 * 4 * 4 * 3, False) for name in bare)


def test_a_hidden_layer_takes_averages_and_the_last_one_spikes():
    net = Network(replace(architecture("1:3"), hidden=6), 2, 4, branches="none")
    images = np.random.default_rng(1).normal(size=(5, 6, 6, 2))
    operations, _, run = counted(net, images, 3)
    hidden, last = (operations.layers[f"head.{name}"] for name in ("hidden", "fc"))
    assert (hidden.takes, hidden.macs, hidden.updates) == ("numbers", 5 * 3 * 3 * 6, 5 * 3 * 6)
    spikes = run.heads[-1].fc.x
    assert (last.takes, last.spikes, last.synaptic) == ("spikes", spikes.sum(), 4 * spikes.sum())
    assert 0 < last.spikes < spikes.size


@BLOCK
@pytest.mark.parametrize("model", [None, REAL_SPIKE])
def test_batches_add_up_and_kernels_count_the_same(model, block):
    net = Network(architecture("1-2:3-16"), 2, 4, "none", block=block, neuron_model=model)
    images = np.random.default_rng(1).normal(size=(6, 6, 6, 2))
    whole = counted(net, images, 2)[0]
    parts = counted(net, images, 2, batches=3)[0]
    assert whole.layers == parts.layers
    for dtype in (np.float64, np.float32):
        assert counted(net, images, 2, get_ops("numba"), dtype=dtype)[0].layers == whole.layers


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
