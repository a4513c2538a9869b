"""The figure of an ablation's table; its content is tested with refsnn.experiments.table."""

import json

import pytest


def spread(mean):
    return {
        "n": 2,
        "mean": mean,
        "std": 0.1,
        "accuracy": {"0": mean - 0.1, "1": mean + 0.1},
        "diverged": [],
        "missing": [],
        "damaged": [],
    }


@pytest.fixture
def table():
    difference = {"n": 2, "mean": 0.25, "low": 0.1, "high": 0.4}
    row = {
        "arch": "1:4",
        "depth": 4,
        "steps": 2,
        "settings": {},
        "chance": 0.1,
        "methods": {"vanilla": spread(0.5), "shortcut": spread(0.75)},
        "differences": {"shortcut - vanilla": difference},
    }
    return {"settings": {"dataset": "digits"}, "rows": [row]}


def test_the_tables_means_are_drawn(script, table, tmp_path):
    (tmp_path / "table.json").write_text(json.dumps(table))
    figure = script("ablation")
    data = figure.compute(str(tmp_path / "table.json"))
    left, right = figure.draw(data).axes
    assert [c.lines[0].get_xdata()[0] for c in left.containers] == [50, 75]
    assert [c.lines[0].get_xdata()[0] for c in right.containers] == [25]


def test_the_recorded_claim_is_drawn(script):
    figure = script("ablation")
    data = figure.compute()
    left, _ = figure.draw(data).axes
    means = {c.get_label(): c.lines[0].get_xdata() for c in left.containers}
    for method, values in means.items():
        want = [100 * row["methods"][method]["mean"] for row in data["table"]["rows"]]
        assert list(values) == pytest.approx(want)


def without(table, *way):
    """Return a copy of the table without the last key of the path."""
    copy = json.loads(json.dumps(table))
    inner = copy
    for key in way[:-1]:
        inner = inner[key]
    del inner[way[-1]]
    return copy


def with_mean(table, value, kind="mean"):
    copy = json.loads(json.dumps(table))
    copy["rows"][0]["methods"]["vanilla"][kind] = value
    return copy


def with_low(table, value):
    copy = json.loads(json.dumps(table))
    copy["rows"][0]["differences"]["shortcut - vanilla"]["low"] = value
    return copy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: "no", "not valid JSON"),
        (lambda table: "[" * 10_000, "got values nested more than 64 deep"),
        (lambda table: without(table, "rows"), "rows is missing"),
        (lambda table: table | {"rows": []}, "rows: got none"),
        (
            lambda table: without(table, "rows", 0, "methods", "vanilla", "mean"),
            r"rows\[0\]\.methods\.vanilla.mean is missing",
        ),
        (lambda table: with_mean(table, "high"), r"vanilla\.mean: got 'high', want a number or"),
        (lambda table: with_mean(table, 10**400), r"got an integer of more than 60 digits"),
        (lambda table: with_mean(table, float("nan")), r"got nan, want a number"),
        (lambda table: with_mean(table, -0.1, "std"), r"std: got -0\.1, want at least 0"),
        (
            lambda table: with_low(table, 3),
            r"rows\[0\]\.differences\.shortcut - vanilla: got an interval from 3 to .* around",
        ),
    ],
)
def test_an_invalid_table_is_named(script, tmp_path, change, message):
    path, figure = tmp_path / "table.json", script("ablation")
    changed = change(figure.compute()["table"])
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(ValueError, match=rf"table\.json: .*{message}"):
        figure.compute(str(path))


def test_a_table_without_rows_is_not_drawn(script):
    with pytest.raises(ValueError, match=r"^rows: got none, want at least one$"):
        script("ablation").draw({"table": {"settings": {}, "rows": []}})
