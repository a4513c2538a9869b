"""The first divergence is the one that came first, and rounding is told from an error of logic."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refsnn.oracle import compare
from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import make_conventions
from refsnn.oracle.order import groups, places
from refsnn.oracle.recompute import recompute

ULP = 2.0**-23


def outputs_of(case):
    return {name: value.copy() for name, value in case.outputs.items()}


def moved(case, *changes):
    """The outputs with numbers of tolerances (of float64) added: (name, index, how many)."""
    got = outputs_of(case)
    for name, index, times in changes:
        got[name][index] += times * case.tolerances[name]["float64"]
    return got


def first(result):
    return result.first.tensor, result.first.step, result.first.index


@pytest.fixture
def near(cases):
    """Makes a case of one layer, 3 steps and 2 neurons, whose first neuron is `ulps` of float32
    off the threshold at the second step."""

    def make(ulps=1.0, v_th=1.0, **changes):
        eps = ulps * float(np.spacing(np.float32(v_th)))
        c = np.array([[0.0, 0.2], [v_th + eps, 0.2], [0.3, 0.2]])
        inputs = {"c": c, "do": np.ones((3, 2))}
        conventions = make_conventions({"v_th": v_th})
        outputs = compute("neuron", inputs, {}, conventions)
        tolerances = {k: {"float64": 1e-10, "float32": 1e-4} for k in outputs}
        case = replace(
            cases["neuron/tanh"],
            conventions=conventions,
            inputs=inputs,
            outputs=outputs,
            tolerances=tolerances,
        )
        return replace(case, **changes)

    return make


def flipped(case, shift=None):
    """The spike missing at step 1, as where u_pre is `shift` ulps lower, and what follows."""
    v_th = case.conventions["v_th"]
    shift = 2.0 * float(case.outputs["u_pre"][1, 0] - v_th) / ULP if shift is None else shift
    inputs = {k: v.copy() for k, v in case.inputs.items()}
    inputs["c"][1, 0] -= shift * ULP
    return compute("neuron", inputs, {}, case.conventions)


def test_expected_agrees_with_itself(cases):
    for case in cases.values():
        for precision in ("float64", "float32"):
            result = compare_case(case, case.outputs, precision)
            assert result.passed
            assert result.lines() == []
            assert result.agreed == 1
            assert list(result.tensors) == list(case.outputs)
            assert {t["error"] for t in result.tensors.values()} == {0.0}
            assert {t["status"] for t in result.tensors.values()} == {"ok"}


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_one_wrong_element_is_named_and_nothing_else(cases, data):
    case = cases[data.draw(st.sampled_from(sorted(cases)))]
    name = data.draw(st.sampled_from(list(case.outputs)))
    shape = case.outputs[name].shape
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    sign = data.draw(st.sampled_from([-1, 1]))
    precision = data.draw(st.sampled_from(["float64", "float32"]))
    got = outputs_of(case)
    got[name][index] += sign * 10 * case.tolerances[name][precision]
    result = compare_case(case, got, precision)
    found = result.first
    whole = found.index if found.step is None else (found.step, *found.index)
    assert (found.tensor, whole) == (name, index)
    assert found.error == pytest.approx(10, rel=1e-3)
    assert (found.expected, found.got) == (case.outputs[name][index], got[name][index])
    assert {n for n, t in result.tensors.items() if t["status"] != "ok"} == {name}
    assert not result.problems
    assert not result.flips


def test_just_within_tolerance_passes_and_just_beyond_fails(cases):
    case = cases["neuron/tanh"]
    assert compare_case(case, moved(case, ("u_pre", (2, 3), 0.99))).passed
    assert not compare_case(case, moved(case, ("u_pre", (2, 3), 1.01))).passed
    assert compare_case(case, moved(case, ("u_pre", (2, 3), 1.01)), "float32").passed


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # a spike at step 0 comes before the potential at step 1 that follows from it
        ([("u_pre", (1, 4), 50), ("o", (0, 4), 50)], ("o", 0, (4,))),
        # within a step: potential, spike, potential after reset
        ([("u", (2, 1), 50), ("o", (2, 1), 50), ("u_pre", (2, 9), 50)], ("u_pre", 2, (9,))),
        ([("u", (2, 1), 50), ("o", (2, 7), 50)], ("o", 2, (7,))),
        # backward from the last step, after all of the forward pass
        ([("du_pre", (1, 0), 50), ("du_pre", (4, 3), 50), ("dc", (2, 0), 50)], ("du_pre", 4, (3,))),
        ([("du_pre", (3, 0), 50), ("dc", (4, 2), 50)], ("dc", 4, (2,))),
        ([("du_pre", (5, 0), 50), ("u", (5, 2), 50)], ("u", 5, (2,))),
    ],
)
def test_neurons_are_read_in_the_order_of_computing(cases, changes, expected):
    case = cases["neuron/tanh"]
    assert first(compare_case(case, moved(case, *changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (["stage1.block0.lif1.u_pre", "stem.lif0.o"], "stem.lif0.o"),
        (["stage1.block0.lif2.u_pre", "stage1.block0.lif1.u"], "stage1.block0.lif1.u"),
        (["head.logits", "branch.stage1.logits"], "branch.stage1.logits"),
        (["stage2.block0.lif1.u_pre", "branch.stage1.logits"], "branch.stage1.logits"),
        (["loss", "head.logits"], "head.logits"),
        (["stem.lif0.du_pre", "stage3.block0.lif2.du_pre"], "stage3.block0.lif2.du_pre"),
        (["grad.stem.conv0.weight", "stem.lif0.du_pre"], "stem.lif0.du_pre"),
    ],
)
def test_networks_are_read_layer_by_layer(cases, changes, expected):
    case = cases["network/evolutionary"]
    got = moved(case, *[(n, (0,) * case.outputs[n].ndim, 50) for n in changes])
    assert compare_case(case, got).first.tensor == expected


def test_an_earlier_layers_last_step_comes_before_a_later_layers_first(cases):
    case = cases["network/evolutionary"]
    got = moved(
        case,
        ("stem.lif0.u", (2, 0, 0, 0, 0), 50),
        ("stage1.block0.lif1.u_pre", (0, 0, 0, 0, 0), 50),
    )
    assert compare_case(case, got).first.tensor == "stem.lif0.u"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # what an iteration's rate is goes before its loss, what it makes of the parameters after
        ([("loss", (0,), 50), ("lr", (1,), 50)], ("loss", 0, ())),
        ([("loss", (1,), 50), ("lr", (1,), 50)], ("lr", 1, ())),
        (
            [("loss", (1,), 50), ("first.head.fc.bias", (2,), 50)],
            ("first.head.fc.bias", None, (2,)),
        ),
        ([("loss", (9,), 50), ("last.head.fc.bias", (2,), 50)], ("loss", 9, ())),
        (
            [("new.stem.bn0.running_mean", (0,), 50), ("last.head.fc.bias", (2,), 50)],
            ("last.head.fc.bias", None, (2,)),
        ),
    ],
)
def test_trainings_are_read_iteration_by_iteration(cases, changes, expected):
    case = cases["training/evolutionary"]
    result = compare_case(case, moved(case, *changes))
    assert first(result) == expected
    assert ("iteration" in str(result.first)) == (expected[1] is not None)


def test_order_does_not_depend_on_the_order_of_what_was_given(cases):
    case = cases["neuron/tanh"]
    got = moved(case, ("u_pre", (1, 4), 50), ("o", (0, 4), 50))
    assert compare_case(case, dict(reversed(got.items()))).first.tensor == "o"


def test_every_part_is_looked_at_once(cases):
    for case in cases.values():
        seen = list(places(case, list(case.outputs)))
        assert len(set(seen)) == len(seen)
        assert {place.tensor for place in seen} == set(case.outputs)
        for group in groups(case, list(case.outputs)) if case.level != "training" else ():
            steps = {place.step for place in seen if place.tensor in group}
            assert steps == {None} or steps == set(range(len(case.outputs[group[0]])))


# rounding flips


@pytest.mark.parametrize("v_th", [1.0, 0.5])
def test_a_flip_by_rounding_is_told_and_excused(near, v_th):
    case = near(ulps=2, v_th=v_th)
    result = compare_case(case, flipped(case), "float32")
    assert result.passed
    assert result.first is None
    (flip,) = result.flips
    assert (flip.tensor, flip.step, flip.index) == ("o", 1, (0,))
    assert flip.ulps == 2
    assert result.lines() == [
        "neuron/tanh: rounding flip, not counted: o at step 1, index [0]: expected 1, got 0 "
        "(1e+04 times the tolerance); expected u_pre is 2 float32 ulps above the threshold"
    ]
    assert {tensor["status"] for tensor in result.tensors.values()} == {"ok"}
    assert result.agreed == 1


@pytest.mark.parametrize("name", ["u_pre", "o", "u", "du_pre", "dc"])
@pytest.mark.parametrize("at", [(0, 1), (2, 0), (2, 1)])
def test_outputs_at_and_after_a_flip_are_compared(near, name, at):
    """The neuron that flipped is compared with the consequences of the other spike."""
    case = near(ulps=2)
    got = flipped(case)
    got[name][at] += 1 if name == "o" else 10 * case.tolerances[name]["float32"]
    result = compare_case(case, got, "float32")
    assert first(result) == (name, at[0], at[1:])
    assert [flip.index for flip in result.flips] == [(0,)] * (at[0] > 0 or name in ("du_pre", "dc"))


@pytest.fixture
def rounded(cases):
    """A case whose potential next to the threshold in each of these layers is brought to 1e-7
    above it by the layer's bias; and the same case where it is brought 1e-7 below."""

    def make(name, layers):
        case = cases[name]
        given = {k: v.copy() for k, v in case.inputs.items()}
        theirs = {k: v.copy() for k, v in given.items()}
        for layer in layers:
            u_pre = recompute(replace(case, inputs=theirs)).outputs[f"{layer}.u_pre"][:1]
            at = np.unravel_index(np.abs(u_pre - 1).argmin(), u_pre.shape)
            bias = layer.replace("lif", "bn") + ".bias"
            theirs[bias][at[2]] -= u_pre[at] - 1 + 1e-7
            given[bias][at[2]] = theirs[bias][at[2]] + 2e-7
        return [recompute(replace(case, inputs=inputs)) for inputs in (given, theirs)]

    return make


