"""Learning from a teacher: runs and files, resuming, what is left out afterwards, bad input."""

import json

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.network import ALIGN
from refsnn.training import checkpoint
from refsnn.training.config import make_config
from refsnn.training.teacher import load_teacher

SMALL = ["--arch", "1-1:3-4", "--epochs", "1"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a trained run, of another architecture and T."""
    folder = tmp_path_factory.mktemp("teacher") / "run"
    options = ["--arch", "1-1:4-6", "--steps", "3", "--epochs", "1"]
    assert main(["train", *options, "--out", str(folder)]) == 0
    return folder


def train(folder, *options):
    return main(["train", *SMALL, *map(str, options), "--out", str(folder)])


def params_of(folder):
    return checkpoint.load(folder / "checkpoint.npz")[0].params


def test_a_run_answers_as_its_network_does(teacher):
    digits = load_digits()
    config = make_config(teacher=str(teacher))
    images, _ = digits.batch(digits.train, np.arange(9), "float32")
    got = load_teacher(config, digits).answers(images, np.arange(9))
    model = refsnn.load(teacher)
    np.testing.assert_allclose(got, model.predict_logits(digits.train.images[:9]), rtol=1e-5)
    features = make_config(arch="1-1:3-4", teacher=str(teacher), teacher_loss="features")
    rates = load_teacher(features, digits).answers(images, np.arange(9))
    spikes = model.spikes(digits.train.images[:9])["stage2.block0.lif2"].spikes
    np.testing.assert_allclose(rates, spikes.mean(axis=0), atol=1e-6)


def test_images_in_other_units_are_the_same_to_the_teacher(teacher):
    """The network sees standardised images; the teacher's mean and deviation may be others."""
    digits = load_digits()
    other = digits.__class__(**vars(digits) | {"mean": digits.mean + 1.0, "std": digits.std * 2.0})
    config = make_config(teacher=str(teacher))
    answers = []
    for data in (digits, other):
        images, _ = data.batch(data.train, np.arange(9), "float32")
        answers.append(load_teacher(config, data).answers(images, np.arange(9)))
    np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-4)


def test_a_run_with_a_teacher_learns_something_else_and_can_be_used(teacher, tmp_path, capsys):
    assert train(tmp_path / "alone") == 0
    assert train(tmp_path / "taught", "--teacher", teacher, "--recipe", "kdsnn") == 0
    alone, taught = (params_of(tmp_path / name) for name in ("alone", "taught"))
    assert alone.keys() == taught.keys()
    assert any(np.any(x != taught[name]) for name, x in alone.items())
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "taught")]) == 0
    assert "test loss" in capsys.readouterr().out


def test_features_need_a_convolution_that_is_left_out_afterwards(teacher, tmp_path, capsys):
    folder = tmp_path / "taught"
    assert train(folder, "--teacher", teacher, "--teacher-loss", "features") == 0
    assert params_of(folder)[ALIGN].shape == (1, 1, 4, 6)
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    removed = sum(x.size for n, x in params_of(folder).items() if n.startswith(("branch.", "al")))
    assert found["parameters_removed"] == removed
    assert main(["export", str(folder), str(tmp_path / "net.npz")]) == 0
    digits = load_digits()
    score = refsnn.load(tmp_path / "net.npz").score(digits.test.images, digits.test.labels)
    assert score == refsnn.load(folder).score(digits.test.images, digits.test.labels)
    assert main(["gradients", str(folder)]) == 2
    assert "teacher_loss: got features, want logits" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["logits", "features"])
@pytest.mark.slow_after(1)
def test_a_file_answers_by_index(kind, teacher, tmp_path):
    """A file with a run's answers teaches the same as the run, but for rounding."""
    digits = load_digits()
    images, _ = digits.batch(digits.train, np.arange(len(digits.train.labels)), "float32")
    config = make_config(arch="1-1:3-4", teacher=str(teacher), teacher_loss=kind)
    run = load_teacher(config, digits)
    parts = np.split(images, range(32, len(images), 32))
    array = np.concatenate([run.answers(part, np.arange(len(part))) for part in parts])
    np.savez(tmp_path / f"{kind}.npz", **{kind: array})
    options = ["--teacher-loss", kind, "--augment", "none"]
    assert train(tmp_path / f"{kind} run", "--teacher", teacher, *options) == 0
    file = tmp_path / f"{kind}.npz"
    assert train(tmp_path / f"{kind} file", "--teacher", file, *options) == 0
    of_run, of_file = (params_of(tmp_path / f"{kind} {which}") for which in ("run", "file"))
    for name, x in of_run.items():
        np.testing.assert_allclose(x, of_file[name], rtol=1e-3, atol=1e-4, err_msg=name)


