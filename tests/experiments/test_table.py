"""The table as numbers, as text and as a plot, which all agree."""

import copy
import io
import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from refsnn.experiments import table
from refsnn.experiments.ablation import Result
from refsnn.training.config import make_config

BASE = make_config(arch="1-1:4-8", epochs=7, lr=0.5)
ACCURACY = {
    "vanilla": {0: 0.5, 1: 0.25, 2: 0.75},
    "shortcut": {0: 0.75, 1: 0.5, 2: None},  # None: diverged
    "evolutionary": {0: 0.875},  # seeds 1 and 2 are missing
}


def results(accuracy=ACCURACY, seeds=(0, 1, 2), **settings):
    found = []
    for method, values in accuracy.items():
        for seed in seeds:
            config = BASE.changed(method=method, seed=seed, **settings)
            if seed not in values:
                found.append(Result(config, "missing"))
            elif values[seed] is None:
                found.append(Result(config, "diverged"))
            else:
                found.append(Result(config, "finished", values[seed], 4))
    return found


@pytest.fixture(scope="module")
def made():
    """Return three rows: T = 1, T = 2, and one of another surrogate with only two methods."""
    fewer = {"vanilla": {0: 1.0, 1: 1.0}, "shortcut": {0: None, 1: None}}
    return table.tabulate(
        [
            *results(steps=1),
            *results(steps=2),
            *results(fewer, (0, 1), surrogate="triangular"),
        ]
    )


def test_a_row_has_the_numbers_computed_by_hand(made):
    row = made["rows"][0]
    assert {
        name: value for name, value in row.items() if name not in ("methods", "differences")
    } == {
        "arch": "1-1:4-8",
        "depth": 6,
        "steps": 1,
        "settings": {"surrogate": "tanh"},
        "chance": 0.25,
    }
    assert row["methods"] == {
        "vanilla": {
            "n": 3,
            "mean": 0.5,
            "std": 0.25,
            "accuracy": {"0": 0.5, "1": 0.25, "2": 0.75},
            "diverged": [],
            "missing": [],
            "damaged": [],
        },
        "shortcut": {
            "n": 2,
            "mean": 0.625,
            "std": pytest.approx(0.125 * 2**0.5),
            "accuracy": {"0": 0.75, "1": 0.5},
            "diverged": [2],
            "missing": [],
            "damaged": [],
        },
        "evolutionary": {
            "n": 1,
            "mean": 0.875,
            "std": None,
            "accuracy": {"0": 0.875},
            "diverged": [],
            "missing": [1, 2],
            "damaged": [],
        },
    }
    assert row["differences"] == {
        "shortcut - vanilla": {"n": 2, "mean": 0.25, "low": 0.25, "high": 0.25},
        "evolutionary - vanilla": {"n": 1, "mean": 0.375, "low": None, "high": None},
        "evolutionary - shortcut": {"n": 1, "mean": 0.125, "low": None, "high": None},
    }


def test_settings_that_rows_share_and_settings_that_differ(made):
    assert made["settings"]["epochs"] == 7
    assert not {"surrogate", "method", "arch", "steps", "seed"} & set(made["settings"])
    assert [row["settings"] for row in made["rows"]] == [
        {"surrogate": "tanh"},
        {"surrogate": "tanh"},
        {"surrogate": "triangular"},
    ]


def test_all_runs_diverged_or_missing(made):
    row = made["rows"][2]
    assert row["methods"]["shortcut"] == {
        "n": 0,
        "mean": None,
        "std": None,
        "accuracy": {},
        "diverged": [0, 1],
        "missing": [],
        "damaged": [],
    }
    assert set(row["differences"]) == {"shortcut - vanilla"}
    assert row["differences"]["shortcut - vanilla"]["mean"] is None
    (alone,) = table.tabulate(results({"vanilla": {}}))["rows"]
    assert alone["chance"] is None


