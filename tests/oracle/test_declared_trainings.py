"""Conventions of the optimisers, and numbers that are declared in place of settings."""

import numpy as np
import pytest

from refsnn.oracle import cases, recipes
from refsnn.oracle.conventions import FROM_SETTINGS, make_conventions
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.recompute import recompute
from refsnn.oracle.variants import Tape, make_ops

RNG = np.random.default_rng(7)
W, GRADS = RNG.normal(size=(4, 3)), RNG.normal(size=(5, 4, 3))
RATES = (0.1, 0.08, 0.05, 0.03, 0.01)


def ops(**given):
    return make_ops(make_conventions(given), Tape())


def by_torch(make):
    """Return the weights after every step of PyTorch's optimiser."""
    torch = pytest.importorskip("torch")
    w = torch.tensor(W, requires_grad=True)
    optimizer, found = make(torch.optim, [w]), []
    for g, lr in zip(GRADS, RATES, strict=True):
        w.grad = torch.tensor(g)
        optimizer.param_groups[0]["lr"] = lr
        optimizer.step()
        found.append(w.detach().numpy().copy())
    return found


@pytest.mark.parametrize("decay", [0.0, 0.2])
@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_nesterovs_momentum_is_pytorchs(momentum, decay):
    want = by_torch(
        lambda optim, ws: optim.SGD(ws, 1.0, momentum, weight_decay=decay, nesterov=True)
    )
    update, w, v = ops(nesterov=True).sgd_update, W, np.zeros_like(W)
    for g, lr, wanted in zip(GRADS, RATES, want, strict=True):
        w, v = update(w, g, v, lr, momentum, decay)
        np.testing.assert_allclose(w, wanted, rtol=0, atol=1e-14)


def test_adams_numbers_are_pytorchs():
    want = by_torch(
        lambda optim, ws: optim.AdamW(ws, 1.0, betas=(0.7, 0.95), eps=1e-3, weight_decay=0.2)
    )
    update = ops(adam_beta1=0.7, adam_beta2=0.95, adam_eps=1e-3).adamw_update
    w, mean, square = W, np.zeros_like(W), np.zeros_like(W)
    for i, (g, lr, wanted) in enumerate(zip(GRADS, RATES, want, strict=True), 1):
        w, mean, square = update(w, g, mean, square, i, lr, 0.2)
        np.testing.assert_allclose(w, wanted, rtol=0, atol=1e-14)


def test_adam_without_correction_on_paper():
    """beta1 = beta2 = 1/2: after a gradient of 2 the moments are 1 and 2, then 1/2 and 1."""
    given = {"adam_beta1": 0.5, "adam_beta2": 0.5, "adam_eps": 0.5}
    update = ops(**given, optimizer_bias_correction=False).adamw_update
    one, zero = np.ones(1), np.zeros(1)
    w, mean, square = update(one, 2 * one, zero, zero, 1, 0.1, 0.5)
    first = 1 * (1 - 0.1 * 0.5) - 0.1 * 1 / (np.sqrt(2) + 0.5)
    assert (w[0], mean[0], square[0]) == (pytest.approx(first, rel=1e-15), 1, 2)
    w, mean, square = update(w, zero, mean, square, 2, 0.1, 0.5)
    assert (mean[0], square[0]) == (0.5, 1)
    assert w[0] == pytest.approx(first * 0.95 - 0.1 * 0.5 / 1.5, rel=1e-15)
    corrected = ops(**given).adamw_update(one, 2 * one, zero, zero, 1, 0.1, 0.5)[0]
    assert corrected[0] == pytest.approx(0.95 - 0.1 * 2 / 2.5, rel=1e-15)


def test_adam_with_decay_in_the_gradient_keeps_the_other_numbers():
    update = ops(decay_form="in the gradient", adam_beta1=0.5, adam_eps=1.0).adamw_update
    plain = ops(adam_beta1=0.5, adam_eps=1.0).adamw_update
    moments = RNG.normal(size=W.shape), RNG.random(W.shape)
    found = update(W, GRADS[0], *moments, 3, 0.1, 0.25)
    wanted = plain(W, GRADS[0] + 0.25 * W, *moments, 3, 0.1, 0.0)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(got, want)