def test_a_run_goes_on_with_the_teacher_it_began_with(teacher, tmp_path, capsys):
    parts = tmp_path / "parts"
    np.savez(tmp_path / "t.npz", logits=np.random.default_rng(0).normal(size=(1442, 10)))
    given = ["--teacher", tmp_path / "t.npz", "--augment", "none", "--method", "vanilla"]
    assert train(parts, *given) == 0
    assert main(["train", "--resume", str(parts), "--epochs", "2"]) == 0
    np.savez(tmp_path / "t.npz", logits=np.random.default_rng(1).normal(size=(1442, 10)))
    capsys.readouterr()
    assert main(["train", "--resume", str(parts), "--epochs", "3"]) == 2
    message = "is not the data or its teacher not the one that it began with"
    assert message in capsys.readouterr().err


def test_fit_takes_a_teacher(teacher):
    digits = load_digits()
    model = refsnn.fit(dataset="digits", arch="1:4", epochs=1, teacher=str(teacher), progress=False)
    with pytest.raises(ValueError, match="gradients: the loss has a teacher"):
        model.gradients(digits.test.images[:2], digits.test.labels[:2])


BAD = {
    "--recipe kdsnn": "teacher: missing, but teacher_weight is 0.7; want the folder of a run, or",
    "--teacher nowhere": "teacher: nowhere: no such file or folder",
    "--teacher RUN --loss tet": "loss: got 'tet', but with a teacher it is cross_entropy",
    "--teacher RUN --teacher-weight 1.5": "teacher_weight: got 1.5, want a weight in [0, 1]",
    "--teacher RUN --teacher-loss features --teacher-temperature 2": (
        "teacher_temperature: got 2.0, but teacher_loss is features"
    ),
    "--teacher-temperature 2": "teacher: missing, but teacher_temperature is 2.0; want the folder",
    "--teacher FILE --cutout 2": "has answers to the images as they are, but augmentation changes",
    "--teacher FILE --augment none": "logits: got float64 (9, 10), want floats (1442, K)",
    "--teacher FEW --augment none": "few.npz knows 3 classes, but digits has 10",
    "--teacher NAN --augment none": "logits: got NaN or infinity, want finite numbers",
    "--teacher LARGE --augment none": "logits: got 1e+39, want numbers that float32 holds",
    "--teacher FEW --augment none --teacher-loss features": "features: got none, want floats",
    "--teacher RUN --teacher-loss features --arch 1:4": (
        "has features of 4x4 pixels, but the last block has 8x8"
    ),
    "--teacher RUN --dataset OTHER": "does not take these images: x_seq: got 3 channels, want 1",
}


@pytest.mark.parametrize("options", BAD)
def test_what_does_not_fit_is_told_in_a_line_and_nothing_written(
    options, teacher, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("nine.npz", logits=np.zeros((9, 10)))
    np.savez("few.npz", logits=np.zeros((1442, 3)))
    np.savez("nan.npz", logits=np.full((1442, 10), np.nan))
    np.savez("large.npz", logits=np.full((1442, 10), -1e39))
    images, labels = rng.integers(0, 255, (20, 8, 8, 3), np.uint8), np.arange(20) % 10
    arrays = {"train_images": images, "train_labels": labels}
    np.savez("other.npz", **arrays, test_images=images, test_labels=labels)
    words = {
        "RUN": str(teacher),
        "FILE": "nine.npz",
        "FEW": "few.npz",
        "NAN": "nan.npz",
        "LARGE": "large.npz",
        "OTHER": "other.npz",
    }
    given = [words.get(word, word) for word in options.split()]
    assert train("run", *given) == 2
    line = capsys.readouterr().err
    assert BAD[options] in line
    assert line.count("\n") == 1
    assert not (tmp_path / "run").exists()
