"""The plot of an ablation's table; what it draws is tested with refsnn.experiments.table."""

import json

import pytest


def spread(mean):
    return {
        "n": 2, "mean": mean, "std": 0.1, "accuracy": {"0": mean - 0.1, "1": mean + 0.1},
        "diverged": [], "missing": [],
    }  # fmt: skip


@pytest.fixture
def table():
    difference = {"n": 2, "mean": 0.25, "low": 0.1, "high": 0.4}
    row = {
        "arch": "1:4", "depth": 4, "steps": 2, "settings": {}, "chance": 0.1,
        "methods": {"vanilla": spread(0.5), "shortcut": spread(0.75)},
        "differences": {"shortcut - vanilla": difference},
    }  # fmt: skip
    return {"settings": {"dataset": "digits"}, "rows": [row]}


def test_the_tables_means_are_drawn(script, table, tmp_path):
    (tmp_path / "table.json").write_text(json.dumps(table))
    figure = script("ablation")
    data = figure.compute(str(tmp_path / "table.json"))
    above, below = figure.draw(data).axes
    heights = [c.lines[0].get_ydata()[0] for c in above.containers]
    assert heights == [50, 75]
    assert [c.lines[0].get_ydata()[0] for c in below.containers] == [25]


def test_the_recorded_claim_is_drawn(script):
    figure = script("ablation")
    data = figure.compute()
    above, _ = figure.draw(data).axes
    means = {c.get_label(): c.lines[0].get_ydata() for c in above.containers}
    for method, values in means.items():
        want = [100 * row["methods"][method]["mean"] for row in data["table"]["rows"]]
        assert list(values) == pytest.approx(want)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t["rows"][0].pop("depth"), r"rows\[0\]: got an object .*, want depth in it"),
        (lambda t: t["rows"][0]["methods"]["vanilla"].update(mean=10**400), "methods.vanilla.mean"),
        (lambda t: t["rows"][0].update(chance="a tenth"), r"rows\[0\]\.chance: got 'a tenth'"),
        (lambda t: t.update(rows={}), "rows: got an object of 0, want an array"),
    ],
)
def test_a_table_that_is_none_is_named(change, said, script, table, tmp_path):
    path = tmp_path / "table.json"
    change(table)
    path.write_text(json.dumps(table))
    with pytest.raises(ValueError, match=said) as error:
        script("ablation").compute(str(path))
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", ["no", "[" * 10**5])
def test_a_file_that_is_no_json_is_named(content, script, tmp_path):
    (tmp_path / "table.json").write_text(content)
    with pytest.raises(ValueError, match=r"table\.json: (not valid JSON|got values nested more)"):
        script("ablation").compute(str(tmp_path / "table.json"))
