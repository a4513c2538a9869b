"""The command line as a user meets it."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from refsnn import process, spec
from refsnn.cli import main
from refsnn.training.config import PRESETS, make_config, settings_fields

SMALL = ["--arch=1-1:4-8", "--epochs=2", "--batch-size=160", "--ops=numpy"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", "--out", str(folder), *SMALL]) == 0
    return folder


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_train_leaves_a_run_folder_and_says_what_it_reached(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *SMALL]) == 0
    shown = capsys.readouterr()
    folder = tmp_path / "runs" / "digits-1-1_4-8-evolutionary-seed0"
    assert {path.name for path in folder.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "summary.json",
        "checkpoint.npz",
        "curves.png",
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert f"test accuracy {summary['test_accuracy']:.4f}" in shown.out
    for part in ("loss=", "acc=", "λ=", "img/s"):
        assert part in shown.err
    assert "preparing" not in shown.err  # by NumPy nothing is
    assert main(["train", *SMALL]) == 0  # a second run gets a folder of its own
    assert folder.with_name(folder.name + "-2").exists()


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_large_arrays_are_given_back_where_memory_is_low(memory, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(process, "keep_freed_memory", lambda large: seen.append(large))
    assert main(["train", "--out", str(tmp_path / "run"), *SMALL, f"--memory={memory}"]) == 0
    assert seen == [memory == "normal"]


@pytest.mark.parametrize(
    "text",
    [
        'arch = "1-1:4-8"\nepochs = 1\nbatch_size = 160\nops = "numpy"\ntau = 0.25\n',
        'epochs = 1\nbatch_size = 160\nops = "numpy"\n[network]\narch = "1-1:4-8"\n'
        "[neuron]\ntau = 0.25\n",
    ],
)
def test_settings_come_from_a_file(text, tmp_path):
    path, folder = tmp_path / "mine.toml", tmp_path / "run"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--out", str(folder), "--seed=3"]) == 0
    config = json.loads((folder / "config.json").read_text())
    wanted = make_config(arch="1-1:4-8", epochs=1, batch_size=160, ops="numpy", tau=0.25, seed=3)
    assert config == json.loads(json.dumps(wanted.to_dict()))
    again = ["train", "--config", str(folder / "config.json"), "--out", str(tmp_path / "again")]
    assert main(again) == 0
    other = tmp_path / "again"
    assert (other / "config.json").read_bytes() == (folder / "config.json").read_bytes()
    assert (other / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.toml", "tua = 0.5", "a.toml: setting: got 'tua', did you mean tau"),
        ("a.toml", "tau = 2.0", "a.toml: tau: got 2.0"),
        ("a.toml", "tau = 0.5\n[neuron]\ntau = 0.5", "a.toml: tau: got it twice"),
        ("a.toml", "[nerve]\ntau = 0.5", "a.toml: setting: got 'nerve'"),
        ("a.toml", "tau = ", "a.toml: not valid TOML"),
        ("a.json", "[1]", "a.json"),
        ("a.yaml", "tau: 0.5", "a.yaml, want a file ending in .toml or .json"),
        ("a.json", None, "a.json"),
    ],
)
def test_a_file_of_settings_that_does_not_fit(name, text, words, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if text is not None:
        (tmp_path / name).write_text(text)
    assert words in refused(["train", "--config", name])
    assert {path.name for path in tmp_path.iterdir()} <= {name}


def test_help_gives_every_setting_with_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for group, item in settings_fields():
        assert f"settings: {group}:" in shown
        assert f"--{item.name.replace('_', '-')}" in shown
        assert item.default in (None, "") or f"(default: {item.default})" in shown
        clauses = ", ".join(spec.clauses_of(item.name))
        assert f"({clauses})" in shown or not clauses
    for unit in ("in pixels", "in time steps", "in units of the membrane potential"):
        assert unit in shown


def test_evaluate_takes_the_side_branches_off(run_folder, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run_folder), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    summary = json.loads((run_folder / "summary.json").read_text())
    assert result["test_accuracy"] == summary["test_accuracy"]
    assert result["test_loss"] == summary["test_loss"]
    assert result["parameters_removed"] == 4 * 10 + 10
    assert result["parameters"] + result["parameters_removed"] == summary["parameters"]
    assert main(["evaluate", str(run_folder)]) == 0
    assert f"test accuracy {summary['test_accuracy']:.4f}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method=magic"], "magic"),
        (["--arch=resnet99"], "resnet99"),
        (["--arch=2-0:4-8"], "depths"),
        (["--arch=2-2:4"], "widths"),
        (["--batch-size=-3"], "-3"),
        (["--batch-size=2.5"], "2.5"),
        (["--epochs=0"], "epochs"),
        (["--steps=0"], "steps"),
        (["--tau=0"], "tau"),
        (["--tau=1.5"], "1.5"),
        (["--tau=nan"], "nan"),
        (["--v-th=-1"], "v_th"),
        (["--lr=inf"], "inf"),
        (["--dtype=float16"], "float16"),
        (["--dataset=cats"], "cats"),
        (["--dataset=none.npz"], "none.npz does not exist"),
        (["--preset=mine"], "mine"),
        (["--surrogate=square"], "square"),
        (["--surrogate-edge"], "edge"),
        (["--seed=-1"], "seed"),
        (["--nonsense"], "nonsense"),
        (["--resume"], "which run"),
        (["--resume", "nowhere"], "nowhere"),
        (["--resume", "run", "--out", "other"], "out: got other"),
        (["--out", ""], "empty name"),
        (["--cutout=100"], "cutout: got 100, want at most 8"),
        (["--augment=mixup"], "mixup"),
        (["--workers=-1"], "got '-1', want a whole number"),
        (["--image-size=-1"], "image_size: got -1"),
    ],
)
def test_bad_settings_are_refused_in_a_line(arguments, words, tmp_path, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert words in refused(["train", *arguments])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path, refused):
    (tmp_path / "file").write_text("mine")
    assert "file" in refused(["train", "--out", tmp_path / "file" / "run", *SMALL])
    assert "file" in refused(["train", "--out", tmp_path / "file", *SMALL])
    assert (tmp_path / "file").read_text() == "mine"


def test_a_run_is_never_overwritten(run_folder, refused):
    before = snapshot(run_folder)
    assert "already" in refused(["train", "--out", run_folder, *SMALL])
    line = refused(["train", "--resume", run_folder, "--lr=0.5"])
    assert "lr" in line
    assert "0.5" in line
    assert snapshot(run_folder) == before


def test_a_run_to_resume_takes_no_config(run_folder, refused, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("tau = 0.5")
    line = refused(["train", "--resume", str(run_folder), "--config", str(path)])
    assert "config: got" in line
    assert "goes on with its own settings; leave --config out" in line


@pytest.mark.parametrize("preset", ["paper", "digits"])
def test_a_run_to_resume_takes_no_preset(preset, run_folder, refused):
    before = snapshot(run_folder)
    words = f"preset: got '{preset}', but {run_folder} goes on with its own settings; leave"
    assert words in refused(["train", "--resume", run_folder, "--preset", preset])
    assert snapshot(run_folder) == before


def test_a_preset_is_what_a_new_run_starts_from(tmp_path, capsys):
    options = [*SMALL, "--preset=authors_code", "--steps=1", "--batch-size=1000"]
    assert main(["train", "--out", str(tmp_path / "run"), *options]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (
        config
        == make_config(
            **PRESETS["authors_code"]
            | {"arch": "1-1:4-8", "epochs": 2, "ops": "numpy", "steps": 1, "batch_size": 1000}
        ).to_dict()
    )


@pytest.mark.parametrize("damage", ["truncated", "altered", "missing", "other"])
def test_a_bad_checkpoint_is_refused_and_left_alone(damage, run_folder, tmp_path, capsys, refused):
    folder = tmp_path / "run"
    if damage == "other":
        assert main(["train", "--out", str(folder), *SMALL[1:], "--arch=1-1:2-4"]) == 0
        capsys.readouterr()
    else:
        shutil.copytree(run_folder, folder)
    path, good = folder / "checkpoint.npz", (run_folder / "checkpoint.npz").read_bytes()
    bad = {
        "truncated": good[: len(good) // 2],
        "altered": good[:3000] + bytes([good[3000] ^ 1]) + good[3001:],
        "other": good,
    }
    if damage == "missing":
        path.unlink()
        assert "no checkpoint" in refused(["evaluate", folder])
        return
    path.write_bytes(bad[damage])
    before = snapshot(folder)
    words = {"truncated": "damaged", "altered": "can't be read (Bad CRC-32", "other": "1-1:4-8"}[
        damage
    ]
    assert words in refused(["evaluate", folder])
    assert words in refused(["train", "--resume", folder])
    assert snapshot(folder) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: a["train_images"].__setitem__((3, 1, 1), np.nan), "image 3 holds NaN"),
        (lambda a: a["test_labels"].__setitem__(2, 9), "got 9 at index 2, want 0 to 2"),
        (lambda a: a["train_labels"].__setitem__(0, -1), "-1"),
        (lambda a: a.pop("test_images"), "test_images"),
        (
            lambda a: a.update(
                {
                    f"{part}_images": np.zeros((n, 4, 3, 3, 2))
                    for part, n in (("train", 9), ("test", 3))
                }
            ),
            "steps: got 2, but the data set has sequences of 4 frames",
        ),
    ],
)
def test_bad_data_is_refused_in_a_line(change, words, tmp_path, refused):
    rng = np.random.default_rng(0)
    arrays = {
        "train_images": rng.normal(size=(9, 4, 4)),
        "train_labels": np.arange(9) % 3,
        "test_images": rng.normal(size=(3, 4, 4)),
        "test_labels": np.arange(3),
    }
    change(arrays)
    np.savez(tmp_path / "data.npz", **arrays)
    line = refused(["train", f"--dataset={tmp_path}/data.npz", "--out", tmp_path / "run"])
    assert words in line
    assert not (tmp_path / "run").exists()


def test_training_on_arrays_of_the_users_own(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = rng.normal(size=(40, 6, 5, 3)) + 3 * labels[:, None, None, None]
    np.savez(
        tmp_path / "data.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:10],
        test_labels=labels[:10],
    )
    options = [f"--dataset={tmp_path}/data.npz", "--arch=1:4", "--ops=numpy", "--epochs=30"]
    assert main(["train", "--out", str(tmp_path / "run"), *options]) == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"] > 0.8


def test_a_data_set_is_found_again_from_another_folder(tmp_path, monkeypatch, capsys):
    images, labels = np.random.default_rng(0).normal(size=(20, 4, 4)), np.arange(20) % 2
    np.savez(
        tmp_path / "data.npz",
        train_images=images,
        train_labels=labels,
        test_images=images,
        test_labels=labels,
    )
    monkeypatch.chdir(tmp_path)
    options = ["--dataset=data.npz", "--arch=1:4", "--ops=numpy", "--epochs=1"]
    assert main(["train", "--out", "run", *options]) == 0
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    assert main(["evaluate", "../run"]) == 0
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--resume", "run", "--dataset=data.npz"]) == 0


def test_data_that_got_another_class_is_said_to_have(tmp_path, refused):
    def write(classes):
        images, labels = np.random.default_rng(0).normal(size=(12, 4, 4)), np.arange(12) % classes
        np.savez(
            tmp_path / "data.npz",
            train_images=images,
            train_labels=labels,
            test_images=images,
            test_labels=labels,
        )

    write(2)
    options = [f"--dataset={tmp_path}/data.npz", "--arch=1:4", "--ops=numpy", "--epochs=1"]
    assert main(["train", "--out", str(tmp_path / "run"), *options]) == 0
    write(3)
    words = f"{tmp_path}/run: {tmp_path}/data.npz has 3 classes now, the run's network 2"
    for command in (["evaluate"], ["train", "--resume"], ["gradients"]):
        assert words in refused([*command, tmp_path / "run"])


@pytest.mark.parametrize("content", [b"", b"some text", np.arange(3).tobytes()])
def test_a_file_that_is_no_archive_is_refused(content, run_folder, tmp_path, refused):
    (tmp_path / "data.npz").write_bytes(content)
    assert "is no .npz file" in refused(["train", f"--dataset={tmp_path}/data.npz"])
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_bytes((run_folder / "config.json").read_bytes())
    (folder / "checkpoint.npz").write_bytes(content)
    assert "is no .npz file" in refused(["evaluate", folder])
    (folder / "checkpoint.npz").unlink()
    (folder / "checkpoint.npz").mkdir()
    assert "checkpoint.npz: is no regular file" in refused(["evaluate", folder])


def test_an_unknown_setting_in_a_run_names_the_file(run_folder, tmp_path, refused):
    config = json.loads((run_folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"foo": 1}))
    line = refused(["evaluate", tmp_path])
    assert "config.json" in line
    assert "'foo'" in line


def test_divergence_names_iteration_and_layer_and_keeps_the_last_checkpoint(tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["train", "--out", str(folder), *SMALL, "--lr=1e38", "--optimizer=sgd"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "iteration " in line
    assert "NaN or infinity is in " in line
    assert main(["evaluate", str(folder)]) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_to_resume_from(number, tmp_path):
    folder = tmp_path / "my run"
    process = subprocess.Popen(
        [sys.executable, "-m", "refsnn", "train", "--out", folder, *SMALL, "--epochs=500"],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (folder / "checkpoint.npz").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert f"refsnn train --resume '{folder}'" in error.splitlines()[-1]  # can be pasted
    assert "Traceback" not in error
    with np.load(folder / "checkpoint.npz") as archive:
        assert json.loads(archive["meta"].tobytes())["iteration"] > 0


def test_ctrl_c_after_the_last_iteration_lets_the_run_finish(tmp_path, monkeypatch, capsys):
    from refsnn.training.run import Run

    finish = Run.summarize

    def pressed(run):
        signal.raise_signal(signal.SIGINT)
        return finish(run)

    monkeypatch.setattr(Run, "summarize", pressed)
    assert main(["train", "--out", str(tmp_path / "run"), *SMALL]) == 0
    assert "test accuracy" in capsys.readouterr().out


def test_want_of_memory_is_said_in_a_line(monkeypatch, refused):
    import refsnn.training.trainer as trainer

    def want(*arguments):
        np.empty(2**60, np.uint8)

    monkeypatch.setattr(trainer, "init_params", want)
    line = refused(["train", "--out", "never", *SMALL])
    assert line.startswith("refsnn: error: not enough memory: Unable to allocate 1.00 EiB")

    def bare(*arguments):
        raise MemoryError

    monkeypatch.setattr(trainer, "init_params", bare)
    line = refused(["train", "--out", "never", *SMALL])
    assert line == "refsnn: error: not enough memory: the system gives no more"


def test_a_full_disk_is_said_with_the_file_and_what_is_free(tmp_path, monkeypatch, refused):
    def full(file):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "run"
    line = refused(["train", "--out", out, *SMALL])
    pattern = rf"No space left on device \(\d+\.\d MiB are free on the disk of {out}\): {out}/con"
    assert re.search(pattern, line)


def test_a_full_disk_of_a_file_without_a_name_is_told_by_its_folder(tmp_path, monkeypatch, refused):
    """Numba's folder for compiled code, too, may have a name that can't be shown."""
    from refsnn.experiments import gradients_command

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    usage, kept = shutil.disk_usage, str(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", kept)
    monkeypatch.setattr(
        shutil,
        "disk_usage",
        lambda path: usage(path)._replace(free=0 if str(path) == kept else 2**40),
    )
    monkeypatch.setattr(gradients_command, "measure", full)
    line = refused(["gradients"])
    assert line.endswith(f"No space left on device (0.0 MiB are free on the disk of {kept})")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_file_of_json_on_a_full_disk_is_named(tmp_path, refused):
    (tmp_path / "full").symlink_to("/dev/full")
    line = refused(["gradients", *SMALL[:1], "--ops=numpy", "--json", tmp_path / "full"])
    assert line.startswith("refsnn: error: No space left on device (")
    assert line.endswith(f"): {tmp_path}/full")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("evaluate {run} --predictions {csv} --picture {full}", "test accuracy"),
        ("energy {run} --images 4 --picture {full}", "synaptic"),
        ("find-lr --iterations 3 --ops numpy --picture {full}", "learning rate"),
        ("show {run} --images 4 --csv {csv} --out {pictures}", "firing rate"),
    ],
)
@pytest.mark.slow_after(1)
def test_a_disk_that_is_full_when_the_picture_comes_costs_the_picture_alone(
    command, kept, tmp_path, capsys, monkeypatch
):
    run, csv = tmp_path / "run", tmp_path / "figures.csv"
    assert main(["train", "--out", str(run), *SMALL]) == 0
    full, pictures = tmp_path / "full.png", tmp_path / "pictures"
    full.symlink_to("/dev/full")
    capsys.readouterr()
    if command.startswith("show"):
        from refsnn.experiments import show_command

        def write_nothing(path, content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(show_command, "write_atomic", write_nothing)
    names = {"run": run, "csv": csv, "full": full, "pictures": pictures}
    assert main(command.format(**names).split()) == 2
    shown = capsys.readouterr()
    assert kept in shown.out
    assert re.search(r"^refsnn: error: No space left on device .*\.png$", shown.err, re.M)
    assert ("{csv}" in command) == (csv.exists() and csv.stat().st_size > 0)


def test_presets_are_those_of_the_ledger():
    assert set(PRESETS) == {"digits", "paper", "authors_code"}


def test_the_version_is_shown(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("refsnn ")


def test_the_word_none_takes_a_files_number_back(tmp_path):
    run, file = tmp_path / "run", tmp_path / "mine.toml"
    file.write_text('loss = "tet"\ntet_phi = 2.0\nreset = "subtract"\nreset_amount = 2.0\n')
    given = ["train", "--config", str(file), "--out", str(run), *SMALL, "--loss=cross_entropy"]
    given += ["--tet-phi=none", "--reset=zero", "--reset-amount=none"]
    assert main(given) == 0
    config = json.loads((run / "config.json").read_text())
    assert (config["loss"], config["tet_phi"], config["reset_amount"]) == (
        "cross_entropy",
        None,
        None,
    )
