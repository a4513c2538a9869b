"""Faults of spiking layers that users of other libraries reported, and what is said of each.

The reports, all public (LIBRARY #ISSUE or #PULL-REQUEST):

- a slope that overflows: snnTorch #427, #433
- the reset subtracts spike - threshold: snnTorch #140, #413
- arctan's slope without 1/π, and a backward pass with a name that is not defined: snnTorch #411,
  #412; SpikingJelly's ATan with an alpha of its own
- a slope of zero: SpikingJelly #660; spikes without a graph: SpikingJelly #296, #386
- several spikes a step: sinabs #73; whole numbers without a membrane: E-3DSNN #7
- state that is kept from the run before: snnTorch #108, #323, #438, SpikingJelly #591, GeNN #190
- a synaptic current, and one that never decays: snnTorch #358, sinabs #40, Lava #789
- precision that is lost on the way: snnTorch #421, #422
- numbers of their own: snnTorch #341, Norse #302
- gradients of the leak and the threshold: SpikingJelly #151, #360, #604
- a detached reset, which finite differences fail: spytorch #2, #3
- SpikingJelly's LIFNode as it comes
"""

import importlib
from typing import NamedTuple

import layers
import numpy as np
import pytest

from refsnn import Tanh, cases
from refsnn.cli import main
from refsnn.gradcheck import gradcheck, stop_gradient
from refsnn.oracle.conform import conform
from refsnn.oracle.diagnose import diagnose
from refsnn.oracle.functions import InProcess

OMITS = ["du_pre"]
STATE = "state is kept between runs: neuron/tanh-literal"
FAILS_AFTER = f"{STATE} fails after neuron/tanh, passes alone"


class Judged(NamedTuple):
    """What is said of a layer."""

    ids: set[str]  # the cases that were run
    failed: set[str]
    unsupported: set[str]
    report: str
    diagnosis: str  # "" where no case failed or there are no arrays

    def cause(self):
        """Return the sentence that the diagnosis gives for the cause, "" if it has none."""
        _, found, rest = self.diagnosis.partition("these conventions reproduce all ")
        return rest.partition("\n")[0].partition(": ")[2] if found else ""


@pytest.fixture(scope="module")
def judge():
    small = [case for case in cases(["surrogate", "neuron"]) if case.id != "neuron/large"]

    def judged(layer, vectors=small):
        given = {}
        with InProcess(layer) as runner:
            report = conform(
                runner,
                vectors,
                omits=OMITS,
                declared_only=True,
                keep=lambda case, arrays: given.update({case.id: (case, arrays)}),
            )
        named = {
            status: {result.case for result in report.results if result.status == status}
            for status in ("passed", "failed", "unsupported")
        }
        text = ""
        if named["failed"] and given:
            got = {name: arrays for name, (_, arrays) in given.items()}
            precision = report.agrees_as or report.precision
            text = str(diagnose([case for case, _ in given.values()], got, precision))
        ids = set().union(*named.values())
        return Judged(ids, named["failed"], named["unsupported"], str(report), text)

    return judged