def test_the_papers_training_is_as_it_was():
    """No operation is replaced."""
    from refsnn.ops import NUMPY

    made = ops()
    assert made.adamw_update is NUMPY.adamw_update
    assert made.sgd_update is NUMPY.sgd_update
    assert made.linear_backward is NUMPY.linear_backward


NUMBERS = {"lam": 0.5, "shortcut_weight": 0.75, "lr": 0.03125, "momentum": 0.5, "weight_decay": 0.0}


def build(name, declared):
    (recipe,) = [r for r in recipes.recipes(["training"], declared) if r.id == f"training/{name}"]
    return cases.build(recipe)


@pytest.fixture(scope="module")
def declared():
    """Training cases by name, under all the numbers."""
    return {name: build(name, NUMBERS) for name in ("evolutionary", "shortcut")}


def test_declared_numbers_are_in_the_settings(declared):
    assert NUMBERS.keys() == set(FROM_SETTINGS)
    for case in declared.values():
        assert {name: case.settings[name] for name in NUMBERS} == NUMBERS
        assert {name: case.conventions[name] for name in NUMBERS} == NUMBERS
    one = build("shortcut", {"lr": 0.5})
    assert one.settings["lr"] == 0.5
    assert one.settings["momentum"] == 0.9
    assert one.conventions["momentum"] == "as given"


def test_they_act_as_settings_do(declared):
    for case in declared.values():
        told = recompute(case, dict.fromkeys(NUMBERS, "as given"))
        for name, value in told.outputs.items():
            np.testing.assert_array_equal(value, case.outputs[name])
    side = declared["evolutionary"].outputs["side"]
    np.testing.assert_allclose(side, 0.5 * (1 - np.arange(1, 11) / 10), atol=1e-15)
    np.testing.assert_array_equal(declared["shortcut"].outputs["side"], [0.75] * 10)
    assert declared["shortcut"].outputs["lr"][0] == 0.03125


@pytest.mark.parametrize(
    "given",
    [
        {"nesterov": True},
        {"nesterov": True, "momentum": 0.0},
        {"adam_beta1": 0.5, "adam_eps": 1e-4},
    ],
    ids=str,
)
def test_the_pytorch_adapter_follows_them(given):
    pytest.importorskip("torch")
    from refsnn.oracle.adapters.pytorch import PyTorch

    case = build("evolutionary" if "adam_eps" in given else "shortcut", given)
    for name, value in PyTorch().run(case).items():
        near = case.tolerances[name]["float64"]
        np.testing.assert_allclose(value, case.outputs[name], rtol=0, atol=near)


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("shortcut", {"nesterov": True}),
        pytest.param(*("shortcut", {"momentum": 0.0}), marks=pytest.mark.slow),
        pytest.param(
            *("evolutionary", {"optimizer_bias_correction": False}), marks=pytest.mark.slow
        ),
        pytest.param(*("evolutionary", {"adam_eps": 1e-6}), marks=pytest.mark.slow),
        pytest.param(*("evolutionary", {"adam_beta2": 0.99}), marks=pytest.mark.slow),
        pytest.param(*("evolutionary", {"weight_decay": 0.0}), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_diagnosis_finds_them(cases, name, changed):
    case = cases[f"training/{name}"]
    found = diagnose([case], {case.id: recompute(case, changed).outputs})
    assert changed in [fit.deviations for fit in found.matches]
    assert all(len(fit.deviations) == 1 for fit in found.matches)


def test_as_given_is_no_alternative_to_a_declared_number(declared):
    case = declared["shortcut"]
    found = diagnose([case], {case.id: case.outputs})
    assert found.matches[0].deviations == {}
    assert all("as given" not in state.values() for state in found.undecided)


@pytest.mark.parametrize(
    "given",
    [
        {"adam_beta1": 1.0},
        {"adam_eps": 0.0},
        {"lr": 0.0},
        {"lam": -0.5},
        {"momentum": 1.0},
        {"weight_decay": "decoupled"},
        {"nesterov": 1},
    ],
    ids=str,
)
def test_values_that_no_training_takes_are_refused(given):
    ((name, _),) = given.items()
    with pytest.raises(ValueError, match=f"^{name}: got "):
        make_conventions(given)
