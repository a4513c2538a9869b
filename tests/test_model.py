"""Training and using a network from Python: `refsnn.fit`, `refsnn.load`, `refsnn.Model`."""

import json

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.training.checkpoint import load as load_checkpoint

SMALL = {"arch": "1-1:4-8", "epochs": 2, "batch_size": 50, "lr": 0.02}


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    rows = slice(0, 600), slice(0, 200)
    train, test = (
        (split.images[row], split.labels[row])
        for split, row in zip((data.train, data.test), rows, strict=True)
    )
    return train, test


@pytest.fixture(scope="module")
def model(digits):
    train, test = digits
    return refsnn.fit(*train, validation=test, progress=False, method="evolutionary", **SMALL)


def file_of(folder, digits):
    (images, labels), (test_images, test_labels) = digits
    arrays = {"train_images": images, "train_labels": labels}
    np.savez(folder / "d.npz", test_images=test_images, test_labels=test_labels, **arrays)
    return folder / "d.npz"


def test_fit_gives_the_bits_of_the_command(digits, model, tmp_path, capsys):
    options = [
        "--arch=1-1:4-8",
        "--epochs=2",
        "--batch-size=50",
        "--lr=0.02",
        f"--out={tmp_path / 'run'}",
    ]
    assert main(["train", f"--dataset={file_of(tmp_path, digits)}", *options]) == 0
    state, _ = load_checkpoint(tmp_path / "run" / "checkpoint.npz")
    for group in ("params", "buffers"):
        want = getattr(state, group)
        assert want.keys() == getattr(model, group).keys()
        for name, array in getattr(model, group).items():
            assert array.tobytes() == want[name].tobytes(), name
    lines = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    timed = {"seconds", "images_per_second"}
    for row, line in zip(model.history, lines, strict=True):
        want = json.loads(line)
        assert {k: v for k, v in row.items() if k not in timed} == {
            k: v for k, v in want.items() if k not in timed
        }
    loaded = refsnn.load(tmp_path / "run")
    test = digits[1]
    assert loaded.score(*test) == model.score(*test) == model.history[-1]["test_accuracy"]
    assert len(loaded.history) == 2


def test_fit_takes_a_named_data_set_as_the_command_does(tmp_path, capsys):
    options = ["--arch=1:4", "--epochs=1", "--batch-size=500", f"--out={tmp_path / 'run'}"]
    assert main(["train", *options]) == 0
    state, _ = load_checkpoint(tmp_path / "run" / "checkpoint.npz")
    settings = {"arch": "1:4", "epochs": 1, "batch_size": 500, "progress": False}
    by_name = refsnn.fit(dataset="digits", **settings)
    by_object = refsnn.fit(dataset=load_digits(), **settings)
    for name, want in state.params.items():
        assert by_name.params[name].tobytes() == want.tobytes()
        assert by_object.params[name].tobytes() == want.tobytes()


def test_predictions_fit_together(digits, model):
    images, labels = digits[1]
    proba = model.predict_proba(images)
    assert proba.shape == (200, 10)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=1e-5)
    predicted = model.predict(images)
    assert np.array_equal(predicted, proba.argmax(axis=1))
    assert model.score(images, labels) == np.mean(predicted == labels) > 0.15


def test_spikes_are_those_that_the_logits_come_from(digits, model):
    images = digits[1][0][:150]  # in two batches
    layers = model.spikes(images)
    assert list(layers) == model.net.neurons()
    for layer in layers.values():
        assert layer.spikes.shape == layer.potentials.shape
        assert layer.spikes.shape[:2] == (model.config.steps, 150)
        assert set(np.unique(layer.spikes)) <= {0, 1}
        assert np.array_equal(layer.spikes, layer.potentials > model.net.lif.v_th)
    last = layers[model.net.neurons()[-1]].spikes.mean(axis=(2, 3))  # (T, N, C)
    logits = last @ model.params["head.fc.weight"] + model.params["head.fc.bias"]
    np.testing.assert_allclose(model.predict_logits(images), logits.mean(axis=0), atol=1e-4)


