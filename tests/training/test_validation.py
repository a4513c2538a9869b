"""Images that are left out of training, the best epoch by them, early ends and longer runs."""

import json
import shutil
import sys
from types import ModuleType

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.files.writing import write_json
from refsnn.training import checkpoint
from refsnn.training import run as run_module
from refsnn.training.callbacks import load_callback, scalars
from refsnn.training.checkpoint import CheckpointError
from refsnn.training.config import make_config
from refsnn.training.evaluate import evaluate_run
from refsnn.training.folder import read_config, read_metrics
from refsnn.training.optimizer import cosine
from refsnn.training.run import resume, start
from refsnn.training.trainer import Interrupted, Trainer
from refsnn.training.validation import best_row, divide, is_out_of_patience

SMALL = {"arch": "1-1:4-8", "epochs": 4, "batch_size": 160, "ops": "numpy", "lr": 0.03}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def small(**settings):
    return make_config(**SMALL | settings)


def rows_without_times(folder):
    timing = {"seconds", "images_per_second", "images"}
    return [{k: v for k, v in row.items() if k not in timing} for row in read_metrics(folder)]


@pytest.fixture(scope="module")
def left_out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "left_out"
    run = start(folder, small(validation=0.2))
    run.train(quiet=True)
    run.summarize()
    return folder


def divided(counts, share, seed=0):
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(len(counts)), counts))
    return labels, divide(labels, small(validation=share, seed=seed))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.25, 0.5, 0.99])
def test_the_share_of_each_class_is_left_out(share):
    counts = [100, 37, 8, 1]
    labels, (training, validation) = divided(counts, share)
    assert np.array_equal(np.sort([*training, *validation]), np.arange(len(labels)))
    number = [(labels[validation] == label).sum() for label in range(len(counts))]
    assert number == [min(round(share * n), n - 1) for n in counts]


def test_without_a_share_nothing_is_left_out():
    _, (training, validation) = divided([5, 6], 0)
    assert training.tolist() == list(range(11))
    assert validation.size == 0


