"""The loss of each time step's logits, and its mean."""

import numpy as np
import pytest

from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import make_conventions
from refsnn.oracle.recompute import recompute

EACH = {"loss_at": "each step"}


def stepwise_logits(case, conventions):
    """Return each branch's logits (T, N, K) of single steps, as differences of sums over time.

    Frozen statistics and no later step change what a step computes.
    """
    names = [name for name in case.outputs if name.endswith(".logits")]
    sums = [
        compute("network", case.inputs, {**case.settings, "steps": steps}, conventions)
        for steps in range(1, case.settings["steps"] + 1)
    ]
    return {
        name: np.diff([0 * sums[0][name], *(one[name] for one in sums)], axis=0) for name in names
    }


def cross_entropy(logits, labels):
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -log_p[np.arange(len(labels)), labels].mean()


@pytest.mark.parametrize("branch_sum", ["logits", "losses"])
def test_it_is_the_mean_of_losses_of_separately_computed_steps(cases, branch_sum):
    case = cases["network/evolutionary"]
    given = {"norm_statistics": "frozen", "readout": "sum", "branch_sum": branch_sum}
    steps = stepwise_logits(case, make_conventions(given))
    assert steps["head.logits"].shape == (3, 3, 4)
    assert np.ptp(steps["head.logits"], axis=0).max() > 0.1  # the steps differ
    *sides, main = steps.values()
    side, labels = case.settings["side"], case.inputs["labels"]
    if branch_sum == "logits":
        losses = [
            cross_entropy(main[t] + side * sum(b[t] for b in sides), labels) for t in (0, 1, 2)
        ]
    else:
        losses = [
            cross_entropy(main[t], labels) + side * sum(cross_entropy(b[t], labels) for b in sides)
            for t in (0, 1, 2)
        ]
    for readout in ("mean", "sum"):  # the readout is of the logits that are shown
        found = recompute(case, given | EACH | {"readout": readout}).outputs
        assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-13)
        shown = main.mean(0) if readout == "mean" else main.sum(0)
        np.testing.assert_allclose(found["head.logits"], shown, rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    "given",
    [{}, {"branch_sum": "losses"}, {"loss": "sum"}, {"branches_counted": "main twice"}],
    ids=str,
)
@pytest.mark.parametrize("readout", ["mean", "sum"])
def test_heads_have_its_gradient(cases, given, readout):
    """The loss is smooth in them, so that differences show it."""
    case = cases["network/evolutionary"]
    given = given | EACH | {"readout": readout}
    found = recompute(case, given).outputs
    heads = [name for name in case.inputs if ".fc." in name]
    assert len(heads) == 6
    for name in heads:
        for flat in (0, 2):
            at = np.unravel_index(flat, case.inputs[name].shape)
            step = np.zeros_like(case.inputs[name])
            step[at] = 1e-5
            high, low = (
                compute(
                    "network",
                    case.inputs | {name: case.inputs[name] + sign * step},
                    case.settings,
                    make_conventions(given),
                )["loss"]
                for sign in (1, -1)
            )
            assert found[f"grad.{name}"][at] == pytest.approx((high - low) / 2e-5, rel=1e-6)


def test_one_step_is_the_mean(cases):
    for name in ("network/one-step", "training/one-step"):
        case = cases[name]
        assert case.settings["steps"] == 1
        for output, value in recompute(case, EACH).outputs.items():
            np.testing.assert_allclose(value, case.outputs[output], rtol=0, atol=1e-14)


def test_the_last_neurons_get_each_steps_own_share(cases):
    """dL/du_pre of the last step is h W^T (softmax(b[T]) - y) / (T N H W)."""
    case = cases["network/vanilla"]
    given = EACH | {"norm_statistics": "frozen"}
    main = stepwise_logits(case, make_conventions(given | {"readout": "sum"}))["head.logits"][-1]
    found = recompute(case, given).outputs
    labels, weight = case.inputs["labels"], case.inputs["head.fc.weight"]
    p = np.exp(main) / np.exp(main).sum(1, keepdims=True)
    dlogits = (p - np.eye(4)[labels]) / (3 * len(labels))
    u_pre = found["stage3.block0.lif2.u_pre"][-1]
    h = 0.5 * (1 - np.tanh(u_pre - 1) ** 2)
    want = h * (dlogits @ weight)[:, :, None, None] / (u_pre.shape[2] * u_pre.shape[3])
    np.testing.assert_allclose(found["stage3.block0.lif2.du_pre"][-1], want, rtol=0, atol=1e-14)


def test_counted_out_branches_get_nothing(cases):
    case = cases["network/evolutionary"]
    logits = next(name for name in case.outputs if name.endswith(".logits"))
    first = logits.replace(".logits", ".fc.weight")
    got = recompute(case, EACH | {"branches_counted": "first missing"}).outputs
    assert not got[f"grad.{first}"].any()
    assert recompute(case, EACH).outputs[f"grad.{first}"].any()