def test_gradients_are_the_objectives(digits):
    train, _ = digits
    images, labels = train[0][:20], train[1][:20]
    exact = refsnn.fit(*train, progress=False, dtype="float64", ops="numpy", **SMALL)
    x = refsnn.encode((images - exact.mean) / exact.std, exact.config.steps)
    run = refsnn.forward(exact.net, exact.params, exact.buffers, x, refsnn.NUMPY)
    for side in (None, 0.0, 1.5):
        _, cache = refsnn.objective_forward(run.branches, labels, 0.25 if side is None else side)
        want = refsnn.backward(run, refsnn.objective_backward(cache))
        got = exact.gradients(images, labels, side)
        assert got.keys() == want.keys() == exact.params.keys()
        for name, g in got.items():
            np.testing.assert_allclose(g, want[name], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize(("method", "side"), [("vanilla", 0), ("shortcut", 0.5)])
def test_gradients_weigh_the_branches_by_the_method(digits, method, side):
    train, _ = digits
    settings = {"method": method, "shortcut_weight": 0.5} | SMALL | {"epochs": 1}
    made = refsnn.fit(*train, progress=False, **settings)
    want = made.gradients(*train, side)
    assert all(np.array_equal(g, want[name]) for name, g in made.gradients(*train).items())


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_a_saved_model_predicts_the_same(digits, model, suffix, tmp_path):
    if suffix == ".safetensors":
        pytest.importorskip("safetensors")
    model.save(tmp_path / f"model{suffix}")
    loaded = refsnn.load(str(tmp_path / f"model{suffix}"))
    images, labels = digits[1]
    assert np.array_equal(loaded.predict_logits(images), model.predict_logits(images))
    for name, g in loaded.gradients(images, labels).items():
        assert np.array_equal(g, model.gradients(images, labels)[name])
    assert (loaded.config, loaded.iteration) == (model.config, model.iteration)
    assert loaded.history == []


def test_an_exported_run_is_a_model(digits, tmp_path, capsys):
    out = str(tmp_path / "run")
    settings = ["--arch=1:4", "--epochs=1", "--batch-size=200"]
    data = file_of(tmp_path, digits)
    assert main(["train", f"--dataset={data}", f"--out={out}", *settings]) == 0
    assert main(["export", out, str(tmp_path / "m.npz")]) == 0
    loaded = refsnn.load(tmp_path / "m.npz")
    assert loaded.score(*digits[1]) == refsnn.load(out).score(*digits[1])
    assert loaded.config.data.dataset == "d.npz"  # no path of this machine


def test_a_run_that_did_not_reach_its_end_is_read_with_a_warning(tmp_path, capsys):
    out = str(tmp_path / "run")
    wild = ["--optimizer=sgd", "--lr=1e38", "--ops=numpy", "--arch=1:4"]
    assert main(["train", f"--out={out}", *wild]) == 1
    with pytest.warns(UserWarning, match="run: not trained to its end: 0 iterations$"):
        assert refsnn.load(out).iteration == 0


def test_a_run_of_version_0_1_standardises_by_its_data_set(digits, tmp_path, capsys):
    from refsnn.training import checkpoint

    out = tmp_path / "run"
    data = file_of(tmp_path, digits)
    options = ["--arch=1:4", "--epochs=1", "--batch-size=200", f"--dataset={data}"]
    assert main(["train", f"--out={out}", *options]) == 0
    want = refsnn.load(out)
    state, config = checkpoint.load(out / "checkpoint.npz")
    state.mean = state.std = np.empty(0)
    checkpoint.save(str(out / "checkpoint.npz"), state, config)
    assert np.array_equal(refsnn.load(out).mean, want.mean)
    assert main(["evaluate", str(out)]) == 0


def test_the_callback_sees_each_epoch_and_can_end_training(digits):
    train, test = digits
    seen = []

    def callback(model):
        seen.append((len(model.history), model.score(*test)))
        return len(seen) == 2

    settings = SMALL | {"epochs": 5, "arch": "1:4"}
    model = refsnn.fit(*train, validation=test, callback=callback, progress=False, **settings)
    assert [n for n, _ in seen] == [1, 2]
    assert [score for _, score in seen] == [row["test_accuracy"] for row in model.history]


def test_without_validation_the_history_has_the_training_alone(digits):
    (images, labels), _ = digits
    model = refsnn.fit(list(images), labels, progress=False, arch="1:4", epochs=1, batch_size=300)
    assert "train_accuracy" in model.history[0]
    assert "test_accuracy" not in model.history[0]


def test_a_progress_bar_is_shown_on_request(digits, capsys):
    (images, labels), _ = digits
    settings = {"arch": "1:4", "epochs": 1, "batch_size": 300}
    refsnn.fit(images, labels, progress=False, **settings)
    assert capsys.readouterr() == ("", "")
    refsnn.fit(images, labels, **settings)
    assert "600/600" in capsys.readouterr().err


def arrays(n=12, size=(8, 8), channels=1):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, *size, channels)), np.arange(n) % 3


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        ((), {}, "images: missing; want images and labels, or dataset"),
        (("digits",), {}, "images: got 'digits', want an array; a data set is given as dataset="),
        ((None, [1]), {}, "images: missing, but labels given"),
        ((arrays()[0],), {}, r"labels: missing, want an array \(N,\) beside the images"),
        (arrays(), {"dataset": "digits"}, "dataset: given beside images"),
        (
            (arrays()[0].reshape(12, 1, 8, 8), arrays()[1]),
            {},
            r"images: got shape \(12, 1, 8, 8\), which looks channels-first; want channels last: "
            r"images.transpose\(0, 2, 3, 1\)",
        ),
        ((arrays()[0], arrays()[1] + 1), {}, "labels: got the classes 1, 2, 3, want .*subtract 1"),
        ((arrays()[0], arrays()[1][:5]), {}, r"labels: got shape \(5,\), want \(12,\)"),
        ((arrays()[0] * np.nan, arrays()[1]), {}, "images: image 0 holds NaN or infinity"),
        ((arrays()[0], ["a"] * 12), {}, "labels: got text such as 'a'"),
        (arrays(), {"validation": 3}, r"validation: got 3, want a share in \[0, 1\)"),
        (arrays(), {"validation": "a"}, "validation: got str, want a pair"),
        (arrays(), {"validation": (arrays()[0], arrays()[1] + 9)}, "validation labels: got 9 at"),
        (arrays(), {"validation": (100 * arrays()[0], arrays()[1])}, ".*validation images around"),
        (arrays(), {"epoch": 3}, "setting: got 'epoch', did you mean epochs?"),
        (arrays(), {"epochs": "3"}, "epochs: got '3', want a value of type int"),
        (arrays(), {"preset": "papr"}, "preset: got 'papr', want one of digits, paper"),
        (arrays(), {"surrogate": 3}, "surrogate: got 3, want"),
        (arrays(), {"loss": 3}, "loss: got 3, want"),
        (
            arrays(),
            {"loss": "l2"},
            "loss: got 'l2', want one of cross_entropy, tet, or a module:object",
        ),
        (arrays(), {"branches": "stages"}, "branches: got 'stages', did you mean stage?"),
        (arrays(), {"branches": "stage3.block0"}, "branches: got stage3.block0, the last block"),
        (arrays(), {"branches": "stage1.block0,stage1.block0"}, "branches: got .* each block once"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, settings, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}") as caught:
        refsnn.fit(*arguments, progress=False, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((5, 8, 8, 3)), "images: got 3 channels, want 1"),
        (np.zeros((5, 1, 8, 8)), r"images: got shape \(5, 1, 8, 8\), which looks channels-first"),
        (np.zeros((8, 8)), r"images: got shape \(8, 8\), want \(N, H, W, 1\)"),
        (
            np.zeros((8, 8, 1)),
            r"images: got shape \(8, 8, 1\), which looks like one image; want \(N, H, W, 1\)",
        ),
        (
            np.zeros((0, 8, 8, 1)),
            r"images: got shape \(0, 8, 8, 1\), want .* with at least one image",
        ),
        (["a"], "images: got dtype <U1, want real numbers"),
    ],
)
def test_wrong_images_are_refused_in_a_line(model, images, message):
    for call in (model.predict, model.spikes, lambda x: model.gradients(x, [0] * len(x))):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            call(images)