def test_the_seed_alone_chooses_the_images():
    chosen = [divided([50, 50], 0.2, seed)[1].validation.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_a_share_that_leaves_out_nothing_is_refused():
    with pytest.raises(ValueError, match=r"^validation: got 0\.01, .* none of the 20 training"):
        divided([10, 10], 0.01)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"validation": 1}, r"^validation: got 1, want a share in \[0, 1\)"),
        ({"validation": -0.1}, "^validation: got -0.1"),
        ({"patience": 3}, "^patience: got 3, but validation is 0, so no images are left out"),
        ({"patience": -1, "validation": 0.1}, "^patience: got -1"),
    ],
)
def test_bad_settings_are_refused(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        small(**settings)


def rows_of(*accuracies):
    return [{"epoch": e, "validation_accuracy": a} for e, a in enumerate(accuracies, 1)]


def test_the_first_of_equal_epochs_is_the_best():
    rows = rows_of(0.2, 0.5, 0.4, 0.5)
    assert best_row(rows) is rows[1]
    assert best_row([]) is None
    assert best_row([{"epoch": 1}]) is None


@pytest.mark.parametrize("patience", range(5))
def test_patience_ends_that_many_epochs_after_the_best(patience):
    rows = rows_of(0.2, 0.5, 0.4, 0.5, 0.3)
    ended = [is_out_of_patience(rows[:n], patience) for n in range(6)]
    assert ended == [patience > 0 and n - 2 >= patience for n in range(6)]


def test_images_left_out_are_tested_and_not_trained_on(left_out):
    config, data = small(validation=0.2), load_digits()
    training, validation = divide(data.train.labels, config)
    state, _ = checkpoint.load(left_out / "checkpoint.npz")
    assert np.array_equal(np.sort(state.order), training)
    split = data.train
    images, labels = split.take(validation, None), split.labels[validation]
    model = refsnn.load(left_out)
    assert read_metrics(left_out)[-1]["validation_accuracy"] == model.score(images, labels)


def test_the_best_checkpoint_is_that_of_the_best_epoch(left_out, tmp_path):
    rows = read_metrics(left_out)
    best = best_row(rows)
    state, _ = checkpoint.load(left_out / "best.npz")
    assert state.iteration == best["iteration"]
    summary = json.loads((left_out / "summary.json").read_text())
    assert summary["best_epoch"] == best["epoch"]
    assert summary["best_validation_accuracy"] == best["validation_accuracy"]
    figures, _ = evaluate_run(left_out, best=True)
    assert figures["test_accuracy"] == summary["best_test_accuracy"] == best["test_accuracy"]
    assert figures["iteration"] == best["iteration"]
    test = load_digits().test
    by_model = refsnn.load(left_out, best=True).score(test.images, test.labels)
    assert by_model == best["test_accuracy"]
    assert main(["export", str(left_out), str(tmp_path / "best.npz"), "--best"]) == 0
    assert refsnn.load(tmp_path / "best.npz").score(test.images, test.labels) == by_model


def test_a_run_without_images_left_out_has_no_best(tmp_path, refused):
    start(tmp_path / "run", small(epochs=1)).train(quiet=True)
    assert not (tmp_path / "run" / "best.npz").exists()
    for command in (["evaluate"], ["export"]):
        file = [tmp_path / "file.npz"] if command == ["export"] else []
        assert "best.npz" in refused([*command, tmp_path / "run", *file, "--best"])
    with pytest.raises(ValueError, match=r"^best: .*file"):
        refsnn.load(__file__, best=True)


def test_an_interrupted_run_finds_the_same_best_epoch(left_out, tmp_path):
    folder, looks = tmp_path / "run", []

    def stop():
        looks.append(1)
        return len(looks) % 11 == 0  # within epochs, and at the end of some

    run = start(folder, small(validation=0.2))
    while True:
        try:
            run.train(stop, quiet=True)
            break
        except Interrupted:
            run = resume(folder)
    assert rows_without_times(folder) == rows_without_times(left_out)
    for name in ("best.npz", "checkpoint.npz"):
        assert (folder / name).read_bytes() == (left_out / name).read_bytes()


def without_progress(monkeypatch):
    """Let each epoch after the second have the same validation accuracy as the second."""
    original, shown = Trainer.figures, []

    def figures(self, loader, row):
        row = original(self, loader, row)
        shown.append(row["epoch"])
        return row | {"validation_accuracy": 0.1 if row["epoch"] == 1 else 0.5}

    monkeypatch.setattr(Trainer, "figures", figures)
    return shown


def test_training_ends_where_patience_does(tmp_path, monkeypatch, refused):
    shown = without_progress(monkeypatch)
    folder = tmp_path / "run"
    run = start(folder, small(validation=0.2, patience=3, epochs=9))
    run.train(quiet=True)
    assert shown == [1, 2, 3, 4, 5]
    summary = run.summarize()
    assert (summary["epochs"], summary["best_epoch"]) == (5, 2)
    assert summary["stopped_early"]
    resume(folder).train(quiet=True)
    assert shown == [1, 2, 3, 4, 5]
    before = (folder / "config.json").read_bytes()
    assert "the best epoch is 3 epochs ago (patience), so the run ended in epoch 5" in refused(
        ["train", "--resume", folder, "--epochs=20"]
    )
    assert (folder / "config.json").read_bytes() == before
    assert (folder / "summary.json").exists()


def test_fit_leaves_out_a_share_and_has_patience(monkeypatch):
    without_progress(monkeypatch)
    data = load_digits()
    model = refsnn.fit(
        data.train.images,
        data.train.labels,
        validation=0.25,
        patience=1,
        progress=False,
        **SMALL,
    )
    assert [row["epoch"] for row in model.history] == [1, 2, 3]
    assert all("validation_loss" in row and "test_loss" not in row for row in model.history)


def test_a_run_goes_on_for_more_epochs(tmp_path, capsys):
    """Learning rate and weight go on as in a run of so many epochs; the rest is as it was."""
    folder = tmp_path / "run"
    assert main(["train", "--out", str(folder), *OPTIONS, "--epochs=2"]) == 0
    before = rows_without_times(folder)
    assert main(["train", "--resume", str(folder), "--epochs=5"]) == 0
    rows, config = read_metrics(folder), read_config(folder)
    assert rows_without_times(folder)[:2] == before
    assert [row["epochs"] for row in rows] == [2, 2, 5, 5, 5]
    assert config.epochs == 5
    batches = rows[0]["iteration"]
    for row in rows:
        total = row["epochs"] * batches
        assert row["lr"] == cosine(0.03, row["iteration"], total)
        assert row["lambda"] == pytest.approx(0.25 * (1 - row["iteration"] / total))
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["epochs"], summary["longer_after"]) == (5, [2])
    assert resume(folder).state.iteration == 5 * batches