def test_an_accuracy_and_a_difference_of_zero_are_numbers():
    found = table.tabulate(
        results({"vanilla": {0: 0.0, 1: 0.5}, "shortcut": {0: 0.0, 1: 0.5}}, (0, 1))
    )
    (row,) = found["rows"]
    assert row["methods"]["vanilla"]["accuracy"] == {"0": 0.0, "1": 0.5}
    assert (row["methods"]["vanilla"]["n"], row["methods"]["vanilla"]["mean"]) == (2, 0.25)
    difference = row["differences"]["shortcut - vanilla"]
    assert table.difference_text(difference) == "+0.00 (n = 2) [+0.00, +0.00]"
    (row,) = table.tabulate(results({"vanilla": {0: 0.0}}, (0,)))["rows"]
    assert table.accuracy_text(row["methods"]["vanilla"]) == "0.00 (n = 1)"


def test_cells_say_how_many_runs_diverged_or_are_missing(made):
    methods, differences = (made["rows"][0][part] for part in ("methods", "differences"))
    assert [table.accuracy_text(methods[name]) for name in methods] == [
        "50.00 ± 25.00 (n = 3)",
        "62.50 ± 17.68 (n = 2, 1 diverged)",
        "87.50 (n = 1, 2 missing)",
    ]
    assert [table.difference_text(differences[name]) for name in differences] == [
        "+25.00 (n = 2) [+25.00, +25.00]",
        "+37.50 (n = 1)",
        "+12.50 (n = 1)",
    ]
    last = made["rows"][2]
    assert table.accuracy_text(last["methods"]["shortcut"]) == "– (n = 0, 2 diverged)"
    assert table.difference_text(last["differences"]["shortcut - vanilla"]) == "– (n = 0)"


def test_of_one_seed_neither_spread_nor_interval_is_spoken_of():
    several = results({"vanilla": {0: 0.0, 1: 0.5}, "shortcut": {0: 0.0, 1: 0.5}}, (0, 1))
    for made, wanted in ((several, True), ([r for r in several if r.config.seed == 0], False)):
        found = table.tabulate(made)
        text, axes = table.to_markdown(found), table.draw(found).axes
        labels = [one.get_xlabel() for one in axes]
        assert ("±" in text, "interval" in text, "of one seed" in text) == (
            wanted,
            wanted,
            not wanted,
        )
        assert ("std" in labels[0], "interval" in labels[1]) == (wanted, wanted)


@pytest.mark.parametrize(
    ("settings", "common", "wanted"),
    [
        ({"surrogate": "tanh", "surrogate_shape": 0.5}, {}, {"surrogate": "tanh, k = 0.5"}),
        (
            {"surrogate_shape": 2.0},
            {"surrogate": "rectangular"},
            {"surrogate": "rectangular, a = 2"},
        ),
        ({"surrogate": "triangular"}, {"surrogate_shape": None}, {"surrogate": "triangular"}),
        (
            {"surrogate": "mine:slope"},
            {"surrogate_shape": 1.0},
            {"surrogate": "mine:slope, shape = 1"},
        ),
        ({"tau": 0.25, "lr": 0.1}, {"surrogate": "tanh"}, {"tau": "0.25", "lr": "0.1"}),
    ],
)
def test_settings_are_written_as_people_write_them(settings, common, wanted):
    assert table.worded({"settings": settings}, common) == wanted


