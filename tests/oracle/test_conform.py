"""Other implementations' results, judged: what counts as passed, failed, expected, stale."""

import json

import numpy as np
import pytest

from refsnn.oracle.conform import Report, Result, conform, find_stale, read_expected
from refsnn.oracle.isolate import Isolated
from refsnn.oracle.texts import report_text as show

pytestmark = pytest.mark.processes

ADAPTER = """
    import numpy as np
    from refsnn.oracle.adapters import Unsupported

    class Adapter:
        name = "doubler"
        levels = ("neuron", "layer")
        omits = ("u*",)

        def run(self, case):
            y = 2 * case.inputs["x"]
            name = case.id.split("/")[1]
            if name == "wrong":
                y[1, 2] = 7
            if name == "float32":
                y = y + 2e-7
            if name == "raises":
                raise RuntimeError("not today")
            if name == "unsupported":
                raise Unsupported("no such reset")
            if name == "nothing":
                return {}
            if name == "turned":
                y = y.T
            return {"y": y}
    """


@pytest.fixture
def check(adapter):
    """Runs cases through the adapter above."""
    adapter(ADAPTER)

    def run(*cases, **options):
        with Isolated("mine:Adapter") as isolated:
            return conform(isolated, cases, **options)

    return run


def test_each_case_is_judged_by_what_came_of_it(check, doubling):
    names = ["right", "wrong", "raises", "unsupported", "nothing", "turned"]
    cases = [doubling(f"neuron/{name}") for name in names] + [doubling("training/x")]
    seen = []
    report = check(*cases, watch=seen.append)
    found = {r.case: (r.status, r.ending, r.message) for r in report.results}
    assert list(found) == seen == [case.id for case in cases]
    assert found["neuron/right"] == ("passed", "done", "")
    status, ending, message = found["neuron/wrong"]
    assert (status, ending) == ("failed", "done")
    assert message.startswith("y at step 1, index [2]: expected 0, got 7")
    status, ending, message = found["neuron/raises"]
    assert (status, ending) == ("failed", "raised")
    assert message.startswith("raised: RuntimeError: not today (mine.py:18, in run: raise Runtime")
    assert found["neuron/unsupported"] == ("unsupported", "unsupported", "no such reset")
    assert found["neuron/nothing"] == ("failed", "done", "y is missing")
    assert "y: got shape (3, 2), want (2, 3)" in found["neuron/turned"][2]
    assert found["training/x"] == ("unsupported", "unsupported", "it declares no level training")
    assert not report.passed
    assert report.count("failed") == 4
    assert (report.adapter, report.precision, report.omits) == ("doubler", None, ("u*",))


def test_all_right_passes(check, doubling):
    report = check(doubling("neuron/a"), doubling("layer/b"), doubling("training/x"))
    assert report.passed
    assert [r.status for r in report.results] == ["passed", "passed", "unsupported"]


def test_where_nothing_was_checked_nothing_passed(check, doubling):
    assert not check(doubling("neuron/unsupported"), doubling("training/x")).passed


def test_precision_and_omitted_outputs_can_be_given(check, doubling):
    case = doubling("neuron/float32")
    assert not check(case).passed
    assert check(case, precision="float32").passed
    two = doubling(
        outputs={**case.outputs, "more": np.ones(2), "u_pre": np.ones(2)},
        tolerances={name: {"float64": 1e-12, "float32": 1e-6} for name in ("y", "more", "u_pre")},
    )
    report = check(two)
    assert [r.message for r in report.results] == ["more is missing"]
    assert check(two, omits=["m*"]).passed


def test_flips_are_excused_counted_and_told(adapter, on_the_edge):
    adapter("""
        from refsnn.oracle.compute import compute

        def run(case):
            inputs = case.inputs | {"c": case.inputs["c"] - 2.0**-22}
            return compute(case.level, inputs, case.settings, case.conventions)
        """)
    with Isolated("mine:run") as isolated:
        report = conform(isolated, [on_the_edge(1), on_the_edge(5)], precision="float32")
    one, many = report.results
    assert (one.status, one.flips) == ("passed", 1)
    (words,) = one.flipped
    assert words.startswith("o at step 0, index [0]: expected 1, got 0 (")
    assert words.endswith("; expected u_pre is 1 float32 ulps above the threshold")
    assert (many.status, many.flips, len(many.flipped)) == ("passed", 5, 4)
    assert many.flipped[-1] == "2 more"
    text = show(report, verbose=False)
    assert f"FLIPPED neuron/tanh: {words}\n" in text
    assert "2 passed, 6 rounding flips excused in 2 cases, in " in text