def test_a_run_that_was_stopped_goes_on_longer_too(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(Interrupted):
        start(folder, small(epochs=2)).train(lambda: True, quiet=True)
    run = resume(folder, {"epochs": 3})
    run.train(quiet=True)
    assert [row["epochs"] for row in read_metrics(folder)] == [3, 3, 3]


def test_a_crash_between_settings_and_checkpoint_loses_nothing(tmp_path):
    folder = tmp_path / "run"
    start(folder, small(epochs=1)).train(quiet=True)
    write_json(folder / "config.json", small(epochs=2).to_dict())
    resume(folder).train(quiet=True)
    assert len(read_metrics(folder)) == 2


def test_a_checkpoint_of_more_epochs_than_the_settings_is_of_another_run(tmp_path):
    folder = tmp_path / "run"
    start(folder, small(epochs=2)).train(quiet=True)
    write_json(folder / "config.json", small(epochs=1).to_dict())
    with pytest.raises(CheckpointError, match=r"made with epochs 2, config\.json says 1"):
        resume(folder)


def test_fewer_epochs_are_refused_and_as_many_change_nothing(tmp_path, refused):
    folder = tmp_path / "run"
    run = start(folder, small(epochs=2))
    run.train(quiet=True)
    run.summarize()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "epochs: got 1, but the run to resume has 2" in refused(
        ["train", "--resume", folder, "--epochs=1"]
    )
    resume(folder, {"epochs": 2})
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_another_setting_beside_more_epochs_changes_nothing(tmp_path, refused):
    folder = tmp_path / "run"
    run = start(folder, small(epochs=1))
    run.train(quiet=True)
    run.summarize()
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    line = refused(["train", "--resume", folder, "--epochs=3", "--lr=0.5"])
    assert "lr: got 0.5, but the run to resume has 0.03" in line
    assert files == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_crash_before_the_longer_run_begins_leaves_it_unfinished(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    run = start(folder, small(epochs=1))
    run.train(quiet=True)
    run.summarize()

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        resume(folder, {"epochs": 3})
    monkeypatch.undo()
    assert not (folder / "summary.json").exists()
    resume(folder, {"epochs": 3}).train(quiet=True)
    assert len(read_metrics(folder)) == 3


def test_rows_of_older_versions_do_not_say_that_a_run_became_longer():
    old, new = {"epoch": 1}, {"epoch": 2, "epochs": 20}
    assert run_module.longer_after([old, new, {"epoch": 3, "epochs": 30}]) == [2]
    assert run_module.longer_after([old, new]) == []


def test_a_best_checkpoint_of_another_epoch_is_not_passed_off(left_out, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(left_out, folder)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    best = best_row(rows)
    for row in rows:
        row["validation_accuracy"] = 0.0 if row["epoch"] == best["epoch"] else 0.1
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(CheckpointError, match=r"best\.npz: is of iteration"):
        resume(folder).summarize()


def test_a_callback_that_changes_its_row_changes_nothing_else(tmp_path, monkeypatch):
    shown = without_progress(monkeypatch)

    def greedy(row):
        row["firing_rate"].clear()
        row.clear()

    run = start(tmp_path / "run", small(validation=0.2, patience=1, epochs=9))
    run.train(quiet=True, callbacks=[greedy])
    assert shown == [1, 2, 3]
    assert all(row["firing_rate"] for row in run.rows)


def test_a_signal_in_the_last_epoch_of_patience_is_too_late(tmp_path, monkeypatch):
    shown = without_progress(monkeypatch)
    run = start(tmp_path / "run", small(validation=0.2, patience=1, epochs=9))
    run.train(lambda: len(shown) == 3, quiet=True)
    assert shown == [1, 2, 3]


def test_settings_of_older_versions_have_no_images_left_out(left_out, tmp_path):
    folder = tmp_path / "run"
    start(folder, small(epochs=1)).train(quiet=True)
    config = json.loads((folder / "config.json").read_text())
    for name in ("validation", "patience"):
        del config[name]
    write_json(folder / "config.json", config)
    state, _ = checkpoint.load(folder / "checkpoint.npz")
    checkpoint.save(folder / "checkpoint.npz", state, config)
    assert resume(folder).division.validation.size == 0


def test_callbacks_get_each_epoch_after_it_is_saved(tmp_path, monkeypatch):
    folder, seen = tmp_path / "run", []
    module = ModuleType("mine")

    def see(row):
        assert read_metrics(folder)[-1] == row
        seen.append(row["epoch"])

    module.see = see
    monkeypatch.setitem(sys.modules, "mine", module)
    given = ["--callback=mine:see", "--callback=mine:see", "--epochs=2"]
    assert main(["train", "--out", str(folder), *OPTIONS, *given]) == 0
    assert seen == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nothing:here", "callback: can't load 'nothing:here'"),
        ("sys:path", "callback: got"),
        ("see", "callback: got 'see', want module:object"),
    ],
)
def test_a_callback_that_cannot_be_called_is_refused(reference, words, tmp_path, refused):
    folder = tmp_path / "run"
    assert words in refused(["train", "--out", folder, *OPTIONS, f"--callback={reference}"])
    assert not folder.exists()
    with pytest.raises((ValueError, TypeError)):
        load_callback(reference)


def test_numbers_of_a_group_have_its_name():
    row = {"epoch": 3, "firing_rate": {"stem.lif0": 0.25}}
    assert dict(scalars(row)) == {"epoch": 3, "firing_rate.stem.lif0": 0.25}


def test_figures_are_written_for_tensorboard(tmp_path, monkeypatch):
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            self.folder = folder

        def add_scalar(self, name, value, epoch):
            written.append((self.folder, name, value, epoch))

        def flush(self):
            written.append("flushed")

    module = ModuleType("tensorboardX")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    folder = tmp_path / "run"
    assert main(["train", "--out", str(folder), *OPTIONS, "--epochs=1", "--tensorboard"]) == 0
    (row,) = read_metrics(folder)
    place = str(folder / "tensorboard")
    assert (place, "test_accuracy", row["test_accuracy"], 1) in written
    rate = row["firing_rate"]["stem.lif0"]
    assert (place, "firing_rate/stem.lif0", rate, 1) in written
    assert written[-1] == "flushed"


def test_without_a_writer_for_tensorboard_nothing_begins(tmp_path, monkeypatch, refused):
    for name in ("tensorboardX", "torch.utils.tensorboard"):
        monkeypatch.setitem(sys.modules, name, None)
    folder = tmp_path / "run"
    line = refused(["train", "--out", folder, *OPTIONS, "--tensorboard"])
    assert "pip install 'refsnn[tensorboard]'" in line
    assert not folder.exists()


def test_a_best_checkpoint_is_a_file_of_a_run(left_out, tmp_path, refused):
    folder = tmp_path / "new"
    folder.mkdir()
    shutil.copy(left_out / "best.npz", folder / "best.npz")
    assert "holds a best.npz already" in refused(["train", "--out", folder, *OPTIONS])
    with pytest.raises(ValueError, match="is the checkpoint of a run, want the run's folder"):
        refsnn.load(folder / "best.npz")


def test_a_class_of_one_image_is_trained_on():
    images = np.random.default_rng(0).normal(size=(9, 4, 4, 1))
    labels = np.array([0] * 8 + [1])
    model = refsnn.fit(
        images, labels, validation=0.5, epochs=1, arch="1:4", ops="numpy", progress=False
    )
    assert len(model.history) == 1