LAYERS = {
    "block/stride": ["lif1", "lif2"],
    "network/evolutionary": ["stem.lif0", "stage1.block0.lif2", "stage3.block0.lif1"],
}


@pytest.mark.parametrize("name", LAYERS)
def test_after_each_flip_the_rest_is_compared_with_what_follows_from_it(rounded, name):
    case, theirs = rounded(name, LAYERS[name])
    got = theirs.outputs
    result = compare_case(case, got, "float32")
    assert result.passed
    flipped = dict.fromkeys(flip.tensor for flip in result.flips)  # the bias moves others, too
    assert list(flipped) == [f"{layer}.o" for layer in LAYERS[name]]
    assert max(tensor["error"] for tensor in result.tensors.values()) < 0.1
    for wrong in (LAYERS[name][-1] + ".u", LAYERS[name][0] + ".du_pre", list(got)[-1]):
        result = compare_case(case, got | {wrong: got[wrong] * 1.01}, "float32")
        assert result.first.tensor == wrong
        assert {n for n, t in result.tensors.items() if t["status"] != "ok"} == {wrong}


def test_flips_are_excused_under_other_conventions_too(rounded):
    case, theirs = rounded("network/evolutionary", LAYERS["network/evolutionary"])
    detached = {"reset_gradient": "detached"}
    got = recompute(theirs, detached).outputs
    assert compare_case(recompute(case, detached), got, "float32").passed
    result = compare_case(case, got, "float32")
    assert result.first.tensor.endswith("du_pre")
    assert len(result.flips) >= 3


