"""Conventions that are declared: how, and the cases under them."""

import math

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.oracle.agreement import disagreements
from refsnn.oracle.catalogue import catalogue
from refsnn.oracle.conventions import CONVENTIONS, PAPER, check, make_conventions
from refsnn.oracle.declare import declared, profiles
from refsnn.oracle.recipes import recipes
from refsnn.oracle.recompute import recompute
from refsnn.oracle.variant_neuron import lif_backward, lif_forward

#: as a neuron of one's own might have them
OWN = {
    "reset": "subtract",
    "surrogate": "atan",
    "surrogate_shape": 2.0,
    "tau": 0.8,
    "reset_gradient": "detached",
}
DECLARED = {**{name: facts["conventions"] for name, facts in profiles().items()}, "own": OWN}
LEVELS = ("surrogate", "neuron", "layer", "block")


@pytest.mark.parametrize("name", profiles())
def test_every_profile_is_valid_and_gives_every_number(name):
    facts = profiles()[name]
    assert facts["summary"]
    assert make_conventions(facts["conventions"]) == PAPER | facts["conventions"]
    assert declared(name) == facts["conventions"]
    if name != "paper":
        assert {"tau", "v_th", "surrogate", "surrogate_shape"} <= {*facts["conventions"]}


def test_a_word_is_a_profile_or_a_name_and_value():
    assert declared(None) == declared([]) == declared("paper") == {}
    assert declared("authors")["tau"] == 0.25
    assert declared("tau=0.75") == {"tau": 0.75}
    assert declared("fire_at_threshold=true") == {"fire_at_threshold": True}
    assert declared("fire_at_threshold=False") == {"fire_at_threshold": False}
    assert declared("reset=subtract, next step") == {"reset": "subtract, next step"}
    assert declared("norm_scale=1") == {"norm_scale": "1"}
    assert declared("norm_scale=1.5") == {"norm_scale": 1.5}
    assert declared("leak=tau*u + (1-tau)*c") == {"leak": "tau*u + (1-tau)*c"}
    found = declared("refractory=2")["refractory"]
    assert (found, type(found)) == (2, int)
    for given in ("input_delay=1", "input_delay=1.0", {"input_delay": 1.0}, {"input_delay": 1}):
        found = declared(given)["input_delay"]
        assert (found, type(found)) == (1, int)  # vectors hold an integer


@pytest.mark.parametrize("name", CONVENTIONS)
def test_every_named_value_can_be_written_as_a_word(name):
    for value in CONVENTIONS[name].values:
        for text in {str(value), str(value).lower()}:
            found = declared(f"{name}={text}")[name]
            assert (found, type(found)) == (value, type(value))


def test_later_parts_of_a_list_override_earlier_ones():
    authors = profiles()["authors"]["conventions"]
    assert declared(["authors", "tau=0.75"]) == authors | {"tau": 0.75}
    assert declared(["tau=0.75", "authors"]) == authors
    assert declared([{"tau": 0.75}, ["v_th=2", "tau=1"]]) == {"tau": 1.0, "v_th": 2.0}
    given = {"tau": 0.75}
    assert declared([given, "tau=1"]) == {"tau": 1.0}
    assert given == {"tau": 0.75}


def test_a_declaration_does_not_change_a_profile():
    declared("authors")["tau"] = 0.75
    assert declared("authors")["tau"] == 0.25


