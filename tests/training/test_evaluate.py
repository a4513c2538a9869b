"""Figures of a trained network: by class, by time step, on other images; its predictions."""

import csv
import json

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.training import evaluate
from refsnn.training.evaluate_command import classes_table, predictions_csv
from refsnn.training.evaluate_plot import draw_evaluation

SMALL = ["--arch=1-1:4-8", "--epochs=3", "--batch-size=160", "--ops=numpy", "--steps=3"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--out", str(folder), *SMALL]) == 0
    return folder


@pytest.fixture(scope="module")
def evaluated(run_folder):
    return evaluate.evaluate_run(run_folder)


def test_the_last_step_has_the_accuracy_of_training(run_folder, evaluated):
    result, outputs = evaluated
    summary = json.loads((run_folder / "summary.json").read_text())
    assert result["test_accuracy"] == summary["test_accuracy"] == result["accuracy_by_step"][-1]
    assert result["test_loss"] == summary["test_loss"] == outputs.loss
    assert len(result["accuracy_by_step"]) == 3


def test_fewer_steps_give_what_a_network_of_fewer_steps_gives(run_folder, evaluated):
    """Potentials start at 0 and depend on the past alone, so the first steps are the same."""
    model = refsnn.load(run_folder)
    images = load_digits().test.images
    by_step = model.predict_by_step(images)
    assert np.array_equal(by_step, evaluated[1].predictions)
    assert np.array_equal(by_step[-1], model.predict(images))
    for steps in (1, 2):
        shorter = refsnn.Model(
            **{**vars(model), "config": model.config.changed(steps=steps), "history": []}
        )
        assert np.array_equal(shorter.predict(images), by_step[steps - 1])
    assert not np.array_equal(by_step[0], by_step[1])


def test_the_matrix_counts_images_by_label_and_prediction(evaluated):
    result, outputs = evaluated
    matrix = np.array(result["confusion"])
    for label in range(10):
        for predicted in range(10):
            both = (outputs.labels == label) & (outputs.predictions[-1] == predicted)
            assert matrix[label, predicted] == both.sum()
    for row in result["classes"]:
        own = outputs.labels == row["class"]
        assert row["images"] == own.sum()
        right = outputs.predictions[-1][own] == row["class"]
        assert row["accuracy"] == pytest.approx(right.mean())


@pytest.mark.parametrize("logits", [False, True])
def test_predictions_are_a_line_for_each_image(logits, run_folder, evaluated, tmp_path):
    path = tmp_path / "out.csv"
    options = ["--predictions", str(path), *(["--logits"] if logits else [])]
    assert main(["evaluate", str(run_folder), *options]) == 0
    rows = list(csv.DictReader(path.open()))
    _, outputs = evaluated
    assert [int(row["index"]) for row in rows] == list(range(len(outputs.labels)))
    assert [int(row["label"]) for row in rows] == outputs.labels.tolist()
    assert [int(row["prediction"]) for row in rows] == outputs.predictions[-1].tolist()
    name = "logit" if logits else "probability"
    values = np.array([[np.float32(row[f"{name}_{k}"]) for k in range(10)] for row in rows])
    if logits:
        assert np.array_equal(values, outputs.logits)
    else:
        model, images = refsnn.load(run_folder), load_digits().test.images
        assert np.array_equal(values, model.predict_proba(images))
        assert abs(values.sum(axis=1) - 1).max() < 1e-6


def test_predictions_alone_are_printed(run_folder, evaluated, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run_folder), "--predictions", "-"]) == 0
    assert capsys.readouterr().out == predictions_csv(evaluated[1], False) + "\n"


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_picture_is_drawn(suffix, run_folder, tmp_path, evaluated):
    path = tmp_path / f"seen{suffix}"
    assert main(["evaluate", str(run_folder), "--picture", str(path)]) == 0
    start = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix]
    assert path.read_bytes().startswith(start)
    assert path.read_bytes() == draw_evaluation(evaluated[0], suffix[1:])