@pytest.mark.parametrize("tie", [False, True])
def test_flips_are_told_where_spikes_are_not_shown(near, tie):
    """They follow from the potentials."""
    case = recompute(near(ulps=-1 if tie else 0), {"fire_at_threshold": tie})
    case = replace(case, tolerances=near().tolerances)
    got = recompute(case, decided={"o": one_flip(case)}).outputs
    got["u_pre"][1, 0] += ULP  # from the threshold to above it, or from below to the threshold
    del got["o"]
    result = compare_case(case, got, "float32", ["o"])
    assert result.passed, result.lines()
    assert [(flip.tensor, flip.step, flip.index) for flip in result.flips] == [("o", 1, (0,))]
    assert "o" not in result.tensors


def one_flip(case):
    o = np.full_like(case.outputs["o"], np.nan)
    o[1, 0] = 1 - case.outputs["o"][1, 0]
    return o


def test_a_late_output_excuses_nothing(rounded):
    """Its spikes are those of the potentials a step before."""
    case, theirs = rounded("block/stride", ["lif1"])
    late = recompute(case, {"output": "one step late"})
    got = late.outputs | {"lif1.o": theirs.outputs["lif1.o"]}
    del got["lif1.u_pre"]
    assert not compare_case(late, got, "float32", ["lif1.u_pre"]).flips


def test_beyond_rounding_it_is_no_flip(near):
    """As far as u_pre may be off, a spike may be too: 1e-4 here, 839 ulps."""
    case = near(ulps=845)
    got = flipped(case) | {"u_pre": case.outputs["u_pre"]}
    assert first(compare_case(case, got, "float32")) == ("o", 1, (0,))
    case = near(ulps=400)
    assert compare_case(case, flipped(case), "float32").passed


def test_rounding_of_float32_is_not_excused_in_float64(near):
    case = near(ulps=1)
    assert compare_case(case, flipped(case), "float32").passed
    result = compare_case(case, flipped(case), "float64")
    assert first(result) == ("u_pre", 1, (0,))
    del (got := flipped(case))["u_pre"]
    assert first(compare_case(case, got, "float64", ["u_pre"])) == ("o", 1, (0,))