ONE_STEP = {"neuron/sweep", "neuron/sweep-low", "neuron/one-step"}
#: layer, the cases that pass, the cause in full
EXPLAINED = [
    ("SpikeMinusThreshold", (), "o - v_th is subtracted, in the place of o v_th; detached reset"),
    (
        "SpikeBeforeInput",
        (),
        "o - v_th is subtracted, a step late; spikes are passed on one time step late; "
        "detached reset",
    ),
    ("Arctan", (), "surrogate is arctan's derivative, alpha = 2"),
    (
        "ArctanOverPi",
        (),
        "surrogate is arctan's derivative, alpha = 2; "
        "the slope is 0.3183 (= 1/π) times the expected everywhere",
    ),
    ("ArctanAlpha5", (), "surrogate is arctan's derivative, alpha = 5"),
    ("ZeroSlope", (), "the slope is zero: no gradient gets through"),
    (
        "SeveralSpikes",
        (),
        "fires at the threshold too (>=); several spikes per step: one for each multiple of v_th "
        "that is passed; soft reset (v_th is subtracted); surrogate alpha/2 exp(-alpha|x|), "
        "alpha = 2; the slope is 2 times the expected everywhere; the slope is a function of "
        "(u_pre - v_th) / v_th, divided by v_th; reset differentiated always",
    ),
    (
        "Synapse",
        ONE_STEP,
        "a synaptic current filters the input: i[t] = 0.5 i[t-1] + c[t]",
    ),
    (
        "SynapseNeverDecays",
        ONE_STEP,
        "a synaptic current sums the input and never decays",
    ),
    ("Tau08", ONE_STEP, "tau = 0.8 always"),
    ("Tau09", ONE_STEP, "tau = 0.9 always"),
    (
        "Tau08Detached",
        ONE_STEP,
        "tau = 0.8 always; fires at the threshold too (>=); detached reset",
    ),
    (
        "Tau09Detached",
        ONE_STEP,
        "tau = 0.9 always; fires at the threshold too (>=); detached reset",
    ),
    ("Threshold03", (), "v_th = 0.3 always"),
    ("Threshold03Detached", (), "v_th = 0.3 always; detached reset"),
    ("TanhK3", (), "surrogate k (1 - tanh²), k = 3"),
    ("RectangleA15", (), "surrogate is rectangular, a = 1.5"),
    ("InputGain", (), "the input is multiplied by 2"),
    (
        "ResetPotential",
        (),
        "fires above the threshold (>) always; the hard reset goes to -0.5, not to zero",
    ),
]


@pytest.mark.parametrize(
    ("name", "passed", "cause"),
    [pytest.param(*row, id=row[0]) for row in EXPLAINED],
)
@pytest.mark.slow_after(3)
def test_the_cause_is_named(judge, name, passed, cause):
    found = judge(getattr(layers, name))
    assert found.cause() == cause
    assert found.ids - found.failed == set(passed)
    assert "state is kept" not in found.report
    assert "agrees as" not in found.report


@pytest.mark.parametrize(
    ("name", "failed", "message"),
    [
        ("SigmoidOverflows", {"surrogate/far-tanh", "neuron/far-tanh"}, "h: got nan at index [22]"),
        ("TanhOfExponentials", {"surrogate/far-tanh", "neuron/far-tanh"}, "h: got nan at index [8"),
    ],
)
def test_overflow_far_from_the_threshold_is_named(judge, name, failed, message):
    """Where the slope is right but for some values, no convention is blamed."""
    found = judge(getattr(layers, name))
    assert found.failed == failed
    assert f"FAILED surrogate/far-tanh: {message}" in found.report
    assert "FAILED neuron/far-tanh: dc: got nan at index [0, " in found.report
    assert "what could be compared matches, no convention differs" in found.diagnosis
    assert not found.cause()


def test_overflow_of_another_slope_is_named_beside_it(judge):
    found = judge(layers.SteepSigmoidOverflows)
    assert found.failed == found.ids - found.unsupported
    assert "surrogate/tanh: h: got nan at index [15], want finite numbers" in found.diagnosis
    assert found.cause() == "surrogate is the sigmoid's derivative, alpha = 25"


@pytest.mark.parametrize("name", ["KeepsPotential", "KeepsPotentialOfAnyShape"])
def test_a_kept_potential_is_named(judge, name):
    found = judge(getattr(layers, name))
    assert found.failed == {"neuron/tanh-literal", "neuron/fresh"}
    assert FAILS_AFTER in found.report
    assert found.cause() == "potentials are kept from the run before"


