"""The guides of training and of the data sets name what there is."""

from dataclasses import fields

from guides import guide

from refsnn.data import load
from refsnn.data.load import DATASETS
from refsnn.network import ARCHITECTURES
from refsnn.ops import SURROGATES
from refsnn.training.config import PRESETS, make_config

TRAINING = guide("refsnn/training/README.md")
DATA = guide("refsnn/data/README.md")


def test_every_architecture_is_named():
    for name in ARCHITECTURES:
        assert f"`{name.removesuffix('-imagenet')}`" in TRAINING.prose


def test_defaults_are_those_of_the_table():
    rows = {row[0]: row for row in TRAINING.rows("`--.*") if len(row) == 3}
    config = make_config().to_dict()
    for options, row in rows.items():
        names = [name.strip("`- ").replace("-", "_") for name in options.split(",")]
        if names[0] in ("preset", "recipe", "config", "threads", "callback"):
            continue
        defaults = [value.strip("` ") for value in row[2].split(",")]
        for name, shown in zip(names, defaults, strict=True):
            value = config[name]
            assert shown == (f"{value:g}" if isinstance(value, float | int) else value), name
    for name in PRESETS:
        assert f"`{name}`" in rows["`--preset`"][1]


def test_every_surrogate_has_its_row_with_its_usual_number():
    rows = {row[0].strip("`"): row[2] for row in TRAINING.rows(r"`[a-z_]+`") if " = " in row[2]}
    assert list(rows) == list(SURROGATES)
    for name, number in rows.items():
        field = fields(SURROGATES[name])[0].name
        assert number == f"{field} = {getattr(SURROGATES[name](), field):g}"


def test_the_digits_are_as_many_as_is_said():
    digits = load("digits")
    train, test = len(digits.train.labels), len(digits.test.labels)
    assert f"on {train:,} handwritten digits" in TRAINING.text
    assert f"on the {test} digits that are held out" in TRAINING.text
    assert f"| {train + test:,} [handwritten digits]" in DATA.text
    assert f"train on {train:,} real handwritten digits" in guide("README.md").text


def test_every_data_set_has_its_row():
    rows = DATA.rows("`.*")
    named = {name.strip("` ") for row in rows for name in row[0].split(",")}
    assert set(DATASETS) <= named


def test_every_file_of_a_run_has_its_row(tmp_path):
    names = {row[0].strip("`") for row in TRAINING.rows(r"`\w+\.\w+`")}
    assert names == {
        *("config.json", "metrics.jsonl", "summary.json"),
        *("checkpoint.npz", "best.npz", "curves.png"),
    }
