"""The picture of a run."""

import io
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from refsnn.training.config import make_config
from refsnn.training.plot import draw_curves, log_scale


def records(count, layers=5):
    return [
        {
            "epoch": k,
            "loss": 2 / k,
            "test_loss": 2.5 / k,
            "train_accuracy": 1 - 0.9 / k,
            "test_accuracy": 1 - 0.95 / k,
            "lambda": 0.25 * (1 - k / count),
            "first_layer_gradient_norm": 0.1 / k,
            "firing_rate": {f"layer{n}": 0.1 + 0.01 * n + 0.1 / k for n in range(layers)},
        }
        for k in range(1, count + 1)
    ]


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        image.load()
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("count", "layers"), [(1, 1), (1, 5), (60, 5)])
@pytest.mark.filterwarnings("error")
def test_curves_are_a_picture_that_opens(count, layers):
    shown = pixels(draw_curves(records(count, layers), make_config()))
    assert shown.shape == (720, 1200, 3)
    assert shown.std() > 5


@pytest.mark.filterwarnings("error")
def test_a_vanilla_run_whose_balance_is_zero_throughout_can_be_drawn():
    rows = [row | {"lambda": 0.0} for row in records(3)]
    assert pixels(draw_curves(rows, make_config(method="vanilla"))).std() > 5


@pytest.mark.filterwarnings("error")
def test_constant_images_whose_gradient_is_zero_throughout_can_be_drawn():
    zero = {"first_layer_gradient_norm": 0.0, "firing_rate": {"layer0": 0.0}}
    assert pixels(draw_curves([row | zero for row in records(3)], make_config())).std() > 5


def test_an_epoch_alone_shows_every_layers_firing_rate():
    (row,) = records(1)
    before = pixels(draw_curves([row], make_config()))
    other = row["firing_rate"] | {"layer2": row["firing_rate"]["layer2"] + 0.005}  # within limits
    moved = (pixels(draw_curves([row | {"firing_rate": other}], make_config())) != before).any(2)
    assert moved[360:, 540:].any()
    assert not moved[:360].any()
    assert not moved[:, :540].any()


@pytest.mark.parametrize(
    ("values", "shown"),
    [([2.18, 2.2], "2.18"), ([0.01, 1.0], "0.1"), ([0.9, 2.3], "2")],
)
def test_ticks_of_a_logarithmic_axis_are_plain_numbers(values, shown):
    axes = Figure().subplots()
    axes.plot(values, marker=".")
    log_scale(axes, [{"loss": value} for value in values], "loss")
    axes.figure.canvas.draw()
    texts = [label.get_text() for label in axes.yaxis.get_ticklabels(which="both")]
    assert shown in texts
    assert all(float(text) > 0 for text in texts if text)


def test_the_same_rows_give_the_same_bytes():
    rows = records(2)
    assert draw_curves(rows, make_config()) == draw_curves(rows, make_config())


@pytest.mark.slow
@pytest.mark.parametrize("panel", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_each_panel_shows_its_records(panel):
    """Changing one record changes the panel that it stands in, and no other."""
    names = {
        (0, 0): ["loss", "test_loss"],
        (0, 1): ["train_accuracy", "test_accuracy"],
        (1, 0): ["lambda", "first_layer_gradient_norm"],
        (1, 1): ["firing_rate"],
    }[panel]
    rows = records(5)
    before = pixels(draw_curves(rows, make_config()))
    for name in names:
        value = rows[2][name]
        other = value | {"layer3": 0.9 * value["layer3"]} if name == "firing_rate" else 0.9 * value
        changed = [*rows[:2], rows[2] | {name: other}, *rows[3:]]
        differs = (pixels(draw_curves(changed, make_config())) != before).any(axis=2)
        halves = [np.split(half, 2, axis=1) for half in np.split(differs, 2, axis=0)]
        touched = {(r, c) for r in (0, 1) for c in (0, 1) if halves[r][c].any()}
        assert touched == {panel}, name


@pytest.mark.parametrize(("value", "said"), [("nonsense", "'nonsense' is not a valid value")])
def test_a_picture_that_fails_does_not_cost_the_summary(value, said, tmp_path):
    """matplotlib can't even be imported then."""
    words = ["train", "--out", "run", "--arch=1-1:4-8", "--epochs=1", "--ops=numpy"]
    done = subprocess.run(
        [sys.executable, "-m", "refsnn", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=os.environ | {"MPLBACKEND": value},
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout
    assert (tmp_path / "run" / "summary.json").exists()
    last = done.stderr.splitlines()[-1]
    assert last.startswith("refsnn: went on without run/curves.png: ")
    assert said in last


def test_a_picture_for_want_of_memory_does_not_cost_the_summary(tmp_path, monkeypatch, capsys):
    from refsnn.cli import main
    from refsnn.training import plot

    def fail(*arguments):
        raise MemoryError

    monkeypatch.setattr(plot, "draw_curves", fail)
    words = ["--arch=1-1:4-8", "--epochs=1", "--ops=numpy"]
    assert main(["train", "--out", str(tmp_path / "run"), *words]) == 0
    assert capsys.readouterr().err.splitlines()[-1].endswith("curves.png: MemoryError")
    assert (tmp_path / "run" / "summary.json").exists()
