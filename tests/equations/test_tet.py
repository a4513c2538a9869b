"""The loss of TET: numbers worked by hand, its limits, what it refuses, and training with it."""

import json
import re

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.equations.loss import CROSS_ENTROPY, is_per_step
from refsnn.equations.tet import TET
from refsnn.network import (
    Network,
    architecture,
    backward,
    encode,
    forward,
    init_buffers,
    init_params,
    outputs,
)
from refsnn.ops import LIF, NUMPY
from refsnn.training.config import make_config


def test_two_steps_worked_by_hand():
    """p is 1/2 at both steps; the pull is that of 1, 1, 3, 3 towards 2."""
    b = np.array([[[1.0, 1.0]], [[3.0, 3.0]]])
    loss = TET(lam=0.25, phi=2.0)
    value, cache = loss.forward(b, np.array([1]))
    assert value == pytest.approx(0.75 * np.log(2) + 0.25 * 1)
    pull, entropy = 2 * 0.25 / 4, 0.75 * 0.5 / 2
    want = [[[entropy - pull, -entropy - pull]], [[entropy + pull, -entropy + pull]]]
    np.testing.assert_allclose(loss.backward(cache), want, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_without_pull_is_the_cross_entropy_bit_for_bit(dtype):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 5)).astype(dtype), rng.integers(0, 5, 7)
    value, cache = TET(lam=0.0).forward(logits[None], labels)
    want, plain = CROSS_ENTROPY.forward(logits, labels)
    assert value == want
    got = TET(lam=0.0).backward(cache)
    assert got.dtype == dtype
    assert np.array_equal(got[0], CROSS_ENTROPY.backward(plain))


def test_losses_say_whether_they_take_every_step():
    assert is_per_step(TET())
    assert not is_per_step(CROSS_ENTROPY)


@pytest.mark.parametrize("readout", ["mean", "sum"])
@pytest.mark.parametrize("side", [0.0, 0.25])
def test_gradients_of_a_network_equal_differences(readout, side):
    rng, loss = np.random.default_rng(3), TET(0.3, 0.8)
    lif = LIF(smooth=True)
    net = Network(architecture("1-1:3-4"), 2, 3, lif=lif, readout=readout)
    params, buffers = init_params(net, rng), init_buffers(net)
    x_seq, labels = encode(rng.normal(size=(4, 6, 6, 2)), 3), rng.integers(0, 3, 4)

    def whole(params):
        run = forward(net, params, buffers, x_seq, NUMPY)
        given = outputs(run, loss), labels, side, "logits", loss
        return run, *NUMPY.objective_forward(*given)

    run, _, cache = whole(params)
    assert [b.shape for b in outputs(run, loss)] == [(3, 4, 3)] * 2
    grads = backward(run, NUMPY.objective_backward(cache))
    v = {name: rng.normal(size=p.shape) for name, p in params.items()}
    h = 1e-5
    above, below = (whole({n: p + s * v[n] for n, p in params.items()})[1] for s in (h, -h))
    assert sum((grads[n] * v[n]).sum() for n in v) == pytest.approx(
        (above - below) / (2 * h), rel=1e-6
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lam": -0.1}, "lam: got -0.1, want a weight in [0, 1]"),
        ({"lam": 1.5}, "lam: got 1.5"),
        ({"lam": np.nan}, "lam: got nan"),
        ({"phi": np.inf}, "phi: got inf, want a finite number"),
    ],
)
def test_bad_numbers_are_refused(given, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        TET(**given)


def test_logits_of_one_step_are_refused():
    with pytest.raises(ValueError, match=r"logits: got shape \(3, 4\), want \(T, N, K\)"):
        TET().forward(np.zeros((3, 4)), np.zeros(3, int))


def test_settings_make_it_with_the_threshold_for_a_target():
    assert make_config(loss="tet", v_th=0.5).make_loss() == TET(1e-3, 0.5)
    assert make_config(loss="tet", tet_lam=0.05, tet_phi=2.0).make_loss() == TET(0.05, 2.0)
    with pytest.raises(ValueError, match=r"tet_phi: got 1.0, want it for loss tet alone"):
        make_config(tet_phi=1.0)
    with pytest.raises(ValueError, match=r"tet_lam: got 2.0, want a weight"):
        make_config(loss="tet", tet_lam=2.0)
    with pytest.raises(ValueError, match="loss: got 'tett', did you mean tet"):
        make_config(loss="tett")


def test_labels_and_steps_are_checked():
    with pytest.raises(ValueError, match=r"labels: got shape \(1, 3\)"):
        TET().forward(np.zeros((2, 3, 4)), np.zeros((1, 3), int))
    with pytest.raises(ValueError, match="want at least one time step"):
        TET().forward(np.zeros((0, 3, 4)), np.zeros(3, int))


def test_a_run_trains_and_is_tested_with_it(tmp_path, capsys):
    run = tmp_path / "run"
    given = ["--arch=1-1:4-8", "--epochs=1", "--batch-size=200", "--ops=numpy", "--steps=3"]
    assert main(["train", "--loss=tet", "--tet-lam=1", "--out", str(run), *given]) == 0
    summary = json.loads((run / "summary.json").read_text())
    assert summary["test_accuracy"] < 0.3  # a pull alone teaches nothing
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 2  # the mean square of logits around 0, minus 1
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["test_loss"] == pytest.approx(summary["test_loss"])
    assert main(["gradients", str(run)]) == 0
    assert main(["export", str(run), str(tmp_path / "net.npz")]) == 0
