"""The oracle from Python: `refsnn.cases`, `compare`, `diagnose` and `conform`."""

import numpy as np
import pytest

import refsnn
from refsnn.oracle import cases
from refsnn.oracle.recompute import recompute

(TIE,) = refsnn.cases(pattern="neuron/tie")


class Right:
    """refsnn's own computation of the surrogate's and the neuron's level."""

    levels = ("surrogate", "neuron")

    def run(self, case):
        return recompute(case).outputs


class AtThreshold(Right):
    """The same, but that it fires at the threshold too."""

    levels = ("neuron",)

    def run(self, case):
        return recompute(case, {"fire_at_threshold": True}).outputs


class Nosy(Right):
    """It looks at the expected values, and writes into its inputs."""

    def run(self, case):
        assert all(np.isnan(array).all() for array in case.outputs.values())
        outputs = super().run(case)
        for array in case.inputs.values():
            array[...] = 0
        return outputs


class Keeps(Right):
    """It starts from the potentials that the case before left."""

    levels = ("neuron",)
    kept = 0.0

    def run(self, case):
        outputs = super().run(case)
        kept, self.kept = self.kept, float(outputs["u"][-1, 0])
        return outputs | {"u_pre": outputs["u_pre"] + kept}


def test_a_class_is_made_anew_where_it_keeps_state():
    given = refsnn.cases("neuron", pattern=["neuron/tanh*", "neuron/authors"])
    report = refsnn.conform(Keeps, given)
    assert report.unsteady == (
        "state is kept between runs: neuron/tanh-literal fails after neuron/tanh, passes alone"
    )
    assert [r.status for r in report.results] == ["passed", "failed", "passed"]
    report = refsnn.conform(Keeps(), given)  # an object can't be made anew
    assert not report.unsteady
    assert [r.status for r in report.results] == ["passed", "failed", "failed"]


def test_cases_are_chosen_by_level_and_pattern():
    neurons = refsnn.cases("neuron")
    assert {case.level for case in neurons} == {"neuron"}
    both = refsnn.cases(("surrogate", "neuron"), pattern=["*tie*", "surrogate/*"])
    assert (
        {"neuron/tie"}
        < {case.id for case in both}
        < {c.id for c in refsnn.cases(["surrogate", "neuron"])}
    )


def test_cases_are_read_from_a_folder_too(tmp_path):
    from refsnn.oracle import vectors

    want = refsnn.cases("neuron", pattern="neuron/tie*")
    vectors.write(want, tmp_path)
    got = refsnn.cases(vectors=tmp_path)
    assert [case.id for case in got] == [case.id for case in want]
    assert all(
        np.array_equal(a.outputs["o"], b.outputs["o"]) for a, b in zip(got, want, strict=True)
    )


def test_compare_tells_right_from_wrong():
    (tie,) = refsnn.cases(pattern="neuron/tie")
    right, wrong = (refsnn.compare(tie, mine().run(tie)) for mine in (Right, AtThreshold))
    assert right.passed
    assert right
    assert str(right) == "neuron/tie: passed"
    assert not wrong.passed
    assert not wrong
    assert "o at step 0, index [0]: expected 0, got 1" in str(wrong)
    some = {"o": Right().run(tie)["o"]}
    assert not refsnn.compare(tie, some).passed
    assert refsnn.compare(tie, some, omit=["u", "u_pre", "d*"]).passed


def test_diagnose_names_the_convention():
    given = {case.id: AtThreshold().run(case) for case in refsnn.cases("neuron")}
    found = refsnn.diagnose(given)
    assert found.matches[0].deviations == {"fire_at_threshold": True}
    assert "fires at the threshold too (>=)" in str(found)


@pytest.mark.parametrize("mine", [Right(), Right, Nosy(), lambda case: recompute(case).outputs])
def test_conform_takes_an_object_a_class_or_a_function(mine):
    report = refsnn.conform(mine, refsnn.cases(("surrogate", "neuron")))
    assert report.passed, str(report)
    assert f"{len(report.results)} passed" in str(report)


def test_conform_runs_the_declared_levels_and_reports_failures():
    report = refsnn.conform(AtThreshold())
    assert {r.level for r in report.results} == {"neuron"}
    assert not report.passed
    assert not report
    assert "FAILED neuron/tie" in str(report)
    expected = {r.case: "fires at the threshold" for r in report.results if r.status == "failed"}
    assert refsnn.conform(AtThreshold, expected=expected).passed


def test_conform_builds_only_the_cases_of_the_declared_levels(monkeypatch):
    """A training's cases take seconds, which an object that declares a neuron need not wait for."""
    built = []
    build = cases.build
    monkeypatch.setattr(cases, "build", lambda recipe: built.append(recipe.id) or build(recipe))
    refsnn.conform(AtThreshold())
    assert {name.split("/")[0] for name in built} == {"neuron"}


def test_conform_isolates_a_named_one(tmp_path, monkeypatch):
    code = "import os\nclass Dies:\n    def run(self, case):\n        os._exit(3)\n"
    (tmp_path / "dies_here.py").write_text(code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    report = refsnn.conform("dies_here:Dies", refsnn.cases(pattern="neuron/tie"))
    assert [r.ending for r in report.results] == ["died"]


def test_an_exception_is_a_failure_and_unsupported_is_not():
    def raises(case):
        raise SystemExit(3)

    def lacks(case):
        raise refsnn.Unsupported("no ties")

    some = refsnn.cases(pattern="neuron/tie")
    assert [r.ending for r in refsnn.conform(raises, some).results] == ["raised"]
    assert [r.message for r in refsnn.conform(lacks, some).results] == ["no ties"]


def test_an_interrupt_ends_the_check():
    def pressed(case):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refsnn.conform(pressed, refsnn.cases(pattern="neuron/tie"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: refsnn.cases("neurons"), "level: got 'neurons', want one of surrogate, neuron"),
        (
            lambda: refsnn.cases(pattern="neuron/tied"),
            "case: got 'neuron/tied', want .* neuron/tie",
        ),
        (lambda: refsnn.conform(3), "implementation: got int, want an object with run"),
        (lambda: refsnn.diagnose({"neuron/tye": {}}), "outputs: got 'neuron/tye', did you mean"),
        (lambda: refsnn.diagnose({}), "actual: got nothing"),
        (lambda: refsnn.diagnose([3]), "outputs: got list, want a dict of outputs by case id"),
        (lambda: refsnn.diagnose({"neuron/tie": 3}), "outputs: neuron/tie: got int, want a dict"),
        (lambda: refsnn.diagnose({"neuron/tie": {}}, seconds=-1), "seconds: got -1, want more"),
        (lambda: refsnn.compare("neuron/tie", {}), r"case: .*: refsnn.cases\(pattern='neuron/tie'"),
        (lambda: refsnn.compare(TIE, [3]), "outputs: got list, want a dict of arrays"),
        (lambda: refsnn.compare(TIE, {}, omit=["foo"]), "omit: got 'foo', want an output's name"),
        (lambda: refsnn.compare(TIE, {}, omit=None), "omit: got None, want a text or a list"),
        (lambda: refsnn.conform(Right(), "neuron/tie"), "cases: got 'neuron/tie', want a case"),
        (lambda: refsnn.conform(Right(), [TIE], omit="foo"), "omit: got 'foo', want an output"),
        (lambda: refsnn.conform(Right(), [TIE], expected=["x"]), "expected: got list, want a dict"),
        (lambda: refsnn.cases(3), "level: got 3, want a text or a list of texts"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(call, message):
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        call()
