"""`refsnn conform` as its users see it."""

import json
import re
import sys

import pytest

from refsnn.cli import main
from refsnn.oracle import vectors
from refsnn.oracle.report import place

pytestmark = pytest.mark.processes

RIGHT = """
    import numpy as np
    from refsnn.oracle.adapters import Unsupported

    class LIF:
        name = "a LIF of mine"
        levels = ("neuron",)
        inclusive = False

        def run(self, case):
            print("at", case.id)
            p = case.conventions
            if p["surrogate"] != "tanh" or p["leak"] != "tau*u + c" or p["fire_at_threshold"]:
                raise Unsupported("only the paper's own")
            if p["reset"] != "zero" or p["reset_gradient"] != "full":
                raise Unsupported("only the paper's own reset")
            tau, v_th, c, do = p["tau"], p["v_th"], case.inputs["c"], case.inputs["do"]
            u_pre, o, u, delta = (np.zeros_like(c) for _ in range(4))
            for t in range(len(c)):
                u_pre[t] = c[t] + (tau * u[t - 1] if t else 0)
                o[t] = u_pre[t] >= v_th if self.inclusive else u_pre[t] > v_th
                u[t] = u_pre[t] * (1 - o[t])
            later = 0
            for t in reversed(range(len(c))):
                h = p["surrogate_shape"] * (1 - np.tanh(u_pre[t] - v_th) ** 2)
                later = do[t] * h + later * tau * ((1 - o[t]) - u_pre[t] * h)
                delta[t] = later
            return {"u_pre": u_pre, "o": o, "u": u, "du_pre": delta, "dc": delta}

    class Inclusive(LIF):
        inclusive = True
    """


@pytest.fixture
def mine(adapter):
    adapter(RIGHT)


def shown(capsys, *arguments):
    code = main(["conform", *map(str, arguments)])
    out = capsys.readouterr()
    assert not out.err
    return code, out.out


@pytest.mark.usefixtures("mine")
def test_a_right_implementation_passes(capsys):
    code, text = shown(capsys, "mine:LIF", "--level", "neuron")
    assert code == 0, text
    first, levels, clauses, absent, summary = text.strip().split("\n\n")
    assert first == "a LIF of mine, float64"
    assert [line.split()[0] for line in levels.splitlines()] == ["level", "neuron"]
    names = [line.split()[0] for line in clauses.splitlines()]
    assert names[:4] == ["clause", "EQ1", "EQ2", "EQ3"]
    assert absent == "not returned, so not compared: du0, dtau, dv_th"
    assert " passed, " in summary
    assert "failed" not in summary
    assert "at neuron" not in text, "what it prints must not mix with the report"


@pytest.mark.usefixtures("mine")
def test_a_wrong_one_is_told_where_it_first_goes_wrong(capsys):
    code, text = shown(capsys, "mine:Inclusive", "--level", "neuron")
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("FAILED neuron/tie:")]
    assert "o at step 0, index [0]: expected 0, got 1" in line
    assert "expected u_pre is on the threshold" in line


@pytest.mark.usefixtures("mine")
def test_expected_failures_and_stale_ones(capsys, tmp_path):
    known = tmp_path / "known.toml"
    known.write_text('[cases]\n"neuron/tie" = "it fires at the threshold (>=)"\n')
    options = ("--case", "neuron/tie", "neuron/tanh", "--expected-failures", known)
    code, text = shown(capsys, "mine:Inclusive", *options)
    assert code == 0, text
    assert text.rstrip().splitlines()[-1].startswith("1 passed, 1 expected to fail, in ")
    code, text = shown(capsys, "mine:Inclusive", *options, "--verbose")
    assert "EXPECTED neuron/tie: o at step 0" in text
    assert "[it fires at the threshold (>=)]" in text
    code, text = shown(capsys, "mine:LIF", *options)
    assert code == 1
    assert (
        "STALE neuron/tie: expected to fail (it fires at the threshold (>=)), but passed: "
        "neuron/tie" in text
    )
    known.write_text('[cases]\n"neuron/tye" = "a slip of the pen"\n')
    code, text = shown(capsys, "mine:LIF", *options)
    assert code == 1
    assert "STALE neuron/tye: expected to fail (a slip of the pen), but there is no such" in text
    known.write_text('[cases]\n"block/*" = "another day"\n')
    assert shown(capsys, "mine:LIF", *options)[0] == 0


