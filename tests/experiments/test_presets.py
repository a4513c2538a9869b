"""Presets: the paper's tables and the claim."""

import pytest

from refsnn.experiments.ablation import configs, depth, fixed, folder_name, recipe_names
from refsnn.experiments.presets import PRESETS, SIZES
from refsnn.network import ARCHITECTURES
from refsnn.training.config import make_config
from refsnn.training.recipes import self_contained


def rows(name):
    """(data set, architecture, T, method) -> seeds"""
    found = {}
    for config in configs(PRESETS[name]):
        key = (config.data.dataset, config.network.arch, config.steps, config.objective.method)
        found.setdefault(key, []).append(config.seed)
    return found


def test_the_methods_are_compared_by_name():
    """Each recipe that is there, and the paper's network, with the same budget."""
    for preset, seeds, steps in (("methods", 5, 4), ("methods-deep", 3, 2)):
        made = configs(PRESETS[preset])
        settings = list({str(fixed(c)): fixed(c) for c in made}.values())
        names = recipe_names(settings)
        assert names == ["paper", *self_contained()]
        archs = {c.network.arch for c in made}
        assert len(made) == len(names) * 2 * seeds * len(archs)
        assert {(c.epochs, c.optimizer.lr, c.steps) for c in made} == {(20, 0.005, steps)}
        folders = [folder_name(c, settings) for c in made]
        assert len(set(folders)) == len(folders)
        assert sum(name.startswith("plif-") for name in folders) == 2 * seeds * len(archs)


def test_settings_that_no_recipe_makes_keep_their_own_words():
    plain, other = fixed(make_config()), fixed(make_config(neuron_model="plif"))
    assert recipe_names([plain, other]) is None
    assert recipe_names([plain, fixed(make_config(lr=0.5))]) is None
    plif = fixed(make_config(recipe="plif", lr=0.5))
    assert recipe_names([plain, plif]) == ["paper", "plif"]
    run = make_config(recipe="plif", lr=0.5)
    assert folder_name(run, [plain, plif]).startswith("plif-0.5-resnet8-T2-evolutionary")


PAPER = {
    "table1": {
        ("cifar100", arch, steps, method)
        for arch in ("resnet18", "resnet34")
        for steps in (2, 4)
        for method in ("vanilla", "shortcut", "evolutionary")
    },
    "table2": {
        ("cifar10", "resnet18", 1, "shortcut"),
        ("cifar10", "resnet18", 2, "shortcut"),
        ("cifar10", "resnet18", 2, "evolutionary"),
        ("cifar10", "resnet18", 4, "evolutionary"),
        ("cifar100", "resnet18", 2, "shortcut"),
        ("cifar100", "resnet18", 4, "shortcut"),
        ("cifar100", "resnet18", 2, "evolutionary"),
        ("cifar100", "resnet18", 4, "evolutionary"),
    },
    "table3": {
        ("imagefolder", "resnet18-imagenet", 4, "shortcut"),
        ("imagefolder", "resnet18-imagenet", 4, "evolutionary"),
        ("imagefolder", "resnet34-imagenet", 4, "shortcut"),
        ("imagefolder", "resnet34-imagenet", 4, "evolutionary"),
    },
    "table4": {
        ("cifar10dvs", "resnet18", 10, "shortcut"),
        ("cifar10dvs", "resnet18", 10, "evolutionary"),
    },
}


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_rows_three_times_each(name):
    assert set(rows(name)) == PAPER[name]
    assert all(seeds == [0, 1, 2] for seeds in rows(name).values())
    for config in configs(PRESETS[name]):
        assert config.optimizer.lr == (4e-3 if name == "table3" else 0.01)
        assert (config.epochs, config.batch_size, config.optimizer.optimizer) == (300, 128, "adamw")
        assert (config.optimizer.weight_decay, config.neuron.tau, config.neuron.v_th) == (
            0.02,
            0.5,
            1.0,
        )
        assert config.data.dataset in SIZES


def test_the_claim_has_two_regimes_and_five_seeds():
    made = configs(PRESETS["claim"])
    assert len(made) == 75
    names = ("surrogate", "surrogate_shape", "method", "seed")
    found = {(*map(c.to_dict().get, names), depth(c.network.arch)) for c in made}
    assert found == {
        (*regime, method, seed, layers)
        for regime, depths in (
            (("tanh", 0.5), (20, 38, 56)),
            (("rectangular", 1.0), (20, 56)),
        )
        for layers in depths
        for method in ("vanilla", "shortcut", "evolutionary")
        for seed in range(5)
    }
    shared = {"dataset": "digits", "steps": 2, "epochs": 20, "lr": 0.005, "optimizer": "adamw"}
    for config in made:
        assert config.to_dict() | shared == config.to_dict()


def test_the_small_preset_is_the_default_run_for_every_method():
    defaults = make_config()
    for config in configs(PRESETS["digits"]):
        assert (config.network.arch, config.steps) == (defaults.network.arch, defaults.steps)
        assert fixed(config) == fixed(defaults)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.slow_after(4)
def test_every_run_has_a_folder_of_its_own(name):
    made = configs(PRESETS[name])
    settings = [dict(items) for items in dict.fromkeys(tuple(fixed(c).items()) for c in made)]
    assert len({folder_name(config, settings) for config in made}) == len(made)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_depth_is_what_the_name_says(name):
    assert depth(name) == {"resnet19": 18}.get(name, int("".join(filter(str.isdigit, name))))