def test_exact_cases_excuse_nothing(near):
    case = near(ulps=1, exact=True)
    result = compare_case(case, flipped(case), "float32")
    assert first(result) == ("o", 1, (0,))
    assert not result.flips


def test_a_potential_out_of_tolerance_is_named_before_the_spike(near):
    case = near(ulps=2)
    got = flipped(case, shift=2e-3 / ULP)
    result = compare_case(case, got, "float32")
    assert first(result) == ("u_pre", 1, (0,))


def test_a_spike_that_does_not_follow_from_its_potential_is_no_flip(near):
    """u_pre is above the threshold on both sides, and one does not fire."""
    case = near(ulps=2)
    got = flipped(case)
    got["u_pre"] = case.outputs["u_pre"]
    assert first(compare_case(case, got, "float32")) == ("o", 1, (0,))
    del got["u_pre"]  # then nobody can tell
    assert compare_case(case, got, "float32", omits=["u_pre"]).passed


def test_a_spike_that_is_neither_0_nor_1_is_no_flip(near):
    case = near(ulps=2)
    got = flipped(case)
    got["o"][1, 0] = 0.5
    assert first(compare_case(case, got, "float32")) == ("o", 1, (0,))
    del got["u_pre"]
    assert first(compare_case(case, got, "float32", omits=["u_pre"])) == ("o", 1, (0,))


def test_a_wrong_spike_beside_a_flip_is_named(near):
    case = near(ulps=2)
    got = flipped(case)
    got["o"][1, 1] = 1 - got["o"][1, 1]
    result = compare_case(case, got, "float32")
    assert first(result) == ("o", 1, (1,))
    assert [flip.index for flip in result.flips] == [(0,)]


def test_a_tie_is_named_as_one(cases):
    case = cases["neuron/tie"]
    got = compute("neuron", case.inputs, {}, case.conventions | {"fire_at_threshold": True})
    (line,) = compare_case(case, got).lines()
    assert line.startswith("neuron/tie: o at step 0, index [0]: expected 0, got 1 (")
    assert line.endswith("tolerance); expected u_pre is on the threshold")


def test_distances_below_the_threshold_say_so(cases):
    case = cases["neuron/tanh"]
    got = outputs_of(case)
    u_pre = np.where(case.outputs["u_pre"] < 1, case.outputs["u_pre"], -np.inf)
    at = np.unravel_index(u_pre.argmax(), u_pre.shape)
    got["o"][at] = 1
    result = compare_case(case, got)
    assert result.first.ulps == pytest.approx((u_pre[at] - 1) / ULP)
    assert "float32 ulps below the threshold" in str(result.first)


def test_scalars_have_no_place(cases):
    case = cases["network/vanilla"]
    (line,) = compare_case(case, moved(case, ("loss", (), 50))).lines()
    assert line.startswith("network/vanilla: loss: expected ")
    assert line.endswith("(50 times the tolerance)")


def test_other_precisions_are_refused(cases):
    with pytest.raises(ValueError, match="precision: got 'float8', want one of float64, float32"):
        compare_case(cases["neuron/tie"], {}, "float8")


def test_given_arrays_are_not_written_into(cases):
    case = cases["neuron/tanh"]
    got = moved(case, ("u_pre", (2, 3), 50))
    before = {name: value.copy() for name, value in got.items()}
    compare.compare_case(case, got)
    for name, value in got.items():
        np.testing.assert_array_equal(value, before[name])


def test_an_output_that_is_another_is_told(cases):
    case = cases["neuron/tanh"]
    result = compare_case(case, outputs_of(case) | {"u_pre": case.outputs["u"]})
    assert result.tensors["u_pre"]["is"] == "u"
    assert result.lines()[1] == "neuron/tanh: u_pre has the values of u"
    assert "is" not in compare_case(case, moved(case, ("u", (0, 0), 50))).tensors["u"]


def test_zeros_are_no_other_output(cases):
    case = cases["neuron/silent"]  # without a spike
    assert not case.outputs["o"].any()
    result = compare_case(
        case, outputs_of(case) | {"du_pre": np.zeros_like(case.outputs["du_pre"])}
    )
    assert result.first.tensor == "du_pre"
    assert "is" not in result.tensors["du_pre"]


def test_missing_outputs_are_listed(cases):
    case = cases["neuron/tanh"]
    result = compare_case(case, {"o": case.outputs["o"], "dc": case.outputs["dc"]}, omits=["*"])
    assert result.omitted == ["u_pre", "u", "du_pre", "du0", "dtau", "dv_th"]
    assert list(result.tensors) == ["o", "dc"]
