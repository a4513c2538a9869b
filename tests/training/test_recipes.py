"""Methods by name: what makes them, in what order settings count, and how they are listed."""

import json
import re

import numpy as np
import pytest

import refsnn
from refsnn import spec
from refsnn.cli import main
from refsnn.network import init_params
from refsnn.ops import NEURONS, NORMS, SURROGATES, TET
from refsnn.training.config import make_config, overlaid, recipe_of
from refsnn.training.recipes import recipe_settings, recipes, self_contained

GIVEN = {"kdsnn": {"teacher": "runs/teacher"}}  # what a recipe needs


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_makes_a_network(name):
    recipe = recipes()[name]
    config = make_config(recipe=name, **GIVEN.get(name, {}))
    assert config.to_dict().items() >= recipe.settings.items()
    changed = {k for k, v in config.to_dict().items() if v != make_config().to_dict()[k]}
    assert changed <= {*recipe.settings, recipe.needs}
    assert changed
    net = config.build_network(1, 10)
    assert init_params(net, np.random.default_rng(0)).keys() == net.shapes().keys()
    assert recipe.clauses
    assert all(spec.clause(clause) for clause in recipe.clauses)


def test_every_neuron_and_norm_has_a_recipe():
    used = [recipe.settings for recipe in recipes().values()]
    assert {s["neuron_model"] for s in used if "neuron_model" in s} == set(NEURONS)
    assert {s["norm_model"] for s in used if "norm_model" in s} == set(NORMS)
    assert {s["surrogate"] for s in used if "surrogate" in s} <= set(SURROGATES)


def test_constants_that_papers_and_code_agree_on():
    """Written here again, from the methods' descriptions."""
    tdbn = make_config(recipe="stbp-tdbn")
    assert (tdbn.neuron.tau, tdbn.neuron.v_th) == (0.25, 0.5)
    net = tdbn.build_network(1, 10)
    assert net.norm.scale == net.lif.v_th
    assert net.merge_scale**2 == pytest.approx(0.5)
    assert net.norm_identity
    inflor = make_config(recipe="inflor").neuron
    assert inflor.reset_amount == 2 * inflor.v_th
    assert inflor.tau == 1
    tet = make_config(recipe="tet")
    assert tet.make_loss() == TET(1e-3, 1.0)
    plif = make_config(recipe="plif").build_network(1, 10)
    w = init_params(plif, np.random.default_rng(0))["stem.lif0.w"]
    assert w.tolist() == [0]  # tau_m = 2
    assert plif.lif.reset_gradient == "detached"
    assert plif.lif.fire_at_threshold
    diet = make_config(recipe="diet-snn")
    assert diet.network.readout == "sum"
    assert diet.neuron.make_surrogate().slope(np.zeros(1), 1.0).tolist() == [0.3]


def test_given_settings_count_more_than_the_recipe_and_this_more_than_the_preset():
    config = make_config("authors_code", recipe="glif", tau=0.4, lr=0.03)
    assert config.neuron.tau == 0.4
    assert config.neuron.neuron_model == "glif"
    assert config.optimizer.lr == 0.03
    assert config.optimizer.optimizer == "sgd"  # the preset's
    changed = make_config(tau=0.3, epochs=7).changed(recipe="mpbn", epochs=9)
    assert (changed.neuron.tau, changed.neuron.neuron_model, changed.epochs) == (0.25, "mpbn", 9)


def test_a_method_that_needs_a_setting_says_so(capsys):
    assert "kdsnn" not in self_contained()
    with pytest.raises(ValueError, match=r"teacher: missing, but teacher_weight is 0\.7; want the"):
        make_config(recipe="kdsnn")
    assert main(["methods", "kdsnn"]) == 0
    assert re.search("needs +--teacher", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("plaf", "recipe: got 'plaf', did you mean plif?"),
        ("zzz", "recipe: got 'zzz', want one of stbp-tdbn, tet"),
        (None, "recipe: got None, want one of"),
        (["tet"], "recipe: got ['tet']"),
    ],
)
def test_an_unknown_recipe_is_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        recipe_settings(given)


def test_the_papers_own_network_has_a_name_among_recipes():
    assert make_config(recipe="paper") == make_config()
    config = overlaid(make_config().to_dict(), {"recipe": "paper", "lr": 0.5})
    assert config == make_config().to_dict() | {"lr": 0.5}


def test_fit_takes_a_recipe():
    train = refsnn.load_digits().train
    images, labels = train.images[:200], train.labels[:200]
    model = refsnn.fit(images, labels, recipe="tebn", epochs=1, arch="1:4")
    assert type(model.net.norm_model).__name__ == "TEBN"