def test_a_model_with_objects_of_the_users_own_is_not_saved(digits, tmp_path):
    train, _ = digits
    settings = SMALL | {"epochs": 1, "arch": "1:4", "progress": False}
    for name, value in (("surrogate", refsnn.Tanh(0.7)), ("loss", refsnn.CROSS_ENTROPY)):
        made = refsnn.fit(*train, **settings, **{name: value})
        with pytest.raises(ValueError, match=f"^{name}: got .*, but a file can hold"):
            made.save(tmp_path / "m.npz")


@pytest.mark.parametrize("name", ["surrogate", "loss"])
def test_reading_a_file_imports_nothing_that_it_names(model, name, tmp_path, monkeypatch):
    (tmp_path / "wicked.py").write_text("open('ran', 'w').close()\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    model.save("m.npz")
    with np.load("m.npz") as archive:
        held = dict(archive)
    config = json.loads(str(held["refsnn.config"]))
    config["training"]["settings"][name] = "wicked:Object"
    np.savez("m.npz", **held | {"refsnn.config": np.array(json.dumps(config))})
    with pytest.raises(ValueError, match=f"^m.npz: {name}: got 'wicked:Object', but a file"):
        refsnn.load("m.npz")
    assert not (tmp_path / "ran").exists()


def test_numbers_without_a_training_are_no_model(model, tmp_path):
    from refsnn.export.parameters import save_parameters

    save_parameters(tmp_path / "m.npz", model.net, model.params, model.buffers)
    with pytest.raises(ValueError, match="does not say how the network was trained"):
        refsnn.load(tmp_path / "m.npz")


def test_settings_may_be_numbers_of_numpy(digits):
    """They must not change the arrays' dtype."""
    train, _ = digits
    settings = SMALL | {"epochs": 1, "arch": "1-1:4-8", "progress": False}
    want = refsnn.fit(*train, **settings | {"lr": 0.02, "lam": 0.5, "weight_decay": 0.01})
    given = {"lr": np.float64(0.02), "lam": np.float64(0.5), "weight_decay": np.float64(0.01)}
    got = refsnn.fit(*train, **settings | given | {"epochs": np.int64(1)})
    for name, array in want.params.items():
        assert array.tobytes() == got.params[name].tobytes(), name
    grads = got.gradients(*train, side=np.float64(0.25))
    assert {g.dtype for g in grads.values()} == {np.dtype("float32")}


def test_objects_may_be_given_as_classes_lists_and_functions(digits, tmp_path):
    train, _ = digits
    settings = {"arch": "2-1:4-8", "epochs": 1, "batch_size": 200, "progress": False}
    made = refsnn.fit(*train, surrogate=refsnn.Tanh, branches=["stage1.block0"], **settings)
    assert made.net.lif.surrogate == refsnn.Tanh()
    assert [b.name for b in made.net.blocks() if b.branch] == ["stage1.block0", "stage2.block0"]
    by_function = refsnn.fit(dataset=lambda options: load_digits(), **settings)
    by_name = refsnn.fit(dataset="digits", **settings)
    for name, array in by_name.params.items():
        assert array.tobytes() == by_function.params[name].tobytes()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, x, y: m.predict(np.full(x.shape, np.nan)), "images: got NaN or infinity"),
        (lambda m, x, y: m.spikes(np.full(x.shape, np.inf)), "images: got NaN or infinity"),
        (lambda m, x, y: m.score(x, np.eye(10)[y]), "labels: got one-hot labels"),
        (lambda m, x, y: m.gradients(x, y[:3]), r"labels: got shape \(3,\), want"),
        (lambda m, x, y: refsnn.fit(x, y, callback=3), "callback: got 3, want a function"),
        (lambda m, x, y: refsnn.fit(dataset=3), "dataset: got int, want a name, a file"),
        (lambda m, x, y: refsnn.fit(x, y, arch="1-1:4"), "arch: got 2 depths and 1 widths"),
        (lambda m, x, y: refsnn.load("nope"), "nope: no such file or folder"),
        (lambda m, x, y: refsnn.fit(x, y, loss=max), "loss: got .* or an object with forward and"),
    ],
)
def test_errors_are_one_line(digits, model, call, message):
    images, labels = digits[1]
    with pytest.raises((TypeError, ValueError, OSError), match=f"^{message}"):
        call(model, images, labels)


def test_files_of_other_kinds_are_no_model(digits, tmp_path, capsys):
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match=r"not written by Model\.save or refsnn export"):
        refsnn.load(tmp_path / "other.npz")
    out = tmp_path / "run"
    data = file_of(tmp_path, digits)
    options = ["--arch=1:4", "--epochs=1", "--batch-size=300", f"--dataset={data}"]
    assert main(["train", f"--out={out}", *options]) == 0
    with pytest.raises(ValueError, match="is the checkpoint of a run, want the run's folder"):
        refsnn.load(out / "checkpoint.npz")


def test_a_column_of_labels_is_taken_as_in_training(digits, model):
    images, labels = digits[1]
    assert model.score(images, labels[:, None]) == model.score(images, labels)