@pytest.mark.usefixtures("mine")
def test_verbose_shows_what_was_printed_and_what_is_unsupported(capsys):
    code, text = shown(capsys, "mine:LIF", "--case", "neuron/t*", "--verbose")
    assert code == 0
    (line,) = re.findall("UNSUPPORTED (.*): only the paper's own\n", text)
    assert "neuron/triangle" in line.split(", ")
    assert "neuron/tanh printed:\nat neuron/tanh\n" in text


@pytest.mark.usefixtures("mine")
def test_json_has_everything(capsys, tmp_path):
    path = tmp_path / "report.json"
    assert shown(capsys, "mine:Inclusive", "--case", "neuron/tie", "--json", path)[0] == 1
    report = json.loads(path.read_text())
    (result,) = report["results"]
    assert report["passed"] is False
    assert result["case"] == "neuron/tie"
    assert result["first"]["tensor"] == "o"
    assert result["printed"] == "at neuron/tie\n"
    code, text = shown(capsys, "mine:Inclusive", "--case", "neuron/tie", "--json", "-")
    assert code == 1
    assert json.loads(text)["counts"]["failed"] == 1


@pytest.mark.usefixtures("mine")
def test_cases_from_files_are_those_that_are_built(capsys, tmp_path):
    from refsnn.oracle import cases, recipes

    kept = [r for r in recipes.recipes(("neuron",)) if r.id in ("neuron/tie", "neuron/tanh")]
    folder = tmp_path / "vectors"
    vectors.write(map(cases.build, kept), folder)
    code, text = shown(capsys, "mine:Inclusive", "--vectors", folder)
    assert code == 1
    assert "1 passed, 1 failed" in text


@pytest.mark.usefixtures("mine")
def test_a_level_that_an_adapter_does_not_have_checks_nothing(capsys):
    code, text = shown(capsys, "mine:LIF", "--level", "surrogate")
    assert code == 1
    assert "unsupported, so nothing was checked" in text


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "adapter: got none, want MODULE:OBJECT or --program COMMAND"),
        (["--omit", "u", "mine:A"], "mine:A is taken for an output of --omit: put it first"),
        (["mine:LIF", "--program", "x"], "adapter: got both"),
        (["mine"], "adapter: got 'mine', want MODULE:OBJECT"),
        (
            ["mine.py:LIF"],
            "got 'mine.py:LIF', want a module's name, not a file's: write mine:LIF$",
        ),
        (["mine.py"], "got 'mine.py', want a module's name, not a file's: write mine:OBJECT$"),
        (["mine:Nothing"], "adapter: got 'mine:Nothing', but mine has no Nothing"),
        (["nowhere:x"], "adapter: ModuleNotFoundError: No module named 'nowhere'$"),
        (["mine:LIF", "--omit", "upre"], "omit: got 'upre', want an output's name or pattern"),
        (["mine:LIF", "--level", "neurons"], "invalid choice: 'neurons'"),
        (["mine:LIF", "--case", "neuron/tye"], "case: got 'neuron/tye', .*like neuron/tie"),
        (["mine:LIF", "--case", "neuron/tie", "--level", "block"], "case: got none of the level"),
        (["mine:LIF", "--timeout", "0"], "timeout: got 0, want more than 0"),
        (["mine:LIF", "--timeout", "nan"], "timeout: got nan, want more than 0"),
        (["mine:LIF", "--memory", "-1"], "memory: got -1, want more than 0"),
        (["mine:LIF", "--expected-failures", "none.toml"], "No such file or directory: none.toml"),
        (["mine:LIF", "--vectors", "none"], "vectors: none/manifest.json is missing"),
        (["mine:LIF", "--json", "none/x.json"], "No such file or directory: none/x.json"),
        (["--program", ""], r"program: got \[\], want a list of words"),
        (["--program", "'x"], 'program: got "\'x": No closing quotation'),
        (
            ["--program", "./nothing"],
            "error: program: got './nothing', want a program that can be executed$",
        ),
    ],
)
def test_errors_are_one_line(options, message, refused):
    line = refused(["conform", *options])
    assert re.search(message, line), line


