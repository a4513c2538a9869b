"""A surrogate of the user's own: a function or a table of its slope takes part everywhere."""

import contextlib
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.oracle import halves, own_slope, schema, vectors
from refsnn.oracle.agreement import disagreements
from refsnn.oracle.cases import critical_potentials
from refsnn.oracle.catalogue import catalogue
from refsnn.oracle.conventions import check, make_conventions, words
from refsnn.oracle.declare import declared
from refsnn.oracle.recompute import recompute
from refsnn.oracle.slopes import GIVEN, jumps_of

NAME = f"own: {__name__}:bump"


def bump(x):
    return np.exp(-(np.abs(x) ** 1.5))


def bump_of_one(x):
    """Compute the same by other means."""
    return math.exp(-abs(x) * math.sqrt(abs(x)))


def box(x):
    return np.where(np.abs(x) < 0.3, 2.0, 0.25)


class Mine:
    """A neuron with the paper's forward pass and a slope of its own."""

    levels = ("surrogate", "neuron")
    factor = 1.0

    def slope(self, x):
        return self.factor * np.vectorize(bump_of_one)(x)

    def run(self, case):
        p = case.conventions
        assert isinstance(p["surrogate"], str)
        if p["reset"] != "zero" or p["leak"] != "tau*u + c" or p["reset_gradient"] != "full":
            raise refsnn.Unsupported("only the paper's reset and leak")
        if p["fire_at_threshold"] or p["surrogate_at"] != "u_pre - v_th":
            raise refsnn.Unsupported("only the paper's threshold")
        if case.level == "surrogate":
            return {"h": self.slope(case.inputs["u_pre"] - p["v_th"])}
        c, do = case.inputs["c"], case.inputs["do"]
        u_pre, o, delta, u = np.zeros_like(c), np.zeros_like(c), np.zeros_like(c), 0
        for t in range(len(c)):
            u_pre[t] = p["tau"] * u + c[t]
            o[t] = u_pre[t] > p["v_th"]
            u = u_pre[t] * (1 - o[t])
        later = 0
        for t in reversed(range(len(c))):
            h = self.slope(u_pre[t] - p["v_th"])
            later = do[t] * h + later * p["tau"] * ((1 - o[t]) - u_pre[t] * h)
            delta[t] = later
        return {"u_pre": u_pre, "o": o, "dc": delta}


class Twice(Mine):
    factor = 2.0


class Declares(Mine):
    levels = ("surrogate",)
    conventions = {"surrogate": bump}  # noqa: RUF012


def without_large(conventions, levels=("surrogate", "neuron")):
    """The cases but the large one, over which the naive loops take seconds."""
    makers = catalogue(None, declared(conventions))
    names = [n for n in makers if n.split("/")[0] in levels and n != "neuron/large"]
    return [makers[name]() for name in names]


