"""The learning-rate range test."""

import json
import math

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.experiments import find_lr as module
from refsnn.experiments.find_lr import Tried, best, find_lr, rates, smoothed
from refsnn.training.config import make_config

SMALL = {"arch": "1-1:4-8", "batch_size": 40, "ops": "numpy"}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items()]


def test_rates_rise_by_one_factor():
    found = rates(1e-4, 1, 5)
    assert found == pytest.approx([1e-4, 1e-3, 1e-2, 1e-1, 1])


def test_the_smoothed_loss_of_a_constant_is_that_constant():
    assert [smoothed([3.0] * n) for n in (1, 2, 30)] == pytest.approx([3, 3, 3])
    assert smoothed([1.0, 2.0]) == pytest.approx((0.9 * 1 + 2) / 1.9)


def test_the_steepest_fall_and_the_lowest_loss():
    losses = [2.0, 1.9, 1.2, 0.9, 0.8, 1.5, 9.0]
    tried = [Tried(10.0**n, x, x) for n, x in enumerate(losses)]
    assert best(tried) == (100.0, 10000.0)
    rising = [Tried(10.0**n, x, x) for n, x in enumerate([1.0, 2.0, 3.0])]
    assert best(rising) == (None, 1.0)
    assert best(tried[:2]) == (None, None)


def test_a_network_is_trained_with_each_rate():
    found = find_lr(make_config(**SMALL), load_digits(), 1e-4, 0.1, 40)
    assert [one.lr for one in found.tried] == pytest.approx(np.geomspace(1e-4, 0.1, 40))
    assert found.tried[-1].smoothed < found.tried[0].smoothed
    assert found.ended == "all were tried"
    losses = [one.loss for one in found.tried]
    assert found.tried[-1].smoothed == pytest.approx(smoothed(losses))


@pytest.mark.slow
def test_more_iterations_than_an_epoch_begin_another(monkeypatch):
    config = make_config(**SMALL | {"batch_size": 1000})
    assert len(find_lr(config, load_digits(), 1e-5, 1e-4, 5).tried) == 5


def test_each_rate_is_the_one_that_the_step_has(monkeypatch):
    steps, original = [], module.train_step

    def train_step(*arguments):
        step = original(*arguments)
        steps.append(step)
        return step

    monkeypatch.setattr(module, "train_step", train_step)
    found = find_lr(make_config(**SMALL), load_digits(), 1e-4, 0.1, 4)
    assert [s.lr for s in steps] == pytest.approx([t.lr for t in found.tried], rel=1e-12)
    assert [s.side for s in steps] == pytest.approx([0.25] * 4, rel=1e-7)


def test_the_test_ends_where_training_gets_much_worse():
    config = make_config(**SMALL, optimizer="sgd")
    found = find_lr(config, load_digits(), 1e-3, 1e12, 100)
    assert len(found.tried) < 100
    assert "the loss rose to 4 times its lowest at" in found.ended or "diverged" in found.ended


def test_the_command_prints_the_figures_and_draws_them(tmp_path, capsys):
    picture = tmp_path / "lr.png"
    given = ["find-lr", *OPTIONS, "--iterations=30", "--low=1e-4", "--high=0.1"]
    assert main([*given, "--picture", str(picture)]) == 0
    text = capsys.readouterr().out
    assert "learning rate" in text
    assert "the loss falls fastest at " in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["tried"]) == 30
    assert math.isfinite(found["lowest"])
    assert not [path for path in tmp_path.iterdir() if path != picture]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--low=0"], "low: got 0"),
        (["--low=1", "--high=0.1"], "high: got 0.1, want more than low, 1.0"),
        (["--high=inf"], "high: got inf"),
        (["--high=1e40"], "high: got 1e+40, which float32 rounds to inf"),
        (["--low=1e-60"], "low: got 1e-60, which float32 rounds to 0"),
        (["--iterations=2"], "iterations: got 2"),
        (["--lr=1"], "--lr"),
        (["--picture=lr.bmp"], "lr.bmp"),
    ],
)
def test_bad_options_are_refused(options, words, refused):
    assert words in refused(["find-lr", *OPTIONS, *options])