@pytest.mark.slow
def test_a_kept_spike_is_told_from_a_kept_potential(judge):
    found = judge(layers.KeepsSpike)
    assert found.ids - found.failed == {"neuron/tiny"}
    assert f"{STATE} gives other numbers after neuron/tanh than alone" in found.report
    assert found.cause() == (
        "reset to zero one step late, which discards the new input too; the last spikes are kept "
        "from the run before, not the potentials; reset differentiated always"
    )


def test_a_kept_spike_fails_the_fresh_run_alone_where_the_reset_is_declared(judge):
    pattern = [f"neuron/{name}" for name in ("tanh", "one-neuron", "two-steps", "fresh")]
    declared = cases("neuron", pattern=pattern, conventions={"reset": "zero, next step"})
    found = judge(layers.KeepsSpike, declared)
    assert len(found.ids) == len(pattern)
    assert found.failed == {"neuron/fresh"}
    assert found.cause() == "the last spikes are kept from the run before, not the potentials"


def test_a_kept_spike_without_an_effect_is_not_blamed(judge):
    found = judge(layers.KeepsSpikeInVain)
    assert found.failed == {"neuron/detached-reset"}
    assert found.cause() == "reset differentiated always"
    assert "kept" not in found.report + found.diagnosis


@pytest.mark.slow
def test_a_layer_without_a_membrane(judge):
    found = judge(layers.NoMembrane)
    assert found.failed == found.ids
    assert "no potential is kept (tau = 0) always" in found.diagnosis
    assert "several spikes per step" in found.diagnosis


@pytest.mark.slow
def test_wrong_gradients_of_parameters_are_not_passed_over(judge):
    found = judge(layers.WrongParameterGradients)
    assert found.failed == found.ids
    assert "FAILED neuron/tanh: dtau: expected -3.3079" in found.report
    assert "outputs that then agree: u_pre, o, u, dc; outputs that differ: dtau, dv_th" in (
        found.diagnosis
    )
    assert "not returned, so not compared: du_pre, du0, dtau, dv_th" in judge(layers.Right).report


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        (
            "ComputesInFloat32",
            {"neuron/grid", "neuron/edge-outside", "neuron/edge-inside", "neuron/far-rectangle"},
        ),
        ("ComputesInFloat16", {"neuron/grid", "neuron/edge-outside"}),
    ],
)
@pytest.mark.slow
def test_a_lower_precision_than_the_arrays_is_named(judge, name, passed):
    found = judge(getattr(layers, name))
    as_float = name.removeprefix("ComputesIn").lower()
    assert found.ids - found.failed == passed
    assert f"agrees as {as_float}: something computes in {as_float}" in found.report
    assert "everything matches, no convention differs" in found.diagnosis


RIGHT = ["Right", "Booleans", "Bytes", "OddArrays", "Lists", "right"]


@pytest.mark.parametrize("name", RIGHT)
def test_right_layers_pass(judge, name):
    found = judge(getattr(layers, name))
    assert not found.failed
    assert all(case.startswith("surrogate/") for case in found.unsupported)
    assert bool(found.unsupported) == (name == "right")


def test_float16_is_judged_with_its_own_tolerances(judge):
    found = judge(layers.Float16)
    assert not found.failed
    assert "neuron/tanh" in found.ids - found.unsupported
    assert all(case.startswith(("neuron/far-", "neuron/tiny")) for case in found.unsupported)
    assert "FLIPPED neuron/tie: o at step 0" in found.report


# ---- reports on autograd


@pytest.fixture
def autograd():
    pytest.importorskip("torch")
    return importlib.import_module("autograd_layers")


@pytest.mark.parametrize("name", ["Right", "Half", "Declared"])
def test_right_layers_in_pytorch_pass(judge, autograd, name):
    found = judge(getattr(autograd, name))
    assert not found.failed
    assert "neuron/tanh" in found.ids - found.unsupported
    assert bool(found.unsupported) == (name != "Right")