def test_clauses_come_in_the_ledgers_order():
    from refsnn.spec import CLAUSES

    names = [clause.id for clause in CLAUSES]
    turned = names[::-1]
    assert sorted(turned, key=place) == names


@pytest.mark.usefixtures("mine")
def test_levels_that_it_does_not_declare_are_left_out_unless_asked_for(capsys):
    _, text = shown(capsys, "mine:LIF")
    assert [line.split()[0] for line in text.split("\n\n")[1].splitlines()] == ["level", "neuron"]
    code, text = shown(capsys, "mine:LIF", "--level", "layer")
    assert code == 1
    assert "so nothing was checked" in text


@pytest.mark.usefixtures("mine")
def test_outputs_are_saved_and_can_be_diagnosed(capsys, tmp_path, refused):
    code, text = shown(capsys, "mine:Inclusive", "--save", tmp_path / "given", "--diagnose")
    assert code == 1
    said = text.strip().splitlines()[-2:]
    assert said[0].endswith(" cases: fires at the threshold too (>=)")
    assert said[1] == "not given, so not judged: du0, dtau, dv_th"
    assert main(["diagnose", str(tmp_path / "given")]) == 0
    assert capsys.readouterr().out.strip().splitlines() == said
    line = refused(["conform", "mine:LIF", "--save", tmp_path / "given"])
    assert line.endswith("given is not empty, want a new or an empty folder")


@pytest.mark.usefixtures("mine")
def test_a_damaged_file_of_vectors_is_told_and_the_rest_runs(cases, tmp_path, capsys):
    vectors.write([cases["neuron/tie"], cases["neuron/tanh"]], tmp_path / "v")
    (tmp_path / "v" / "neuron" / "tie.npz").write_bytes(b"PK")
    code, text = shown(capsys, "mine:LIF", "--vectors", tmp_path / "v", "--json", tmp_path / "c")
    assert code == 1
    (line,) = re.findall("NOT RUN .*", text)
    assert line.startswith("NOT RUN neuron/tie: vectors: ")
    assert line.endswith("neuron/tie.npz has another checksum than its manifest says")
    assert "1 passed, 1 damaged file of vectors, in " in text
    report = json.loads((tmp_path / "c").read_text())
    assert report["damaged"].keys() == {"neuron/tie"}
    assert not report["passed"]


@pytest.mark.usefixtures("mine")
def test_expected_failures_are_diagnosed_and_blamed_by_clause(capsys, tmp_path):
    (tmp_path / "known.toml").write_text('[cases]\n"neuron/tie" = "fires at the threshold"\n')
    code, text = shown(
        capsys,
        "mine:Inclusive",
        "--case",
        "neuron/tie",
        "neuron/tanh",
        "--diagnose",
        "--expected-failures",
        tmp_path / "known.toml",
        "--json",
        tmp_path / "c.json",
    )
    assert code == 0
    last = text.strip().splitlines()[-2:]
    assert last[0].endswith("reproduce all 2 cases: fires at the threshold too (>=)")
    assert last[1] == "not given, so not judged: du0, dtau, dv_th"
    results = json.loads((tmp_path / "c.json").read_text())["results"]
    clauses = {r["case"]: r["clauses"] for r in results}
    assert clauses["neuron/tie"] == {"EQ2": "expected", "D2": "expected"}
    assert clauses["neuron/tanh"].pop("R1") == "not judged"  # it gives no dtau and dv_th
    assert set(clauses["neuron/tanh"].values()) == {"passed"}


def test_outputs_that_are_not_returned_are_named(capsys, adapter):
    adapter(
        RIGHT
        + """
    class Silent(LIF):
        omits = ("u*", "du_pre")

        def run(self, case):
            got = super().run(case)
            return {name: got[name] for name in ("o", "dc")}
    """
    )
    code, text = shown(capsys, "mine:Silent", "--case", "neuron/tanh")
    assert code == 0, text
    assert "\nnot returned, so not compared: u_pre, u, du_pre, du0, dtau, dv_th\n" in text
    (line,) = (line for line in text.splitlines() if line.startswith("EQ1 "))
    assert line.split() == ["EQ1", "1", "0", "0", "0", "0", "1"]


