"""A loss of the user's own, as an object or named `module:object`."""

import inspect
import sys

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.data.digits import load_digits
from refsnn.equations.loss import cross_entropy_backward, cross_entropy_forward
from refsnn.training.checkpoint import load
from refsnn.training.config import make_config
from refsnn.training.folder import read_metrics
from refsnn.training.run import resume, start
from refsnn.training.trainer import Interrupted

SETTINGS = {"arch": "1-1:4-8", "epochs": 1, "batch_size": 100, "progress": False}


class Squared:
    """The squared error of the logits to the one-hot labels."""

    def forward(self, logits, labels):
        error = logits - np.eye(logits.shape[1], dtype=logits.dtype)[labels]
        return (error**2).sum(axis=1).mean() / 2, error

    def backward(self, error):
        return error / len(error)


class Own:
    """The cross-entropy, as a user would write it."""

    forward = staticmethod(cross_entropy_forward)
    backward = staticmethod(cross_entropy_backward)


@pytest.fixture(scope="module")
def digits():
    train = load_digits().train
    return train.images[:600], train.labels[:600]


@pytest.mark.parametrize("ops", ["numba", "numpy"])
@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
def test_one_that_is_the_cross_entropy_gives_its_bits(digits, ops, branch_sum):
    settings = SETTINGS | {"ops": ops, "branch_sum": branch_sum}
    want = refsnn.fit(*digits, **settings)
    got = refsnn.fit(*digits, loss=Own(), **settings)
    for name, array in want.params.items():
        assert array.tobytes() == got.params[name].tobytes(), name


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
def test_its_gradient_reaches_every_parameter(branch_sum):
    """Against finite differences of a network that fires the surrogate's primitive."""
    rng = np.random.default_rng(0)
    lif = refsnn.LIF(smooth=True)
    net = refsnn.Network(refsnn.architecture("1-1:2-3"), 1, 3, lif=lif)
    params, buffers = refsnn.init_params(net, rng), refsnn.init_buffers(net)
    x_seq, labels = rng.normal(size=(2, 4, 5, 5, 1)), np.array([0, 1, 2, 1])

    def objective(moved):
        run = refsnn.forward(net, moved, buffers, x_seq, refsnn.NUMPY)
        return run, *refsnn.objective_forward(run.branches, labels, 0.3, branch_sum, Squared())

    run, _, cache = objective(params)
    grads = refsnn.backward(run, refsnn.objective_backward(cache))
    for name, g in grads.items():
        v = rng.normal(size=g.shape)
        ends = [objective(params | {name: params[name] + s * v})[1] for s in (1e-6, -1e-6)]
        np.testing.assert_allclose((ends[0] - ends[1]) / 2e-6, (g * v).sum(), rtol=1e-5, atol=1e-9)


def named(loss, folder, monkeypatch):
    """Write the class into a module of the working folder, and return its name as a setting."""
    module, code = f"own_{loss.__name__.lower()}", inspect.getsource(loss)
    (folder / f"{module}.py").write_text(f"import numpy as np\n\n\n{code}", encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return f"{module}:{loss.__name__}"


def test_it_is_what_trains_and_what_is_recorded(digits, tmp_path, monkeypatch, capsys):
    loss = named(Squared, tmp_path, monkeypatch)
    options = ["--arch=1-1:4-8", "--epochs=1", "--batch-size=400"]
    assert main(["train", *options, f"--loss={loss}", "--out=own"]) == 0
    assert main(["train", *options, "--out=usual"]) == 0
    own, usual = (load(tmp_path / name / "checkpoint.npz")[0].params for name in ("own", "usual"))
    assert not np.array_equal(own["head.fc.weight"], usual["head.fc.weight"])
    model = refsnn.load("own")
    test = load_digits().test
    logits = model.predict_logits(test.images)
    want = Squared().forward(logits, test.labels)[0]
    np.testing.assert_allclose(model.history[0]["test_loss"], want, rtol=1e-5)
    assert main(["evaluate", "own"]) == 0


class Margin:
    """The mean of minus the label's logit, which is negative where it learns."""

    def forward(self, logits, labels):
        wanted = np.eye(logits.shape[1], dtype=logits.dtype)[labels]
        return float(-(logits * wanted).sum(axis=1).mean()), wanted

    def backward(self, wanted):
        return -wanted / len(wanted)


def test_a_run_whose_loss_is_negative_is_resumed_within_an_epoch(tmp_path, monkeypatch):
    loss = named(Margin, tmp_path, monkeypatch)
    folder, asked = tmp_path / "run", iter(range(1000))
    run = start(folder, make_config(arch="1-1:4-8", epochs=1, loss=loss))
    with pytest.raises(Interrupted):
        run.train(lambda: next(asked) > 20, quiet=True)
    iteration = run.state.iteration
    assert run.state.sums["loss"] < 0
    run = resume(folder)
    assert run.state.iteration == iteration
    run.train(quiet=True)
    assert read_metrics(folder)[0]["loss"] < 0


@pytest.mark.parametrize("given", [3.0, (1, 2, 3), ("a", None), None])
def test_a_value_that_is_no_number_with_a_cache_is_refused(digits, given):
    wrong = Squared()
    wrong.forward = lambda logits, labels: given
    with pytest.raises((TypeError, ValueError), match=r"^loss: want \(number, cache\)"):
        refsnn.fit(*digits, loss=wrong, **SETTINGS)


@pytest.mark.parametrize("shape", [(), (3,), (100,)])
def test_a_gradient_of_another_shape_is_refused(digits, shape):
    wrong = Squared()
    wrong.backward = lambda error: np.zeros(shape)
    with pytest.raises(ValueError, match=r"^loss: got .* from Squared\.backward, want"):
        refsnn.fit(*digits, loss=wrong, **SETTINGS)
