"""The guide of the experiments says what was recorded, and what the scripts measure."""

import json
import re

import numpy as np
import pytest
from guides import ROOT, guide

from refsnn.experiments.ablation import configs, recipe_names
from refsnn.experiments.presets import PRESETS
from refsnn.experiments.statistics import paired_difference
from refsnn.experiments.table import read_table, recorded_results
from refsnn.training.recipes import recipes

GUIDE = guide("refsnn/experiments/README.md")
FIGURES = ROOT / "figures"


def recorded(name):
    return json.loads((FIGURES / name).read_text(encoding="utf-8"))["rows"]


def assert_shown(cells, values):
    """Each cell shows its values, fractions of 1, in percent with one decimal."""
    for cell, numbers in zip(cells, values, strict=True):
        shown = [float(x) for x in re.findall(r"-?\d+\.\d", cell)]
        np.testing.assert_allclose(shown, np.multiply(100, numbers), rtol=0, atol=0.0500001)


def claims_values(row):
    cells = [[cell["mean"], cell["std"]] for cell in row["methods"].values()]
    return cells + [[d["mean"], d["low"], d["high"]] for d in row["differences"].values()]


def test_the_claims_table_says_what_was_recorded():
    rows, lines = recorded("claim.json"), GUIDE.rows("tanh|rectangular")
    assert len(lines) == len(rows) > 4
    for (surrogate, layers, *cells), row in zip(lines, rows, strict=True):
        assert (surrogate, int(layers)) == (row["settings"]["surrogate"], row["depth"])
        assert_shown(cells, claims_values(row))


def test_the_regimes_table_says_what_was_recorded():
    rows, lines = recorded("regimes.json"), GUIDE.rows(r"k = [\d.]+")
    assert len(lines) == len(rows) == 9
    for (k, layers, *cells), row in zip(lines, rows, strict=True):
        assert (k, int(layers)) == (f"k = {row['settings']['surrogate_shape']:g}", row["depth"])
        assert_shown(cells, claims_values(row))
    grids = PRESETS["regimes"]
    assert sum(len(g.archs) * len(g.methods) * len(g.seeds) for g in grids) == sum(
        cell["n"] for row in rows for cell in row["methods"].values()
    )


def test_the_regimes_answers_follow_from_what_was_recorded():
    found = {
        (row["settings"]["surrogate_shape"], row["depth"], method): cell
        for row in recorded("regimes.json")
        for method, cell in row["methods"].items()
    }
    vanishing, line = ((k, 56, "vanilla") for k in (0.5, 0.625))
    compared = [
        (line, vanishing),
        ((0.625, 56, "evolutionary"), line),
        (line, (0.5, 56, "evolutionary")),
    ]
    lines = GUIDE.rows(r"[123] [a-z ]+")
    for (_, shown, answer), (one, other) in zip(lines, compared, strict=True):
        pair = (found[key]["accuracy"] for key in (one, other))
        difference = paired_difference(*pair, confidence=1 - 0.05 / 3)
        assert_shown([shown], [difference[1:]])
        assert answer.startswith("none") == (difference.low < 0 < difference.high)
    spreads = [
        np.ptp([found[k, depth, "vanilla"]["mean"] for k in (0.5, 0.625, 0.866)])
        for depth in (20, 38, 56)
    ]
    (within,) = re.findall(r"vanilla means lie within ([\d.]+) points", GUIDE.text)
    assert 100 * max(spreads) < float(within) < 100 * max(spreads) + 0.1
    worst = min(cell["mean"] for (_, depth, _), cell in found.items() if depth == 20)
    best = max(cell["mean"] for (_, depth, _), cell in found.items() if depth == 38)
    (above,) = re.findall(r"every surrogate and method is (\d+) points and more", GUIDE.text)
    assert float(above) < 100 * (worst - best) < float(above) + 1


def test_the_table_of_images_says_what_was_recorded():
    rows, lines = recorded("images.json"), GUIDE.rows(r"images, k = [\d.]+")
    assert len(lines) == len(rows) == 4
    for (k, layers, *cells), row in zip(lines, rows, strict=True):
        shape = row["settings"]["surrogate_shape"]
        assert (k, int(layers)) == (f"images, k = {shape:g}", row["depth"])
        assert_shown(cells, claims_values(row))
        assert row["differences"]["evolutionary - vanilla"]["low"] < 0  # as the text has it
    (count,) = re.findall(r"All (\d+) runs are trained", GUIDE.text)
    assert int(count) == sum(cell["n"] for row in rows for cell in row["methods"].values())
    assert set(recorded_results(FIGURES / "images.json")) == set(configs(PRESETS["images"]))