def test_equal_failures_are_reported_once(capsys, adapter):
    adapter("def run(case): raise RuntimeError('not today')")
    _, text = shown(capsys, "mine:run", "--level", "block")
    (line,) = re.findall("FAILED .*", text)
    assert line.startswith("FAILED block/identity, block/stride, block/widen, 6 more: raised")


@pytest.mark.usefixtures("mine")
def test_progress_is_shown_on_a_terminal_in_one_line(capsys, monkeypatch):
    """Elsewhere nothing is printed beside the report, as `shown` checks everywhere."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["conform", "mine:LIF", "--case", "neuron/tanh", "neuron/one-step"])
    err = capsys.readouterr().err
    assert "\n" not in err
    texts = ["making 2 cases", "case 1: neuron/tanh", "case 2: neuron/one-step", ""]
    assert err == "".join(f"\r\033[K{text}" for text in texts)


def test_an_error_in_every_case_is_one_line_with_the_authors_own_code(capsys, adapter, tmp_path):
    """Though it was raised by NumPy, with each case's shapes."""
    adapter("""
    from model import fire

    def run(case):
        return {"o": fire(case.inputs["c"])}
    """)
    (tmp_path / "model.py").write_text("def fire(c):\n    return c.reshape(-1, 1001)\n")
    _, text = shown(capsys, "mine:run", "--case", "neuron/t*", "neuron/one*")
    (line,) = re.findall("FAILED .*", text)
    assert "neuron/tanh, neuron/tanh-literal, " in line
    assert " 10 more: raised: ValueError: cannot reshape array of size 288 into shape (1001" in line
    assert line.endswith(" (model.py:2, in fire: return c.reshape(-1, 1001))")


def test_an_error_within_autograd_is_told_by_the_authors_line(capsys, adapter):
    pytest.importorskip("torch")
    adapter("""
    import torch

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return (x > 0).to(x.dtype)

        @staticmethod
        def backward(ctx, grad):
            return grad * slope(*ctx.saved_tensors)

    def run(case):
        c = torch.tensor(case.inputs["c"], requires_grad=True)
        o = Spike.apply(c - 1)
        o.backward(torch.tensor(case.inputs["do"]))
        return {"o": o.detach(), "dc": c.grad}
    """)
    _, text = shown(capsys, "mine:run", "--level", "neuron")
    (line,) = re.findall("FAILED .*", text)
    assert re.search("FAILED neuron/tanh, .* more: raised: NameError: name 'slope' is not", line)
    assert line.endswith(" (mine.py:12, in backward: return grad * slope(*ctx.saved_tensors))")


LOWER = """
    import numpy as np
    from refsnn.oracle.compute import compute

    def run(case):
        inputs = {name: value * (1 + 3e-8 * np.cos(np.arange(value.size)).reshape(value.shape))
                  for name, value in case.inputs.items()}
        return compute(case.level, inputs, case.settings, case.conventions | WRONG)
    """


@pytest.mark.parametrize("wrong", [{}, {"reset": "subtract"}])
def test_hidden_rounding_is_said_once_and_the_cases_stay_failed(capsys, adapter, tmp_path, wrong):
    adapter(LOWER.replace("WRONG", repr(wrong)))
    path = tmp_path / "report.json"
    code, text = shown(
        capsys, "mine:run", "--case", "neuron/tanh", "neuron/leak*", "--diagnose", "--json", path
    )
    line = (
        "agrees as float32: something computes in float32 (--precision float32 judges it as that)"
    )
    report = json.loads(path.read_text())
    assert code == 1
    assert report["counts"]["failed"] == 3
    assert text.count(line) == text.count("agrees as") == (not wrong)
    assert {r["agrees_as"] for r in report["results"]} == {"" if wrong else "float32"}
    assert report["agrees_as"] == ("" if wrong else "float32")
    if not wrong:
        assert text.index(line) < text.index("FAILED")
        assert "3 cases: everything matches, no convention differs" in text