def test_a_table_of_many_classes_shows_the_worst():
    matrix = np.zeros((30, 30), int)
    matrix[np.arange(29), np.arange(29)] = 10  # of the last class there is no image
    matrix[7, [7, 3, 4, 5, 6]] = 1, 2, 5, 2, 1
    matrix[9, [9, 1]] = 8, 2
    labels, predictions = (
        x.repeat(matrix.reshape(-1)) for x in np.indices((30, 30)).reshape(2, -1)
    )
    outputs = evaluate.Outputs(labels, np.zeros((len(labels), 30)), predictions[None], 0.5)
    result = evaluate.figures(outputs)
    assert result["classes"][29] == {"class": 29, "images": 0, "accuracy": None}
    lines = classes_table(result).splitlines()
    assert lines[0].startswith("the 10 of 30 classes with the lowest accuracy")
    assert lines[2].split(maxsplit=3) == ["7", "11", "0.0909", "4 (5), 3 (2), 5 (2)"]
    assert lines[3].split(maxsplit=3) == ["9", "10", "0.8000", "1 (2)"]
    assert len(lines) == 12


def test_other_images_are_standardised_as_those_of_the_training(run_folder, evaluated, tmp_path):
    split = load_digits().test
    some = np.flatnonzero(split.labels != 3)[:50]  # one class is missing
    path = tmp_path / "mine.npz"
    np.savez(path, images=split.images[some][..., 0], labels=split.labels[some][:, None])
    result, outputs = evaluate.evaluate_run(run_folder, data=str(path))
    assert np.array_equal(outputs.predictions, evaluated[1].predictions[:, some])
    assert result["dataset"] == "mine"
    assert result["classes"][3]["accuracy"] is None
    result, outputs = evaluate.evaluate_run(run_folder, data="digits")
    assert np.array_equal(outputs.predictions, evaluated[1].predictions)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"images": np.zeros((2, 8, 8))}, "labels is missing, want images and labels, or train"),
        ({"pixels": np.zeros((2, 8, 8))}, "images is missing"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0, 10]}, "got 10 at index 1, want 0 to 9"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0]}, "labels: got shape (1,), want (2,)"),
        ({"images": np.zeros((2, 8, 8)), "labels": [0.5, 1]}, "labels: got dtype float64"),
        ({"images": np.zeros((2, 8, 8, 3)), "labels": [0, 1]}, "images of 3 channels, want 1"),
        ({"images": np.zeros((2, 1, 8, 8)), "labels": [0, 1]}, "looks channels-first"),
        ({"images": np.zeros((2, 4, 8, 8, 1)), "labels": [0, 1]}, "4 frames, want 3"),
        ({"images": np.full((2, 8, 8), np.nan), "labels": [0, 1]}, "image 0 holds NaN"),
        ({"images": np.zeros((0, 8, 8)), "labels": np.zeros(0, int)}, "want at least one image"),
    ],
)
def test_images_that_do_not_fit_are_refused(arrays, words, run_folder, tmp_path, refused):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    line = refused(["evaluate", str(run_folder), "--data", str(path)])
    assert words in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--logits"], "logits: got it without --predictions"),
        (["--predictions=-", "--json"], "predictions: got - beside --json"),
        (["--picture=seen.bmp"], "--picture: got seen.bmp, want a name ending in .png, .svg, .pdf"),
        (["--picture=nowhere/seen.png"], "nowhere/seen.png"),
        (["--predictions=nowhere/a.csv"], "nowhere/a.csv"),
        (["--data=nothing.npz"], "data: nothing.npz does not exist"),
        (["--data=cats"], "'cats', want one of"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    options, words, run_folder, tmp_path, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert words in refused(["evaluate", str(run_folder), *options])
    assert not list(tmp_path.iterdir())


def test_what_was_there_stays_until_the_evaluation_is_done(run_folder, tmp_path, refused):
    path = tmp_path / "out.csv"
    path.write_text("kept")
    refused(["evaluate", str(run_folder), "--predictions", str(path), "--data=cats"])
    assert path.read_text() == "kept"