@pytest.fixture(autouse=True)
def no_module_of_another_test(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    yield
    sys.modules.pop("mine", None)


def test_a_function_is_declared_and_nothing_else_passes():
    report = refsnn.conform(Mine, without_large({"surrogate": bump}))
    assert report.passed, str(report)
    assert {r.level for r in report.results if r.status == "passed"} == {"surrogate", "neuron"}
    assert report.count("passed") > 15
    assert refsnn.conform(Declares)
    assert not refsnn.conform(Declares, conventions="paper")
    for wrong in (lambda x: bump(x) * (1 + 1e-9), box):
        assert refsnn.conform(Mine, without_large({"surrogate": wrong})).count("failed") > 15


def test_cases_hold_its_name_and_its_numbers():
    for case in refsnn.cases("surrogate", conventions={"surrogate": bump}):
        assert case.conventions["surrogate"] == NAME
        json.dumps(case.conventions)
        x = case.inputs["u_pre"] - case.conventions["v_th"]
        want = [bump_of_one(value) for value in x]
        np.testing.assert_allclose(case.outputs["h"], want, rtol=1e-13, atol=1e-300)
    assert {0.0} < {*x}, "the threshold itself, as the slope has no jump"


@pytest.mark.parametrize(
    ("given", "factor"),
    [
        ({}, 1.0),
        ({"surrogate_shape": 3.0}, 1.0),
        ({"surrogate_scale": 0.5}, 0.5),
        ({"surrogate_scale": "without any"}, 1.0),
    ],
)
def test_a_number_scales_it_and_the_shape_does_not(given, factor):
    (case,) = refsnn.cases(pattern="surrogate/tanh", conventions={"surrogate": bump} | given)
    x = case.inputs["u_pre"] - case.conventions["v_th"]
    np.testing.assert_allclose(case.outputs["h"], factor * bump(x), rtol=1e-15)


def test_it_may_be_a_function_of_the_ratio_to_the_threshold():
    given = {"surrogate": box, "surrogate_unit": "v_th", "v_th": 0.5}
    for case in refsnn.cases("surrogate", conventions=given):
        h = box((case.inputs["u_pre"] - 0.5) / 0.5) / 0.5
        np.testing.assert_array_equal(case.outputs["h"], h)
        np.testing.assert_allclose(
            critical_potentials(case.conventions), [0.5, 0.35, 0.65], atol=1e-8
        )


def test_diagnosis_names_the_ratio_to_it():
    asked, got = {"surrogate": bump}, {}
    for case in without_large(asked):
        with contextlib.suppress(refsnn.Unsupported):
            got[case.id] = Twice().run(case)
    assert len(got) > 15
    found = refsnn.diagnose(got, conventions=asked)
    assert found.matches[0].deviations == {"surrogate_scale": 2.0}
    assert "the slope is 2 times the expected everywhere" in str(found)


@pytest.mark.parametrize("given", [("o", "dc"), ("dc",)])
@pytest.mark.parametrize("leak", ["tau*u + c", "tau*u + (1-tau)*c"])
@pytest.mark.slow_after(1)
def test_diagnosis_names_the_ratio_where_the_potentials_are_hidden(given, leak):
    asked, got = {"surrogate": bump, "leak": leak}, {}
    for case in without_large(asked, ("neuron",)):
        outputs = recompute(case, {"surrogate_scale": 0.7}).outputs
        got[case.id] = {name: outputs[name] for name in given}
    found = refsnn.diagnose(got, conventions=asked)
    assert found.matches[0].deviations == {"surrogate_scale": 0.7}


def test_diagnosis_names_another_family_than_the_expected_one():
    asked = {"surrogate": bump}
    cases = refsnn.cases("neuron", pattern="neuron/tanh*", conventions=asked)
    theirs = {"surrogate": "atan", "surrogate_shape": 2.0}
    got = {case.id: recompute(case, theirs).outputs for case in cases}
    found = refsnn.diagnose(got, conventions=asked)
    assert found.matches[0].deviations == theirs


@pytest.mark.parametrize(
    "pattern",
    ["surrogate/tanh", "neuron/tanh", "layer/plain", "block/stride", "network/one-step"],
)
@pytest.mark.parametrize("slope", [bump, box, [[-2, 0], [-0.5, 1.5], [0.75, 1], [3, -0.25]]])
def test_the_second_opinion_agrees_and_notices_everything_around_it(pattern, slope):
    (case,) = refsnn.cases(pattern=pattern, conventions={"surrogate": slope})
    assert disagreements(case) == []
    assert disagreements(recompute(case, {"surrogate_scale": 0.75})) == []
    outputs = recompute(case, {"surrogate_scale": 0.75}).outputs
    assert disagreements(replace(case, outputs=outputs))


def test_a_function_that_does_not_go_element_by_element_is_found_out():
    def relative(x):
        return np.exp(-np.abs(x)) / (1 + np.abs(x).max())

    with pytest.raises(ValueError, match=r"^surrogate/tanh: refsnn and the naive loops differ: "):
        refsnn.cases("surrogate", conventions={"surrogate": relative})


def test_potentials_keep_off_its_jumps():
    name = declared({"surrogate": box})["surrogate"]
    np.testing.assert_allclose(jumps_of(name), [-0.3, 0.3], atol=1e-8)
    for case in without_large({"surrogate": box}):
        x = case.inputs.get("u_pre", case.outputs.get("u_pre")) - case.conventions["v_th"]
        if not case.exact:
            assert np.abs(np.abs(x) - 0.3).min() > 1.9e-5, case.id
        assert halves.unfit(case, "bfloat16")


class Single(Mine):
    """The neuron with the slope `box`, in float32."""

    precision = "float32"

    def slope(self, x):
        return np.where(np.abs(x) < np.float32(0.3), 2, 0.25).astype(np.float32)

    def run(self, case):
        inputs = {name: value.astype(np.float32) for name, value in case.inputs.items()}
        return super().run(replace(case, inputs=inputs))


def test_single_precision_passes_beside_jumps():
    report = refsnn.conform(Single, without_large({"surrogate": box}))
    assert report.passed, str(report)
    assert report.count("passed") > 15


@pytest.mark.parametrize(
    "slope",
    [
        bump,
        lambda x: 100 * np.exp(-100 * np.abs(x)),
        lambda x: 1 / (1 + 400 * np.abs(x)) ** 2,
        lambda x: np.maximum(0, 1 - 50 * np.abs(x)),
        np.ones_like,
        np.zeros_like,
    ],
)
def test_a_steep_slope_is_no_jump(slope):
    name = declared({"surrogate": slope})["surrogate"]
    assert jumps_of(name) == ()
    assert not halves.unfit(recompute(refsnn.cases(pattern="surrogate/tanh")[0], {}), "float16")


def test_a_step_at_the_threshold_is_a_jump():
    name = declared({"surrogate": lambda x: np.where(x >= 0, 1.0, 0.5)})["surrogate"]
    np.testing.assert_allclose(jumps_of(name), [0], atol=1e-8)


def test_slopes_are_shown_on_the_threshold_unless_they_jump_there():
    """What holds on a jump is open."""

    def at_threshold(slope):
        (case,) = refsnn.cases(pattern="surrogate/tanh", conventions={"surrogate": slope})
        return (case.inputs["u_pre"] == case.conventions["v_th"]).any()

    assert at_threshold(bump)
    assert not at_threshold(lambda x: np.where(x >= 0, 1.0, 0.5))


TABLE = np.array([[-1.0, 0.125], [0.0, 1.0], [0.5, 0.5], [2.0, 0.0]])


def test_a_table_is_linear_between_its_rows_and_constant_beyond(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("slope.npy", TABLE)
    np.save("single.npy", TABLE.astype(np.float32))
    text = "\n".join(",".join(map(str, row)) for row in TABLE)
    (tmp_path / "bare.csv").write_text(text)
    (tmp_path / "named.csv").write_text(f"x, h\n{text}\n\n")
    given = [TABLE, TABLE.tolist(), *("slope.npy", "single.npy", "bare.csv", "named.csv")]
    for table in given:
        (case,) = refsnn.cases(pattern="surrogate/tanh", conventions={"surrogate": table})
        for u_pre, h in zip(case.inputs["u_pre"], case.outputs["h"], strict=True):
            x = u_pre - 1
            if x <= 0:
                want = max(0.125, 1 + 0.875 * x)
            else:
                want = max(1 - x if x <= 0.5 else 0.5 - (x - 0.5) / 3, 0)
            assert h == pytest.approx(want, abs=1e-15)
    assert case.conventions["surrogate"] == "own: named.csv"


def test_another_slope_of_the_same_name_gets_a_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for table in (TABLE, TABLE, 2 * TABLE + np.arange(4)[:, None], TABLE):
        np.save("again.npy", table)
        names.append(declared("surrogate=again.npy")["surrogate"])
    assert names == ["own: again.npy", "own: again.npy", "own: again.npy (2)", "own: again.npy"]

    def make(k):
        def slope(x):
            return k * bump(x)

        return slope

    one, two = make(1), make(2)
    first, second = (declared({"surrogate": f})["surrogate"] for f in (one, two))
    assert second == f"{first} (2)"
    assert declared({"surrogate": one})["surrogate"] == first
    assert GIVEN[second].slope(np.zeros(1)) == 2


def test_words_and_files_name_it(adapter):
    adapter(
        "import numpy as np\ndef bump(x):\n    return np.exp(-np.abs(x))\nTABLE = [[0, 1], [1, 0]]"
    )
    assert declared("surrogate=mine:bump") == {"surrogate": "own: mine:bump"}
    assert declared({"surrogate": "mine:bump"}) == {"surrogate": "own: mine:bump"}
    assert declared(["authors", "surrogate=mine:TABLE"])["surrogate"] == "own: mine:TABLE"
    with open("mine.toml", "w") as file:
        file.write('profile = "authors"\nsurrogate = "mine:bump"\n')
    assert declared("mine.toml") == declared("authors") | {"surrogate": "own: mine:bump"}
    text = words({"surrogate": "own: mine:bump", "surrogate_shape": 2.0})
    assert text == "surrogate mine:bump (one's own)"


@pytest.mark.parametrize(
    ("slope", "message"),
    [
        (lambda x: x[:-1], r".* gives shape \(2078,\) for \(2079,\), want finite numbers"),
        (lambda x: 1.0, r".* gives shape \(\) for \(2079,\), want finite numbers of x's shape"),
        (lambda x: 1 / x, r".* gives inf at x = 0, want finite"),
        (lambda x: np.exp(-x) / (1 + np.exp(-x)) ** 2, r".* gives nan at x = -1024, want finite"),
        (lambda x: x + 0j, r".* gives dtype complex128, want"),
        (lambda x, k: x, r".* raised TypeError: .*'k', want finite"),
        (lambda x: np.array(["a"] * len(x)), r".* gives dtype <U1, want"),
        (3, r"got 3, want one of tanh, .* module:function, a file \.csv or \.npy, a function"),
        (None, "got None, want one of tanh"),
        ([1, 2], r"got shape \(2,\), want two columns"),
        ([[1, 2], [3]], r"got .*, want two columns of finite numbers: x, which increases, and h"),
        ([[0, 1]], r"got shape \(1, 2\), want two"),
        ([[0, 1], [0, 2]], "got x that does not increase, want two"),
        ([[0, 1], [1, np.nan]], "got numbers that are not finite, want two"),
        (np.ones(()), r"got shape \(\), want two"),
        ("mine:none", r"can't load 'mine:none' \(AttributeError: .*\)$"),
        ("nowhere:f", r"can't load 'nowhere:f' \(ModuleNotFoundError"),
        ("mine:NUMBER", "got 3, want one of tanh"),
        ("none.csv", ".*none.csv"),
        ("wrong.csv", r"wrong\.csv: could not convert string to float: 'b'"),
        ("empty.csv", r"got shape \(0,\), want two columns"),
        ("wrong.npy", r"wrong\.npy: got 3 bytes without a header"),
        ("tahn", r"got 'tahn', want 'tanh' or"),
        ("own: mine:f", "'own: mine:f' is not known here; declare it with --as surrogate=mine:f$"),
    ],
)
def test_what_is_no_slope_is_refused_in_one_line(adapter, slope, message):
    adapter("NUMBER = 3")
    with open("wrong.csv", "w") as file:
        file.write("x,h\n1,2\n2,b\n")
    open("empty.csv", "w").close()
    with open("wrong.npy", "wb") as file:
        file.write(b"abc")
    with pytest.raises((ValueError, OSError), match=f"^(surrogate: )?{message}") as caught:
        refsnn.cases("surrogate", conventions={"surrogate": slope})
    assert "\n" not in str(caught.value)


def test_a_function_may_write_into_its_x_and_take_one_dimension_only():
    def careless(x):
        assert x.ndim == 1
        x *= x
        return np.exp(-x)

    name = declared({"surrogate": careless})["surrogate"]
    before = own_slope.GRID.copy()
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    np.testing.assert_allclose(
        GIVEN[name].slope(x), np.exp(-(np.linspace(-1, 1, 6) ** 2)).reshape(2, 3)
    )
    assert x[0, 0] == -1
    np.testing.assert_array_equal(own_slope.GRID, before)
    assert refsnn.cases(pattern="layer/plain", conventions={"surrogate": careless})


CODE = """
import numpy as np

def slope(x):
    return np.exp(-np.abs(x) ** 1.5)

class Mine:
    levels = ("surrogate",)

    def run(self, case):
        return {"h": slope(case.inputs["u_pre"] - case.conventions["v_th"])}

class Declares(Mine):
    conventions = {"surrogate": slope}

class Twice(Mine):
    def run(self, case):
        return {"h": 2 * super().run(case)["h"]}
"""


def test_vectors_need_the_same_declaration_to_be_read_back(tmp_path, monkeypatch, refused, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("mine.npy", TABLE)
    line = ["--as", "surrogate=mine.npy"]
    assert main(["vectors", "generate", "v", "--level", "surrogate", "block", *line]) == 0
    manifest = json.loads((tmp_path / "v" / "manifest.json").read_text())
    assert {c["conventions"]["surrogate"] for c in manifest["cases"]} == {"own: mine.npy"}
    assert vectors.violation(manifest, schema.manifest()) is None
    assert refsnn.cases("surrogate", vectors="v", conventions={"surrogate": "mine.npy"})
    assert main(["vectors", "check", "v", *line]) == 0
    assert main(["compare", "v", "v", *line]) == 0
    with pytest.raises(ValueError, match=r"^conventions: those of the cases in v can't be changed"):
        refsnn.cases("surrogate", vectors="v", conventions={"surrogate": bump})
    monkeypatch.delitem(GIVEN, "own: mine.npy")
    unknown = (
        "surrogate: 'own: mine.npy' is not known here; declare it with --as surrogate=mine.npy"
    )
    for words_ in (
        ["compare", "v", "v"],
        ["vectors", "check", "v"],
        ["diagnose", "v", "--vectors", "v"],
    ):
        assert unknown in refused(words_)
    assert main(["vectors", "list", "v"]) == 0
    assert "surrogate mine.npy (one's own)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=unknown):
        refsnn.cases(vectors="v")


def test_the_manifests_schema_wants_a_known_name_or_one_of_ones_own():
    rules = schema.rules_of("surrogate", schema.CONVENTIONS["surrogate"])
    for value in ("tanh", "straight_through", "own: a:b", "own: x y.csv (2)"):
        assert vectors.violation(value, rules) is None
    for value in ("tahn", "own: ", "xtanh", "tanhx", "own:a", 3, ["own: a"]):
        assert vectors.violation(value, rules), value
    with pytest.raises(ValueError, match="is not known here"):
        check("surrogate", "own: nothing")
    with pytest.raises(ValueError, match="is not known here"):
        make_conventions({"surrogate": "own: nothing"})


@pytest.mark.processes
def test_the_commands_take_it(adapter, capsys, refused):
    adapter(CODE)
    line = ["--as", "surrogate=mine:slope"]
    assert main(["conform", "mine:Mine"]) == 1
    unknown = "surrogate: 'own: mine:slope' is not known here; declare it with --as surrogate=mine"
    assert unknown in refused(["conform", "mine:Declares"])  # its code runs in its process alone
    assert main(["conform", "mine:Mine", *line]) == 0
    assert main(["conform", "mine:Declares", *line]) == 0
    assert main(["conform", "mine:Twice", *line, "--save", "given"]) == 1
    capsys.readouterr()
    assert main(["diagnose", "given", *line]) == 0
    assert "the slope is 2 times the expected everywhere" in capsys.readouterr().out