def cells_of(markdown):
    """Each Markdown table as a list of {head: cell}."""
    for block in re.findall(r"(?:^\|.*\|\n)+", markdown, re.M):
        lines = [[cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines()]
        assert len({len(line) for line in block.splitlines()}) == 1  # aligned
        yield [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_the_text_says_what_the_numbers_say(made):
    shown = table.to_markdown(made)
    accuracies, differences = cells_of(shown)
    for row, cells, pairs in zip(made["rows"], accuracies, differences, strict=True):
        for line in (cells, pairs):
            assert line["surrogate"] == row["settings"]["surrogate"]
            assert (line["architecture"], line["layers"], line["T"]) == (
                row["arch"],
                str(row["depth"]),
                str(row["steps"]),
            )
        assert cells["chance"] == f"{100 * row['chance']:.2f}"
        for name in ("vanilla", "shortcut", "evolutionary"):
            wanted = row["methods"].get(name)
            assert cells[name] == (table.accuracy_text(wanted) if wanted else "")
        for name in table.DIFFERENCES:
            wanted = row["differences"].get(name)
            assert pairs[name] == (table.difference_text(wanted) if wanted else "")
    assert "Settings of all runs: dataset digits, epochs 7, lr 0.5." in shown


def test_one_method_has_no_table_of_differences():
    shown = table.to_markdown(table.tabulate(results({"shortcut": {0: 1.0}}, (0,))))
    (accuracies,) = cells_of(shown)
    assert list(accuracies[0]) == ["architecture", "layers", "T", "shortcut", "chance"]
    assert "Differences" not in shown


def drawn(axes):
    """label -> [(x, y, low, high)], as its marks and bars stand, bars along x"""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container
        segments = bars.get_segments()
        found[container.get_label()] = [
            (x, y, *np.asarray(segment)[:, 0]) if len(segment) else (x, y, None, None)
            for (x, y), segment in zip(line.get_xydata(), segments, strict=True)
        ]
    return found


def test_the_plot_draws_what_the_numbers_say(made):
    left, right = table.draw(made).axes
    for axes, part, names in (
        (left, "methods", ("vanilla", "shortcut", "evolutionary")),
        (right, "differences", table.DIFFERENCES),
    ):
        marks = drawn(axes)
        assert list(marks) == list(names)
        for name in names:
            rows = [
                (index, row[part][name])
                for index, row in enumerate(made["rows"])
                if row[part].get(name, {"n": 0})["n"]
            ]
            for (index, cell), (x, y, low, high) in zip(rows, marks[name], strict=True):
                assert round(y) == index
                assert x == pytest.approx(100 * cell["mean"])
                if part == "methods":
                    bar = None if cell["std"] is None else cell["std"]
                    ends = None if bar is None else (cell["mean"] - bar, cell["mean"] + bar)
                else:
                    ends = None if cell["low"] is None else (cell["low"], cell["high"])
                if ends is None:
                    assert low is None or np.isnan(low)
                else:
                    assert (low, high) == pytest.approx(tuple(100 * end for end in ends))
    labels = [text.get_text() for text in left.get_yticklabels()]
    assert labels[2] == "triangular, T = 2"
    assert table.labels(made)[2] == "6 layers, T = 2\ntriangular\n1-1:4-8"
    assert [text.get_text() for text in left.texts] == ["diverged"]
    assert left.texts[0].get_color() == table.STYLES["shortcut"][0]
    assert round(left.texts[0].get_position()[1]) == 2
    assert left.yaxis_inverted()  # the first row is at the top
    chance = [c for c in left.collections if c.get_linestyle() != [(0, None)]]
    assert [segment[0][0] for c in chance for segment in c.get_segments()] == [25, 25, 25]


def test_what_all_rows_share_is_the_title_and_chance_far_below_is_left_out(made):
    rows = [
        row | {"arch": "1:4", "depth": 4, "steps": 2, "settings": {"surrogate": name}}
        for row, name in zip(made["rows"], ("tanh", "triangular", "rectangular"), strict=True)
    ]
    same = copy.deepcopy(made | {"rows": rows})
    figure = table.draw(same)
    left, _ = figure.axes
    assert figure.get_suptitle() == "1:4, 4 layers, T = 2"
    names = [text.get_text() for text in left.get_yticklabels()]
    assert names == ["tanh", "triangular", "rectangular"]
    assert "chance" in left.get_xlabel()
    for row in same["rows"]:
        for cell in row["methods"].values():
            cell["accuracy"] = dict.fromkeys(cell["accuracy"], 0.9)
    left, _ = table.draw(same).axes
    assert not [c for c in left.collections if c.get_linestyle() != [(0, None)]]
    assert "chance" not in left.get_xlabel()
    assert table.draw(made).get_suptitle() == "1-1:4-8, 6 layers"


def test_every_seed_is_a_mark(made):
    left, _ = table.draw(made).axes
    seeds = sorted(
        x
        for line in left.lines
        if line.get_marker() == "|" and line.get_alpha()
        for x in line.get_xdata()
    )
    wanted = [
        100 * accuracy
        for row in made["rows"]
        for cell in row["methods"].values()
        for accuracy in cell["accuracy"].values()
        if cell["n"] > 1
    ]
    assert seeds == sorted(wanted)


@pytest.mark.filterwarnings("error")
def test_long_names_of_rows_leave_room_for_the_marks(made):
    settings = {f"a_setting_with_number_{k}": f"value {k}" for k in range(8)}
    rows = [row | {"settings": row["settings"] | settings} for row in made["rows"][:1]]
    figure = table.draw(made | {"rows": [*rows, *made["rows"][1:]]})
    figure.savefig(io.BytesIO())
    left, right = figure.axes
    assert left.get_position().width > 0.3
    assert right.get_position().width > 0.15


def test_methods_differ_in_marker_and_in_colour():
    """They can be told apart in a grey print and by the colour-blind."""
    for names in (("vanilla", "shortcut", "evolutionary"), table.DIFFERENCES):
        styles = [table.STYLES[name] for name in names]
        assert len({mark for _, mark in styles}) == len(names)
        assert len({color for color, _ in styles}) == len(names)


def test_files_are_those_of_the_table_and_the_same_each_time(made, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        table.write(tmp_path / name, made)
    found = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert set(found) == {"table.json", "table.md", "ablation.png", "ablation.svg"}
    assert found == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    assert json.loads(found["table.json"]) == made
    assert found["table.md"].decode() == table.to_markdown(json.loads(found["table.json"]))
    with Image.open(tmp_path / "a" / "ablation.png") as image:
        assert image.format == "PNG"
    assert ET.fromstring(found["ablation.svg"]).tag.endswith("svg")


def test_a_failure_to_draw_affects_neither_table_nor_run(made, tmp_path, monkeypatch, capsys):
    def fail(found):
        raise ValueError("no\nbackend")

    monkeypatch.setattr(table, "draw", fail)
    assert table.write(tmp_path, made) == ["table.json", "table.md"]
    assert {path.name for path in tmp_path.iterdir()} == {"table.json", "table.md"}
    assert (
        capsys.readouterr().err == f"refsnn: went on without {tmp_path}/ablation.png: no backend\n"
    )


def by_class(*classes, **settings):
    """Return finished runs of seeds 0, 1, … with these accuracies by class."""
    return [
        Result(BASE.changed(seed=i, **settings), "finished", 0.5, 2, class_accuracy=tuple(x))
        for i, x in enumerate(classes)
    ]


def test_a_classes_accuracy_is_the_mean_over_the_seeds(tmp_path):
    made = table.tabulate(by_class((0.25, None, 1.0), (0.75, None, 0.5)))
    assert table.class_accuracies(made["rows"][0]) == {"evolutionary": [0.5, None, 0.75]}
    table.write(tmp_path, made)
    assert table.read_table(tmp_path / "table.json") == made
    last = (tmp_path / "table.md").read_text().splitlines()[-1]
    assert [cell.strip() for cell in last.strip("|").split("|")] == [
        *("1-1:4-8", "6", "2", "evolutionary", "50.0", "–", "75.0")
    ]


@pytest.mark.parametrize("classes", [((0.5, 0.5), ()), ((0.5,) * 21,) * 2])
def test_classes_are_not_shown_where_a_run_lacks_them_or_they_are_many(classes):
    made = table.tabulate(by_class(*classes))
    assert table.class_accuracies(made["rows"][0]) == {}
    assert table.classes_to_markdown(made) == ""