def test_the_command_trains_and_keeps_the_settings(tmp_path, capsys):
    folder = tmp_path / "run"
    options = ["--recipe", "inflor", "--epochs", "1", "--arch", "1:4", "--v-th", "0.75"]
    assert main(["train", *options, "--out", str(folder)]) == 0
    config = json.loads((folder / "config.json").read_text())
    assert config.items() >= (recipes()["inflor"].settings | {"v_th": 0.75}).items()
    assert "recipe" not in config
    for command, verb in ((["train", "--resume"], "goes on with"), (["gradients"], "has")):
        assert main([*command, str(folder), "--recipe", "tet"]) == 2
        message = f"recipe: got 'tet', but {folder} {verb} its own settings; leave --recipe out"
        assert message in capsys.readouterr().err


def test_a_surrogate_that_is_given_alone_has_its_usual_number(tmp_path):
    """The number of the recipe's, the preset's or the file's surrogate means nothing to it."""
    config = make_config(recipe="plif", surrogate="triangular")
    assert config.neuron.surrogate_shape is None
    assert make_config(recipe="plif", surrogate="atan").neuron.surrogate_shape == 2
    assert (
        make_config(recipe="plif", surrogate="sigmoid", surrogate_shape=3).neuron.surrogate_shape
        == 3
    )
    edge = make_config(surrogate="rectangular", surrogate_edge="inside", surrogate_shape=0.5)
    changed = edge.changed(surrogate="tanh").neuron
    assert (changed.surrogate_shape, changed.surrogate_edge) == (None, "outside")
    assert edge.changed(tau=0.3).neuron.surrogate_shape == 0.5
    # a number without a surrogate's name belongs to the one that is given
    assert overlaid({"surrogate_shape": 0.7}, {"surrogate": "tanh"})["surrogate_shape"] == 0.7
    moving = make_config(surrogate="sigmoid", surrogate_end=9.0).changed(surrogate="atan")
    assert moving.neuron.surrogate_end is None
    file, folder = tmp_path / "run.toml", tmp_path / "run"
    file.write_text('surrogate = "atan"\nsurrogate_shape = 3.0\nepochs = 1\narch = "1:4"\n')
    options = ["--config", str(file), "--surrogate", "sigmoid", "--out", str(folder)]
    assert main(["train", *options]) == 0
    written = json.loads((folder / "config.json").read_text())
    assert (written["surrogate"], written["surrogate_shape"]) == ("sigmoid", None)


def test_a_recipe_counts_more_than_a_file_of_settings(tmp_path):
    file, folder = tmp_path / "run.toml", tmp_path / "run"
    file.write_text('neuron_model = "glif"\ntau = 0.25\nv_th = 0.5\nepochs = 1\narch = "1:4"\n')
    options = ["--config", str(file), "--recipe", "diet-snn", "--out", str(folder)]
    assert main(["train", *options, "--v-th", "0.75"]) == 0
    written = json.loads((folder / "config.json").read_text())
    assert written.items() >= (recipes()["diet-snn"].settings | {"v_th": 0.75}).items()


def test_nothing_is_written_for_a_recipe_that_does_not_fit(tmp_path, capsys):
    for options in (["--recipe", "kdsnn"], ["--recipe", "glif", "--v-th", "1.5"]):
        assert main(["train", *options, "--out", str(tmp_path / "run")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_list_names_every_method_with_its_source_and_status(capsys):
    assert main(["methods"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    for name, recipe in recipes().items():
        assert f"{name} {recipe.source}: {recipe.changes}" in text
        if recipe.needs:
            assert f"{recipe.changes} [needs --{recipe.needs}]" in text


def test_a_method_is_described_by_options_that_make_it(capsys):
    assert main(["methods", "diet-snn"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--neuron-model diet --reset subtract --reset-gradient detached --tau 1.0" in text
    assert "M8: order of Diet-SNN's reset and leak" in text
    assert main(["methods", "plif"]) == 0
    assert "--fire-at-threshold" in capsys.readouterr().out
    assert main(["methods", "tett"]) == 2
    assert "method: got 'tett', did you mean tet?" in capsys.readouterr().err


def test_the_list_as_json(capsys):
    assert main(["methods", "--json"]) == 0
    found = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert found.keys() == recipes().keys()
    assert found["tet"]["settings"] == recipes()["tet"].settings
    assert main(["methods", "tet", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["tet"]


def test_settings_tell_which_recipe_made_them():
    for name in self_contained():
        assert recipe_of(make_config(recipe=name, lr=0.003, epochs=7).to_dict()) == name
    assert recipe_of(make_config().to_dict()) == "paper"
    assert recipe_of(make_config(recipe="plif", tau=0.3).to_dict()) is None


def test_a_run_says_its_recipe(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "--recipe", "tebn", "--epochs", "1", "--arch", "1:4"]) == 0
    folder = tmp_path / "runs" / "digits-tebn-1_4-evolutionary-seed0"
    assert json.loads((folder / "summary.json").read_text())["recipe"] == "tebn"
    capsys.readouterr()
    assert main(["train", "--resume", str(folder)]) == 0
    assert "is at its end; --epochs N trains it longer" in capsys.readouterr().out