def test_the_answers_on_images_follow_from_what_was_recorded():
    table = read_table(FIGURES / "images.json")
    found = {
        ((table["settings"] | row["settings"])["surrogate_shape"], row["depth"], method): cell
        for row in table["rows"]
        for method, cell in row["methods"].items()
    }
    vanilla = (0.5, 56, "vanilla")
    compared = [
        ((0.5, 20, "vanilla"), vanilla),
        ((0.5, 56, "evolutionary"), vanilla),
        ((0.625, 56, "vanilla"), vanilla),
    ]
    lines = GUIDE.rows(r"images: \w+")
    for (_, shown, answer), (one, other) in zip(lines, compared, strict=True):
        pair = [found[key]["accuracy"] for key in (one, other)]
        assert all(set(accuracy) == {"0", "1", "2", "3", "4"} for accuracy in pair)
        difference = paired_difference(*pair, confidence=1 - 0.05 / 3)
        assert_shown([shown], [difference[1:]])
        assert answer.startswith("none") == (difference.low < 0 < difference.high)


def methods():
    """The rows of the tables of methods by the recipes' names."""
    rows = {}
    for file in ("methods.json", "kdsnn.json"):
        table = read_table(FIGURES / file)
        names = recipe_names([table["settings"] | row["settings"] for row in table["rows"]])
        rows |= dict(zip(names or ["kdsnn"], table["rows"], strict=True))
    return rows


def test_the_table_of_methods_says_what_was_recorded():
    rows = methods()
    lines = GUIDE.rows("|".join(rows))
    assert [name for name, *_ in lines] == [*rows] == ["paper", *recipes()]
    for (_, *cells), row in zip(lines, rows.values(), strict=True):
        assert_shown(cells, claims_values(row))
        assert all(cell["n"] == 5 for cell in row["methods"].values())
    assert set(recorded_results(FIGURES / "methods.json")) == set(configs(PRESETS["methods"]))
    differences = {name: row["differences"]["evolutionary - vanilla"] for name, row in rows.items()}
    apart = [name for name, d in differences.items() if not d["low"] < 0 < d["high"]]
    means = [round(100 * row["methods"]["vanilla"]["mean"], 1) for row in rows.values()]
    (said,) = re.findall(r"Of the (\d+) intervals one leaves 0 out, that of `(\w+)`", GUIDE.text)
    assert (int(said[0]), [said[1]]) == (len(rows), apart)
    (said,) = re.findall(r"reaches ([\d.]+) to ([\d.]+) % with (\d+) of the (\d+)", GUIDE.text)
    low, high, count, of_all = map(float, said)
    assert (low, high) == (sorted(means)[2], max(means))
    assert (count, of_all) == (len(means) - 2, len(means))


def test_the_table_of_deep_methods_says_what_was_recorded():
    table = read_table(FIGURES / "methods-deep.json")
    rows, runs = table["rows"], recorded_results(FIGURES / "methods-deep.json")
    names = recipe_names([table["settings"] | row["settings"] for row in rows]) or []
    lines = GUIDE.rows(r"[a-z-]+, (?:38|56) layers")
    for (name, *cells), recipe, row in zip(lines, names, rows, strict=True):
        assert name == f"{recipe}, {row['depth']} layers"
        numbers = [[x for x in values if x is not None] for values in claims_values(row)]
        assert_shown(cells, numbers)
        for cell, values in zip(cells, row["methods"].values(), strict=False):
            assert ("diverged" in cell) == bool(values["diverged"])
    low, high, most = map(
        int, re.findall(r"reach (\d+) to (\d+) %, at both .* below (\d+) %", GUIDE.text)[0]
    )
    for recipe, row in zip(names, rows, strict=True):
        means = [100 * c["mean"] for c in row["methods"].values() if c["mean"] is not None]
        deep = recipe in ("sew-resnet", "ms-resnet")
        assert all(low - 0.5 < x < high + 0.5 if deep else x < most for x in means), recipe
    diverged = [len(c["diverged"]) for row in rows for c in row["methods"].values()]
    psp = [config for config in runs if config.norm.norm_model == "psp"]
    assert f"All {len(psp)} runs end within" in GUIDE.text
    assert sum(diverged) == len(psp)
    assert set(runs) == set(configs(PRESETS["methods-deep"]))