def test_a_file_has_lines_and_a_profile_as_its_base(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('profile = "authors"\ntau = 0.75\nfire_at_threshold = true\nrefractory = 1\n')
    wanted = declared("authors") | {"tau": 0.75, "fire_at_threshold": True, "refractory": 1}
    assert declared(path) == declared(str(path)) == wanted
    assert declared([path, "tau=1"]) == wanted | {"tau": 1.0}
    path.write_text("tau = 0.75\n")
    assert declared(path) == {"tau": 0.75}
    path.write_text('profile = ["authors", "norse"]\n')
    assert declared(path) == declared(["authors", "norse"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "spikingjely",
            r"conventions: got 'spikingjely'; did you mean spikingjelly\?, want a",
        ),
        ("xyz", r"conventions: got 'xyz', want a profile \(paper, authors, .*name=value$"),
        ("beta=0.5", "convention: got 'beta', did you mean tau?"),
        (
            "tau=0.8,reset=zero",
            "conventions: got 'tau=0.8,reset=zero', want name=value, the next after a space$",
        ),
        ("taau=0.5", "convention: got 'taau', did you mean tau?"),
        ("tau=half", "tau: got 'half', want a number from 0 to 1$"),
        ("tau=2", "tau: got 2.0, want a number from 0 to 1$"),
        ("tau=nan", "tau: got nan, want a number"),
        ("reset=1", "reset: got 1.0, want 'zero' or 'subtract' or"),
        ("refractory=1.5", "refractory: got 1.5, want a whole number from 0 to 100$"),
        ({"tau": "0.5"}, "tau: got '0.5', want a number"),
        ({"tua": 0.5}, "convention: got 'tua', did you mean tau?"),
        (["authors", "snntorh"], r"conventions: got 'snntorh'; did you mean snntorch\?"),
    ],
)
def test_what_is_unknown_is_refused_with_what_comes_near(given, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        declared(given)


@pytest.mark.parametrize("given", [3, 0.5, True, [3]])
def test_other_types_are_refused(given):
    with pytest.raises(TypeError, match=r"^conventions: got .*, want a profile, a file, a dict"):
        declared(given)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tau = ", "not valid TOML"),
        ("tau = 3", "tau: got 3, want a number from 0 to 1"),
        ('profile = "nors"', "got 'nors'; did you mean norse?"),
        ("[conventions]\ntau = 0.5", "mine.toml: convention: got 'conventions', "),
        ("cases = 1", "convention: got 'cases', want one of those that `refsnn diagnose --help` l"),
    ],
)
def test_files_that_can_not_be_read_are_refused(tmp_path, refused, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert message in refused(["vectors", "generate", tmp_path / "v", "--as", path])
    assert "none.toml" in refused(["vectors", "generate", tmp_path / "v", "--as", "none.toml"])


def made(given, levels=LEVELS, but=()):
    """The cases under declared conventions."""
    makers = catalogue(None, dict(given))
    names = [name for name in makers if name.split("/")[0] in levels and name not in but]
    return [makers[name]() for name in names]


LARGE = ("neuron/large", "layer/large")  # the naive loops take seconds over them


@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.slow_after(4)
def test_refsnn_and_the_naive_loops_agree_on_every_case(name):
    """A maker raises ValueError where they do not, or where no draw keeps off the threshold."""
    cases = made(DECLARED[name], but=LARGE)
    assert {case.level for case in cases} == set(LEVELS)
    for case in cases:
        assert DECLARED[name].items() <= case.conventions.items()
        if not DECLARED[name]:  # nothing is declared, so the maker does not ask the naive loops
            assert disagreements(case) == [], case.id


@pytest.mark.slow
@pytest.mark.parametrize("name", DECLARED)
def test_they_agree_on_large_cases_too(name):
    small = [n for n in catalogue(None, DECLARED[name]) if n not in LARGE]
    assert all(disagreements(case) == [] for case in made(DECLARED[name], but=small))


def test_a_case_on_which_they_differ_is_refused(monkeypatch):
    wrong = {"neuron/tanh": ["neuron/tanh: u_pre differs"]}
    monkeypatch.setattr(
        "refsnn.oracle.catalogue.disagreements", lambda case: wrong.get(case.id, [])
    )
    makers = catalogue(None, {"tau": 0.8})
    makers["neuron/sweep"]()
    with pytest.raises(ValueError, match=r"^neuron/tanh: refsnn and the naive loops differ: neur"):
        makers["neuron/tanh"]()


@pytest.mark.parametrize("name", DECLARED)
def test_neurons_fire_and_rest_under_each(name):
    (case,) = refsnn.cases(pattern="neuron/tanh", conventions=DECLARED[name])
    fired = case.outputs["o"] > 0
    assert 0.05 < fired.mean() < 0.9
    assert fired.any(1)[:-1].sum() >= len(fired) - 2, "at every step but the last, or a late first"
    assert (case.outputs["u_pre"] > 2 * case.conventions["v_th"]).mean() < 0.5


@pytest.mark.parametrize(
    "given",
    [
        {"v_th": 0.01},
        {"v_th": 30.0},
        {"leak": "tau*u + (1-tau)*c", "tau": 0.95},
        {"leak": "tau*(u + c)", "tau": 0.125},
        {"input_gain": 0.02},
        {"input_gain": 40.0, "v_th": 0.5},
    ],
    ids=str,
)
def test_currents_are_scaled_to_the_declared_numbers(given):
    for pattern in ("neuron/tanh", "layer/plain", "block/identity"):
        (case,) = refsnn.cases(pattern=pattern, conventions=given)
        for name, value in case.outputs.items():
            if name.rpartition(".")[2] == "o":
                assert 0.05 < value.mean() < 0.9, (pattern, name)


def test_of_recipes_that_ask_for_another_value_none_is_left():
    everything = {recipe.id: recipe.given for recipe in recipes()}
    for given in ({"tau": 0.8}, {"v_th": 0.5}, OWN, {"fire_at_threshold": True}):
        left = {recipe.id for recipe in recipes(declared=given)}
        assert left
        for name, asked in everything.items():
            conflict = any(asked.get(key, value) != value for key, value in given.items())
            assert not (conflict and name in left), name
    left = {recipe.id for recipe in recipes(declared={"v_th": 0.5})}
    assert {"neuron/threshold-0.5", "neuron/tanh", "layer/tdbn"} & left == {
        "neuron/threshold-0.5",
        "neuron/tanh",
    }
    assert "neuron/tie" in {recipe.id for recipe in recipes(declared={"v_th": 0.5})}
    assert "neuron/tie" not in {recipe.id for recipe in recipes(declared={"tau": 0.8})}  # rounds
    assert "neuron/tie-inclusive" in {r.id for r in recipes(declared={"fire_at_threshold": True})}
    assert "neuron/tie-inclusive" not in left
    assert "block/zero-init" not in left  # whose spike lands on no other threshold than 1
    for given in ({}, {"tau": 0.8}, {"input_gain": 0.5, "v_th": 0.5}):
        assert "block/zero-init" in {recipe.id for recipe in recipes(declared=given)}, given


@pytest.mark.parametrize(
    "name", ["initial_potential=kept", "norm_variance=unbiased", "skip=missing", "loss=sum"]
)
def test_what_the_naive_loops_do_not_compute_can_not_be_declared(name, refused, tmp_path):
    key, value = name.split("=")
    line = f"{key}: '{value}' can be recognised, but not declared: the naive loops, the"
    with pytest.raises(ValueError, match=f"^{line}"):
        refsnn.cases("neuron", conventions=name)
    assert line in refused(["vectors", "generate", tmp_path / "v", "--as", name])


def test_the_paper_may_be_declared_with_vectors_but_nothing_else(tmp_path):
    assert main(["vectors", "generate", str(tmp_path / "v"), "--level", "surrogate"]) == 0
    assert refsnn.cases(vectors=tmp_path / "v", conventions="paper")
    with pytest.raises(ValueError, match=r"^conventions: those of the cases in .* can't be chang"):
        refsnn.cases(vectors=tmp_path / "v", conventions="tau=0.8")


def test_generated_vectors_hold_what_was_declared(tmp_path):
    folder = tmp_path / "v"
    line = ["vectors", "generate", str(folder), "--level", "neuron", "--as", "norse-box", "tau=0.8"]
    assert main(line) == 0
    assert main(["vectors", "check", str(folder)]) == 0
    cases = refsnn.cases(vectors=folder)
    assert {case.id for case in cases} == {
        recipe.id for recipe in recipes(("neuron",), declared(["norse-box", "tau=0.8"]))
    }
    for case in cases:
        assert case.conventions.items() >= (declared("norse-box") | {"tau": 0.8}).items()


class Mine:
    """A neuron of any conventions."""

    levels = ("neuron",)
    really = OWN

    def run(self, case):
        told = make_conventions({name: case.conventions[name] for name in PAPER} | self.really)
        o, cache = lif_forward(case.inputs["c"], None, told)
        grads, _ = lif_backward(case.inputs["do"], cache)
        return {"o": o, "dc": grads.dc_seq}


class Declares(Mine):
    conventions = OWN


@pytest.mark.slow
def test_conform_takes_what_is_declared():
    assert not refsnn.conform(Mine)
    report = refsnn.conform(Mine, conventions=OWN)
    assert report.passed, str(report)
    assert report.count("passed") > 10
    assert refsnn.conform(Mine, conventions=list({f"{k}={v}" for k, v in OWN.items()}))
    assert not refsnn.conform(Mine, conventions=OWN | {"tau": 0.75})


@pytest.mark.slow
def test_an_implementation_may_declare_it_itself_and_the_call_overrides_that():
    assert refsnn.conform(Declares)
    assert not refsnn.conform(Declares, conventions=OWN | {"tau": 0.75})
    assert not refsnn.conform(Declares, conventions="paper")


def test_diagnose_starts_from_what_is_declared():
    cases = refsnn.cases("neuron", conventions=OWN)
    got = {case.id: Mine().run(case) for case in cases}
    found = refsnn.diagnose(got, conventions=OWN)
    assert [fit.deviations for fit in found.matches] == [{}]
    inclusive = Mine()
    inclusive.really = OWN | {"reset_gradient": "full"}
    got = {case.id: inclusive.run(case) for case in cases}
    found = refsnn.diagnose(got, conventions=OWN)
    assert found.matches[0].deviations == {"reset_gradient": "full"}


@pytest.mark.processes
def test_the_commands_take_as(adapter, capsys, tmp_path):
    """And what an adapter declares itself, which --as replaces."""
    adapter(
        f"""
        from refsnn.oracle.conventions import PAPER, make_conventions
        from refsnn.oracle.variant_neuron import lif_backward, lif_forward

        OWN = {OWN!r}

        class Mine:
            levels = ("neuron",)

            def run(self, case):
                told = {{name: case.conventions[name] for name in PAPER}} | OWN
                o, cache = lif_forward(case.inputs["c"], None, make_conventions(told))
                grads, _ = lif_backward(case.inputs["do"], cache)
                return {{"o": o, "dc": grads.dc_seq}}

        class Declares(Mine):
            conventions = OWN
        """
    )
    words = [f"{name}={value}" for name, value in OWN.items()]
    assert main(["conform", "mine:Mine"]) == 1
    assert main(["conform", "mine:Mine", "--as", *words, "--save", str(tmp_path / "given")]) == 0
    assert main(["conform", "mine:Declares"]) == 0
    assert main(["conform", "mine:Declares", "--as", "tau=0.8"]) == 1
    assert main(["conform", "mine:Declares", "--as", "paper"]) == 1
    assert main(["conform", "mine:Declares", "--as", *words, "tau=0.75"]) == 1
    assert main(["conform", "mine:Declares", "--as", *words, "tau=0.75", "--as", "tau=0.8"]) == 0
    capsys.readouterr()
    assert main(["diagnose", str(tmp_path / "given"), "--as", *words]) == 0
    assert "everything matches, no convention differs" in capsys.readouterr().out
    assert main(["diagnose", str(tmp_path / "given"), "--as", *words, "tau=0.75"]) == 0
    assert "tau = 0.8 always" in capsys.readouterr().out


@pytest.mark.processes
def test_vectors_have_their_conventions_already_whatever_the_adapter_declares(adapter, refused):
    adapter(
        """
        class Mine:
            levels = ("surrogate",)
            conventions = {"v_th": 2.0}

            def run(self, case):
                k, v_th = case.conventions["surrogate_shape"], case.conventions["v_th"]
                e = np.exp(-2 * np.abs(case.inputs["u_pre"] - v_th))
                return {"h": k * 4 * e / (1 + e) ** 2}

        import numpy as np
        """
    )
    generate = ["vectors", "generate", "--level", "surrogate", "--as", "surrogate=tanh", "v_th=0.5"]
    assert main([*generate, "--", "v"]) == 0
    assert main(["conform", "mine:Mine", "--vectors", "v"]) == 0
    assert main(["conform", "mine:Mine", "--vectors", "v", "--as", "v_th=0.5"]) == 0
    assert "conventions: those of the cases in v can't be changed" in refused(
        ["conform", "mine:Mine", "--vectors", "v", "--as", "v_th=2"]
    )
    assert main(["conform", "mine:Mine"]) == 1, "other surrogates than tanh are among the paper's"
    assert main(["conform", "mine:Mine", "--as", "surrogate=tanh"]) == 0


def test_numbers_of_profiles_are_what_their_libraries_compute():
    """On paper; tests/oracle/adapters/test_profiles.py asks the libraries themselves."""
    found = profiles()
    assert found["sinabs"]["conventions"]["tau"] == math.exp(-1 / 20)
    assert found["rockpool"]["conventions"]["synapse"] == math.exp(-1 / 20)
    np.testing.assert_allclose(found["brainpy"]["conventions"]["tau"], math.exp(-1 / 50), 1e-15)
    for facts in found.values():
        for name, value in facts["conventions"].items():
            check(name, value)


def test_firing_at_the_threshold_shows_whatever_the_leak():
    """Where the leak rounds, at the first step; where the threshold does, the report says so."""
    names = {case.id: case for case in refsnn.cases("neuron", conventions={"tau": 0.83})}
    assert "neuron/tie" not in names
    case = names["neuron/tie-at-start"]
    other = recompute(case, {"fire_at_threshold": True})
    assert (other.outputs["o"] != case.outputs["o"]).sum() == 1
    untied = refsnn.cases("neuron", conventions={"tau": 0.83, "v_th": 0.7})
    assert not any("THRESHOLD_TIE" in case.flags for case in untied)


@pytest.mark.parametrize(
    ("declared", "told"),
    [
        ({}, "judged by the paper's conventions, with the numbers that each case asks for"),
        (
            {"tau": 0.83, "reset": "subtract"},
            "judged by what was declared: tau = 0.83; soft reset (v_th is subtracted)",
        ),
        (
            {"v_th": 0.7},
            "judged by what was declared: v_th = 0.7; no potential lies exactly on the threshold, "
            "so > and >= are not told apart",
        ),
    ],
)
def test_the_report_says_what_the_cases_follow(declared, told):
    class Silent:
        levels = ("neuron",)

        def run(self, case):
            return {"o": 0 * case.inputs["c"], "dc": 0 * case.inputs["c"]}

    report = refsnn.conform(Silent(), conventions=declared)
    assert not report
    assert str(report).splitlines()[-1] == told
