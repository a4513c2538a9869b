"""Curves of all runs of an ablation."""

import json

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.experiments import ablation_plot as curves
from refsnn.experiments.ablation import Planned, settings_of
from refsnn.training.config import make_config
from refsnn.training.folder import read_config, read_metrics

TINY = ["--archs", "1:4", "1-1:4-8", "--epochs=2", "--batch-size=400", "--ops=numpy", "--seeds=2"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation") / "small"
    given = ["--methods", "vanilla", "evolutionary", "--out", str(folder)]
    assert main(["ablation", *TINY, *given]) == 0
    return folder


@pytest.mark.processes
def test_each_run_is_a_line_and_each_method_a_mean(out):
    table = json.loads((out / "table.json").read_text())
    runs = [Planned(folder, read_config(folder)) for folder in sorted(out.glob("runs/*"))]
    runs.sort(key=lambda r: len(r.config.network.arch))
    figure = curves.draw(table, curves.read_curves(runs))
    panels = [axes for axes in figure.axes if axes.lines]
    assert [axes.get_title().split("\n")[-1] for axes in panels] == ["1:4", "1-1:4-8"]
    for axes, arch in zip(panels, ("1:4", "1-1:4-8"), strict=True):
        wanted = {}
        for run in runs:
            if run.config.network.arch == arch:
                values = [100 * row["test_accuracy"] for row in read_metrics(run.folder)]
                wanted.setdefault(run.config.objective.method, []).append(values)
        means = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
        thin = [list(line.get_ydata()) for line in axes.lines if line.get_linewidth() == 0.5]
        for method, values in wanted.items():
            assert means[method] == pytest.approx(np.mean(values, axis=0).tolist())
            assert all(one in thin for one in values)
        assert len(thin) == 4
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert settings_of(out, [runs[0].config])


def test_the_mean_ends_where_the_first_run_does():
    table = {
        "settings": {},
        "rows": [{"settings": {}, "arch": "1:4", "depth": 4, "steps": 2, "chance": None}],
    }
    (axes,) = curves.draw(table, [{"vanilla": [[0.1, 0.2, 0.6], [0.3]]}]).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert lines["vanilla"] == pytest.approx([20])


def test_runs_that_cannot_be_read_are_left_out(tmp_path):
    runs = []
    for name, content in (("none", None), ("empty", ""), ("damaged", "[]\n{}\n")):
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "metrics.jsonl").write_text(content)
        runs.append(Planned(tmp_path / name, make_config()))
    assert curves.read_curves(runs) == [{}]


@pytest.mark.processes
def test_classes_are_drawn_as_numbers_that_the_runs_have(out):
    table = json.loads((out / "table.json").read_text())
    figure = curves.draw_classes(table)
    for axes, row in zip(figure.axes, table["rows"], strict=False):
        shown = np.array(axes.images[0].get_array())
        for line, (method, cell) in zip(shown, row["methods"].items(), strict=True):
            runs = [path.parent for path in out.glob("runs/*/config.json")]
            wanted = [
                read_metrics(folder)[-1]["test_class_accuracy"]
                for folder in runs
                if (config := read_config(folder)).objective.method == method
                and config.network.arch == row["arch"]
            ]
            assert len(wanted) == 2
            assert sorted(cell["class_accuracy"].values()) == sorted(wanted)
            assert line.tolist() == pytest.approx((100 * np.mean(wanted, axis=0)).tolist())
        assert len(axes.texts) == shown.size
    assert (out / "classes.png").read_bytes().startswith(b"\x89PNG")