def test_what_is_said_of_differences_in_deep_networks_was_recorded():
    table = read_table(FIGURES / "methods-deep.json")
    names = recipe_names([table["settings"] | row["settings"] for row in table["rows"]]) or []
    above, means, wide, outside = {38: 0, 56: 0}, {38: [], 56: []}, 0, {38: [], 56: []}
    for recipe, row in zip(names, table["rows"], strict=True):
        difference = row["differences"]["evolutionary - vanilla"]
        if difference["low"] is not None:
            wide += difference["high"] > difference["low"]
            if difference["low"] > 0 or difference["high"] < 0:
                outside[row["depth"]].append(f"`{recipe}`")
        if row["settings"]["block"] == "basic":
            above[row["depth"]] += difference["mean"] > 0
            means[row["depth"]].append([c["accuracy"] for c in row["methods"].values()])
    (said,) = re.findall(
        r"for (\d+) of (\d+) at 38 layers, and for (\d+) of them at 56", GUIDE.text
    )
    assert [*map(int, said)] == [above[38], len(means[38]), above[56]]
    number = r"(-?\d+\.\d)"
    average = rf"is {number} points above vanilla at 38 layers \[{number}, {number}\], "
    (said,) = re.findall(rf"{average}and {number} at 56 \[{number}, {number}\]", GUIDE.text)
    wanted = []
    for pairs in means.values():
        vanilla, evolutionary = (
            {seed: np.mean([pair[k][seed] for pair in pairs]) for seed in pairs[0][k]}
            for k in range(2)
        )
        wanted += paired_difference(evolutionary, vanilla)[1:]
    np.testing.assert_allclose([*map(float, said)], np.multiply(100, wanted), atol=0.0500001)
    assert f"Of {wide} intervals (none for" in GUIDE.text
    assert f"one class), {sum(map(len, outside.values()))} leave 0 out: those" in GUIDE.text
    listed = [" and ".join(found) for found in outside.values()]
    assert f"those of {listed[0]} at 38 layers and of {listed[1]} at 56" in GUIDE.text


def test_each_recipe_says_what_was_recorded():
    rows = methods()
    for name, recipe in recipes().items():
        cells = rows[name]["methods"]
        assert recipe.digits == {
            method: [round(100 * cell["mean"], 1), round(100 * cell["std"], 1)]
            for method, cell in cells.items()
        }


def test_the_readmes_row_of_the_claim_is_one_of_the_table():
    (row,) = guide("README.md").rows("tanh")
    assert row in GUIDE.rows("tanh")
    assert row[1] == "56"


def test_the_claims_runs_are_as_many_as_is_said():
    (count,) = re.findall(r"(\d+) runs took", GUIDE.text)
    grids = PRESETS["claim"]
    assert int(count) == sum(
        len(g.archs) * len(g.steps) * len(g.methods) * len(g.seeds) for g in grids
    )


def test_the_table_of_real_images_says_what_was_recorded():
    rows, lines = recorded("cifar.json"), GUIDE.rows(r"\d+")
    assert len(lines) == len(rows) == 2
    for (layers, *cells), row in zip(lines, rows, strict=True):
        accuracy = {name: cell["mean"] for name, cell in row["methods"].items()}
        variance = {name: p * (1 - p) / 10_000 for name, p in accuracy.items()}
        values = [[p, 1.96 * variance[name] ** 0.5] for name, p in accuracy.items()]
        for first, second in (name.split(" - ") for name in row["differences"]):
            half = 1.96 * (variance[first] + variance[second]) ** 0.5
            middle = accuracy[first] - accuracy[second]
            values.append([middle, middle - half, middle + half])
        assert int(layers) == row["depth"]
        assert_shown(cells, values)


def test_every_preset_has_its_row():
    tables = {row[0].strip("`") for row in GUIDE.rows("`table.`")}
    assert tables == {name for name in PRESETS if name.startswith("table")}


def test_every_script_of_a_picture_is_named_and_every_name_is_a_script():
    (names,) = re.findall(r"`python figures/NAME.py`([^\n]*)", GUIDE.text)
    scripts = {path.stem for path in FIGURES.glob("[!_]*.py")}
    assert set(re.findall(r"`(\w+)`", names)) == scripts


@pytest.mark.slow
def test_the_first_layers_gradient_is_as_large_as_is_said(monkeypatch):
    monkeypatch.syspath_prepend(FIGURES)
    from gradient_by_depth import compute

    first = compute(depths=(20, 56))["first"]
    shallow, deep = (10 ** np.mean(logs) for logs in first["vanilla"])
    shortcut = 10 ** np.mean(first["shortcut"][-1])
    low, high = map(float, re.findall(r"from (\S+) to (\S+) \(geometric", GUIDE.text)[0])
    np.testing.assert_allclose([deep, shortcut], [low, high], rtol=0.05)
    (times,) = re.findall(r"([\d,]+) times as much", GUIDE.text)
    np.testing.assert_allclose(shortcut / deep, float(times.replace(",", "")), rtol=0.05)
    (factor,) = re.findall(r"multiplies it by (0\.\d+)", GUIDE.text)
    np.testing.assert_allclose((deep / shallow) ** (1 / 18), float(factor), rtol=0.02)