def test_a_few_of_many_problems_are_shown(check, doubling):
    outputs = {f"z{i}": np.zeros(2) for i in range(9)}
    tolerances = {name: {"float64": 1.0, "float32": 1.0} for name in outputs}
    (result,) = check(doubling("neuron/nothing", outputs=outputs, tolerances=tolerances)).results
    assert result.message == ("z0 is missing; z1 is missing; z2 is missing; 6 more")
    assert len(result.problems) == 9


def test_a_report_is_json(check, doubling):
    report = check(doubling("neuron/wrong"), doubling("neuron/a"))
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["passed"] is False
    assert found["counts"] == {"passed": 1, "failed": 1, "unsupported": 0, "expected": 0}
    wrong, right = found["results"]
    assert wrong["first"]["tensor"] == "y"
    assert (wrong["first"]["step"], wrong["first"]["index"]) == (1, [2])
    assert wrong["tensors"]["y"]["status"] == "differs"
    assert right["first"] is None


def test_expected_failures_do_not_count_as_failures(check, doubling):
    cases = [doubling("neuron/a"), doubling("neuron/wrong"), doubling("neuron/raises")]
    report = check(*cases, expected={"neuron/wrong": "7 is meant", "*/rais*": "some day"})
    assert report.passed
    assert [(r.status, r.reason) for r in report.results] == [
        ("passed", ""),
        ("expected", "7 is meant"),
        ("expected", "some day"),
    ]
    assert report.results[1].message.startswith("y at step 1, index [2]")


def test_an_expected_failure_that_passes_is_an_error(check, doubling):
    report = check(
        doubling("neuron/a"),
        doubling("neuron/wrong"),
        expected={"neuron/wrong": "known", "neuron/a": "is it?"},
    )
    assert report.stale == ("neuron/a: expected to fail (is it?), but passed: neuron/a",)
    assert not report.passed


def results(**statuses):
    return [Result(f"neuron/{n}", "neuron", (), s, "done", "") for n, s in statuses.items()]


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("neuron/f", None),
        ("neuron/[fu]", None),
        ("neuron/p", "passed: neuron/p"),
        ("neuron/*", "passed: neuron/p"),
        ("neuron/u", "is unsupported"),
        ("neuron/x", "there is no such case"),
        ("block/*", None),  # not run this time
        ("block/y*", "there is no such case"),
    ],
)
def test_an_entry_is_stale_unless_its_cases_fail(pattern, text):
    found = find_stale(
        {pattern: "why"}, results(f="expected", u="unsupported", p="passed"), ["block/a"]
    )
    assert found == ([] if text is None else [f"{pattern}: expected to fail (why), but {text}"])


def test_a_few_of_many_passing_cases_are_named():
    (line,) = find_stale({"*": "why"}, results(a="passed", b="passed", c="passed", d="passed"), [])
    assert line.endswith("but passed: neuron/a, neuron/b, neuron/c, 1 more")


def test_stale_alone_fails():
    done = tuple(results(a="passed"))
    assert Report("n", "float64", (), done).passed
    assert not Report("n", "float64", (), done, ("a: …",)).passed
    assert not Report("n", "float64", (), ()).passed


def test_expected_failures_are_read(tmp_path):
    path = tmp_path / "known.toml"
    path.write_text('[cases]\n"neuron/tie" = "fires at the threshold (≥)"\n', encoding="utf-8")
    assert read_expected(path) == {"neuron/tie": "fires at the threshold (≥)"}
    path.write_text("[cases]\n")
    assert read_expected(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[cases", "not valid TOML .Expected ']'"),
        (b"\xff\xfe", "got the byte 0xff at 0, want UTF-8"),
        (b"", "cases is missing"),
        (b"cases = 3", "cases: got 3, want an object"),
        (b"[cases]\n[case]\n[more]", "want nothing named case in it"),
        (b'[cases]\n"neuron/tie" = ""', "cases.neuron/tie: got '', want a text"),
        (b'[cases]\n"neuron/tie" = true', "cases.neuron/tie: got True, want a string"),
        (b"[cases]\nneuron.tie = 'x'", "cases.neuron: got an object, want a string"),
    ],
)
def test_other_files_are_refused(content, message, tmp_path):
    path = tmp_path / "known.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_expected(path)