@pytest.mark.parametrize(
    ("name", "messages"),
    [
        (
            "UndefinedName",
            (
                "raised: NameError: name 'potential' is not defined (autograd_layers.py:",
                ", in backward: return do / (1 + (math.pi * potential) ** 2)",
            ),
        ),
        (
            "NoGraph",
            (
                "raised: RuntimeError: element 0 of tensors does not require grad",
                "(autograd_layers.py:",
                ", in run: o.backward(",
            ),
        ),
        (
            "BFloat16",
            (
                "gave no arrays: u_pre: got Tensor, want an array: ",
                '; NumPy has none: return float32 arrays and declare precision = "bfloat16"',
            ),
        ),
    ],
)
def test_what_is_raised_is_told_with_its_line(judge, autograd, name, messages):
    found = judge(getattr(autograd, name))
    assert found.failed == found.ids
    assert not found.diagnosis
    (line,) = (line for line in found.report.splitlines() if line.startswith("FAILED"))
    for message in messages:
        assert message in line


def test_bfloat16_as_float32_is_recognised(judge, autograd):
    found = judge(autograd.BFloat16AsFloat32)
    assert found.failed == found.ids
    assert "agrees as bfloat16" in found.report
    assert "(--precision bfloat16 judges it as that)" in found.report
    assert "everything matches, no convention differs" in found.diagnosis


def test_spikingjelly_as_it_comes(judge, autograd):
    pytest.importorskip("spikingjelly")
    found = judge(autograd.SpikingJellyAsItComes)
    assert found.failed == found.ids
    assert found.cause() == (
        "tau = 0.5 always; the input is scaled by 1 - tau; v_th = 1 always; fires at the threshold "
        "too (>=); surrogate is the sigmoid's derivative, alpha = 4; reset differentiated always"
    )
    assert "they are those of SpikingJelly 2.0: LIFNode(), with nothing else set" in found.diagnosis


# ---- a detached reset under finite differences


@pytest.mark.parametrize(("stop", "passes"), [(stop_gradient, True), (lambda o: o, False)])
def test_a_detached_reset_passes_once_it_is_said(stop, passes):
    tanh, tau = Tanh(), 0.5

    def forward(c):
        u, kept = np.zeros_like(c[0]), []
        for c_t in c:
            u_pre = tau * u + c_t
            o = tanh.primitive(u_pre - 1, 1.0)
            u = u_pre * (1 - stop(o))
            kept.append((u_pre, o))
        return np.stack([o for _, o in kept]), kept

    def backward(do, kept):
        dc, du = np.empty_like(do), 0.0
        for t in reversed(range(len(do))):
            u_pre, o = kept[t]
            dc[t] = do[t] * tanh.slope(u_pre - 1, 1.0) + du * (1 - o)
            du = tau * dc[t]
        return dc

    c = np.random.default_rng(0).normal(size=(4, 3))
    assert gradcheck(forward, backward, {"c": c}).passed == passes


# ---- the command


@pytest.mark.processes
@pytest.mark.parametrize(
    ("name", "code", "texts"),
    [
        ("layers:Booleans", 0, ("33 passed, in ",)),
        (
            "layers:KeepsPotential",
            1,
            (
                "31 passed, 2 failed",
                FAILS_AFTER,
                "reproduce all 33 cases: potentials are kept from the run before\n",
            ),
        ),
        (
            "layers:SpikeMinusThreshold",
            1,
            (
                "0 passed, 33 failed",
                "reproduce all 33 cases: o - v_th is subtracted, in the place of o v_th; "
                "detached reset\n",
            ),
        ),
    ],
)
def test_the_command_says_so_too(monkeypatch, capsys, name, code, texts):
    monkeypatch.syspath_prepend(layers.__file__.rpartition("layers.py")[0])
    monkeypatch.chdir(layers.__file__.rpartition("layers.py")[0])
    assert main(["conform", name, "--omit", *OMITS, "--diagnose"]) == code
    out = capsys.readouterr().out
    for text in texts:
        assert text in out
