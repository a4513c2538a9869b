"""Pictures of runs, what their neurons do, and how two of them differ."""

import base64
import csv
import json
import re
import shutil
from itertools import product
from math import comb

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.experiments import show, show_command, show_plot
from refsnn.training.folder import read_metrics

SMALL = ["--arch=1-1:4-8", "--epochs=2", "--batch-size=200", "--ops=numpy", "--steps=3"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        given = [*SMALL, f"--seed={seed}", "--v-th=0.5"]
        assert main(["train", "--out", str(folder / f"seed{seed}"), *given]) == 0
    return folder / "seed0", folder / "seed1"


def test_neurons_do_what_the_model_says(runs):
    seen = show.look(runs[0], images=70, neurons=5, samples=40)
    model = refsnn.load(runs[0])
    activity = model.spikes(load_digits().test.images[:70])
    assert [layer.name for layer in seen.layers] == list(activity)
    for layer, (spikes, potentials) in zip(seen.layers, activity.values(), strict=True):
        flat = spikes.reshape(*spikes.shape[:2], -1)
        assert np.allclose(layer.rates, flat.mean(axis=(0, 1), dtype=float), rtol=0, atol=1e-12)
        assert layer.dead == (flat.sum(axis=(0, 1)) == 0).mean()
        assert layer.saturated == (flat.min(axis=(0, 1)) == 1).mean()
        bins = np.histogram(potentials / 0.5, show.EDGES)[0] / potentials.size
        assert np.allclose(layer.potentials, bins, rtol=0, atol=1e-12)
        assert layer.spikes.shape == (40, 3, min(5, flat.shape[2]))
        few = np.linspace(0, flat.shape[2] - 1, 5).astype(int)
        assert np.array_equal(layer.spikes, flat[:, :40, few].swapaxes(0, 1) != 0)
    assert np.array_equal(seen.weights, model.params["stem.conv0.weight"])


def test_fewer_images_than_asked_for_are_all_there_are(runs):
    assert show.look(runs[0], images=10**6).images == 355


@pytest.mark.parametrize(("first", "second"), list(product(range(6), range(6))))
def test_the_p_value_is_that_of_a_fair_coin(first, second):
    right = np.repeat([True, False, True, False], [first, second, 3, 4])
    other = np.repeat([False, True, True, False], [first, second, 3, 4])
    found = show.compare(right, other)
    assert (found.only_first, found.only_second, found.images) == (first, second, len(right))
    assert found.first == list(range(first))
    assert found.second == list(range(first, first + second))
    assert found.difference == pytest.approx(other.mean() - right.mean())
    n, most = first + second, max(first, second)
    tail = 2 * sum(comb(n, k) for k in range(most, n + 1)) / 2**n
    assert found.p_value == pytest.approx(min(1, tail))


def test_the_command_writes_pictures_and_compares_runs(runs, tmp_path, capsys):
    capsys.readouterr()
    out = tmp_path / "seen"
    given = ["show", *map(str, runs), "--out", str(out), "--images=20", "--samples=2"]
    assert main(given) == 0
    names = {"firing_rates", "potentials", "raster", "weights", "gradients", "curves"}
    assert {path.name for path in out.iterdir()} == {f"{name}.png" for name in names}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in out.iterdir())
    shown = capsys.readouterr().out
    models = [refsnn.load(folder) for folder in runs]
    test = load_digits().test
    right = [model.predict(test.images) == test.labels for model in models]
    wins = [int((right[1] & ~right[0]).sum()), int((right[0] & ~right[1]).sum())]
    assert f"right where the other is wrong: seed1 {wins[0]}, seed0 {wins[1]} (p = " in shown
    for name, better, worse in (("seed1", right[1], right[0]), ("seed0", right[0], right[1])):
        images = np.flatnonzero(better & ~worse).tolist()
        listed = ", ".join(map(str, images[:12]))
        more = f", … {len(images)} in all (--json)" if len(images) > 12 else ""
        assert f"images that only {name} classifies right: {listed}{more}\n" in shown
    assert f"seed1 - seed0: accuracy {right[1].mean() - right[0].mean():+.4f} on 355" in shown
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main(given) == 0
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_page_holds_its_pictures_and_loads_nothing(runs, tmp_path, capsys):
    out = tmp_path / "seen"
    given = ["--out", str(out), "--html", "--images=20", "--json"]
    capsys.readouterr()
    assert main(["show", str(runs[0]), *given]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 20
    assert result["comparisons"] == []
    assert [path.name for path in out.iterdir()] == ["index.html"]
    text = (out / "index.html").read_text(encoding="utf-8")
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 6
    for source in sources:
        kind, content = source.split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert base64.b64decode(content).startswith(b"<?xml")
    assert not re.search(r"""(?:href|src)\s*=\s*["']?\w+://""", text)
    assert "<script" not in text


def test_a_page_shows_names_as_they_are():
    text = show_command.page(["<b> & co"], "1 < 2", {})
    assert "<h1>&lt;b&gt; &amp; co</h1>" in text
    assert "<pre>1 &lt; 2</pre>" in text


def test_runs_of_equal_names_are_told_apart(runs, tmp_path):
    other = tmp_path / "seed0"
    shutil.copytree(runs[0], other)
    assert show_command.names_of([runs[0], other]) == [str(runs[0]), str(other)]
    assert show_command.names_of(list(runs)) == ["seed0", "seed1"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--images=0"], "images: got 0"),
        (["--neurons=0"], "neurons: got 0"),
        (["--samples=0"], "samples: got 0"),
        (["--format=bmp"], "bmp"),
        (["--data=nothing.npz"], "nothing.npz does not exist"),
        (["nowhere"], "nowhere: no run there"),
    ],
)
def test_bad_options_are_refused(options, words, runs, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(["show", str(runs[0]), *options])
    assert not list(tmp_path.iterdir())


def test_runs_of_other_data_are_not_compared(runs, tmp_path, refused):
    data, folder = tmp_path / "mine.npz", tmp_path / "run"
    rng = np.random.default_rng(0)
    arrays = {f"{part}_images": rng.random((20, 8, 8)) for part in ("train", "test")}
    labels = {f"{part}_labels": np.arange(20) % 10 for part in ("train", "test")}
    np.savez(data, **arrays, **labels)
    assert main(["train", "--dataset", str(data), "--out", str(folder), *SMALL]) == 0
    line = refused(["show", str(runs[0]), str(folder), "--out", str(tmp_path / "seen")])
    assert "tested on other images than" in line
    assert not (tmp_path / "seen").exists()


@pytest.mark.slow
def test_figures_of_all_epochs_are_written_as_csv(runs, tmp_path, capsys, refused):
    file = tmp_path / "metrics.csv"
    given = ["show", *map(str, runs), "--out", str(tmp_path / "seen"), "--images=2"]
    assert main([*given, "--csv", str(file)]) == 0
    with file.open(newline="") as text:
        lines = list(csv.DictReader(text))
    rows = [row for folder in runs for row in read_metrics(folder)]
    assert [line["run"] for line in lines] == ["seed0", "seed0", "seed1", "seed1"]
    for line, row in zip(lines, rows, strict=True):
        assert float(line["test_loss"]) == row["test_loss"]
        assert float(line["firing_rate.stem.lif0"]) == row["firing_rate"]["stem.lif0"]
        assert float(line["test_class_accuracy.9"]) == row["test_class_accuracy"][9]
    capsys.readouterr()
    assert main([*given, "--csv", "-"]) == 0
    assert capsys.readouterr().out == file.read_text()
    assert "csv: got - beside --json" in refused([*given, "--csv=-", "--json"])


def test_the_gradient_of_each_layer_is_drawn_by_epoch(runs):
    rows = read_metrics(runs[0])
    (axes,) = show_plot.draw_gradients(rows, "a run").axes
    layers = [n for n in rows[0]["gradient_norm"] if not n.startswith("branch.")]
    assert layers[0] == "stem.conv0"
    assert layers[-1] == "head.fc"
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert drawn == {n: [row["gradient_norm"][n] for row in rows] for n in layers}


def test_the_best_epoch_and_where_a_run_was_made_longer_are_marked(runs):
    first, second = (read_metrics(run)[0] for run in runs)
    rows = [
        first | {"epoch": epoch, "epochs": epochs, "lr": 0.1 * epoch, "validation_accuracy": share}
        for epoch, epochs, share in ((1, 2, 0.5), (2, 2, 0.75), (3, 4, 0.75), (4, 4, 0.25))
    ]
    axes = show_plot.draw_runs(["longer", "plain"], [rows, [second]]).axes
    assert len(axes) == 6
    for place in axes:
        stars = [line for line in place.lines if line.get_marker() == "*"]
        assert [list(line.get_xdata()) for line in stars] == [[2]]
        dotted = [line for line in place.lines if line.get_linestyle() == ":"]
        assert [list(line.get_xdata()) for line in dotted] == [[2, 2]]
    (rate,) = (place for place in axes if place.get_ylabel() == "learning rate")
    assert rate.lines[0].get_ydata() == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [t.get_text() for t in axes[0].get_legend().texts] == ["longer", "plain"]


def test_runs_of_older_versions_have_no_gradients_by_layer(runs, tmp_path, capsys):
    folder = tmp_path / "old"
    shutil.copytree(runs[0], folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["gradient_norm"]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["show", str(folder), "--out", str(tmp_path / "seen"), "--images=2"]) == 0
    assert "gradients.png" not in {path.name for path in (tmp_path / "seen").iterdir()}


def test_a_run_without_a_recorded_epoch_has_no_curves(runs, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(runs[0], copy)
    (copy / "metrics.jsonl").unlink()
    out = tmp_path / "seen"
    assert main(["show", str(copy), "--images=4", "--out", str(out)]) == 0
    assert (
        capsys.readouterr().err == f"refsnn: {copy}: no epoch is recorded, so no curve is drawn\n"
    )
    assert not (out / "curves.png").exists()