def test_without_a_precision_the_arrays_tell_it(adapter, doubling):
    """2e-7 off is much for float64, and little for float32."""
    case = doubling("neuron/a")
    adapter(
        """
        import numpy as np
        def run(case): return {"y": np.float32(2 * case.inputs["x"] * (1 + 1e-7))}
        """
    )
    with Isolated("mine:run") as isolated:
        report = conform(isolated, [case])
    assert report.results[0].precision == "float32"
    assert report.passed, report.results[0].message


STEADY = "def run(case): return {'y': 2 * case.inputs['x']}"
KEPT = """
    class Adapter:
        kept = 0.0

        def run(self, case):
            y = 2 * case.inputs["x"] + self.kept
            self.kept = y[0, 0]
            return {"y": y}
    """
GROWS = """
    runs = []

    def run(case):
        runs.append(case.id)
        return {"y": case.inputs["x"] + len(runs)}
    """
SHAPES = """
    shapes = set()

    def run(case):
        shapes.add(case.inputs["x"].shape)
        if len(shapes) > 1:
            raise ValueError("of another shape than before")
        return {"y": 2 * case.inputs["x"]}
    """
NOT_A_NUMBER = "def run(case): return {'y': case.inputs['x'] * float('nan')}"
RANDOM = """
    import numpy as np

    def run(case):
        return {"y": np.random.default_rng().normal(size=(2, 3))}
    """


@pytest.mark.parametrize(
    ("code", "name", "unsteady", "failed"),
    [
        (STEADY, "run", "", []),
        (NOT_A_NUMBER, "run", "", "abcd"),
        (KEPT, "Adapter", "state is kept between runs: neuron/b fails after neuron/a, passes", "b"),
        (GROWS, "run", "state is kept between runs: neuron/b gives other numbers after", "abcd"),
        (SHAPES, "run", "state is kept between runs: neuron/c raises after neuron/b, passes", "c"),
        (RANDOM, "run", "random: neuron/b gives other numbers in each fresh process", "abcd"),
    ],
    ids=["steady", "not a number", "kept", "grows", "shapes", "random"],
)
def test_runs_that_differ_are_told_from_wrong_ones(code, name, unsteady, failed, adapter, doubling):
    """A case that fails is run again by itself; from then on no case follows another."""
    adapter(code)
    x = np.full((4, 5), 3.0)
    cases = [doubling("neuron/a"), doubling("neuron/b")]
    cases += [doubling("neuron/c", inputs={"x": x}, outputs={"y": 2 * x}), doubling("neuron/d")]
    with Isolated(f"mine:{name}") as isolated:
        report = conform(isolated, cases)
    assert report.unsteady.startswith(unsteady)
    assert bool(report.unsteady) == bool(unsteady)
    assert [r.case[-1] for r in report.results if r.status == "failed"] == [*failed]
    assert (f"\n{report.unsteady} (each later" in show(report)) == bool(unsteady)


def test_arrays_of_a_run_alone_are_kept(adapter, doubling):
    """A diagnosis would otherwise look for the state's cause in every case."""
    adapter(KEPT)
    kept = {}
    with Isolated("mine:Adapter") as isolated:
        cases = [doubling(f"neuron/{name}") for name in "abc"]
        conform(isolated, cases, keep=lambda case, arrays: kept.update({case.id: arrays["y"]}))
    for case in cases:
        np.testing.assert_array_equal(kept[case.id], case.outputs["y"])


def test_wrong_cases_are_run_again_twice_at_most(adapter, doubling, tmp_path):
    adapter("""
    def run(case):
        with open("runs", "a") as file:
            file.write(case.id[-1])
        return {"y": case.inputs["x"]}
    """)
    with Isolated("mine:run") as isolated:
        report = conform(isolated, [doubling(f"neuron/{name}") for name in "abcd"])
    assert not report.unsteady
    assert (tmp_path / "runs").read_text() == "abbccd"


@pytest.mark.parametrize("flagged", ["", "a", "b", "ab"])
def test_a_tie_of_any_case_tells_firing_at_the_threshold_apart(flagged, adapter, doubling):
    adapter(STEADY)
    flags = {name: ("THRESHOLD_TIE",) * (name in flagged) for name in "ab"}
    with Isolated("mine:run") as isolated:
        cases = [doubling(f"neuron/{name}", flags=flags[name]) for name in "ab"]
        report = conform(isolated, cases, conventions={"tau": 0.83})
    assert report.has_ties == bool(flagged)
    assert ("so > and >= are not told apart" in show(report)) == (not flagged)
