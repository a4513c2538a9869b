"""refsnn compare, as its users see it."""

import json

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.oracle import vectors
from refsnn.oracle.compute import compute

NAMES = ("neuron/tanh", "neuron/tie", "layer/plain", "network/evolutionary")


@pytest.fixture(scope="module")
def expected(cases, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected") / "v"
    vectors.write([cases[name] for name in NAMES], folder)
    return folder


@pytest.fixture
def mine(cases, tmp_path):
    """Writes what an implementation gave for a case, all right unless changed."""

    def write(name, dtype=float, **changed):
        path = tmp_path / "mine" / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {k: v.astype(dtype) for k, v in cases[name].outputs.items()} | changed
        np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
        return path

    return write


@pytest.fixture
def compared(expected, tmp_path, capsys):
    """Runs compare on what was written: exit code, and the lines that it printed."""

    def run(*options, wanted=expected, given=tmp_path / "mine"):
        capsys.readouterr()
        code = main(["compare", str(wanted), str(given), *map(str, options)])
        shown = capsys.readouterr()
        assert not shown.err
        return code, shown.out.splitlines()

    return run


def test_all_that_was_given_agrees(mine, compared):
    for name in NAMES:
        mine(name)
    code, lines = compared()
    assert code == 0
    assert lines[0].split() == ["clause", "cases", "passed", "failed", "not", "judged"]
    assert next(line.split() for line in lines if line.startswith("EQ2 ")) == [
        "EQ2",
        "4",
        "4",
        "0",
        "0",
    ]
    assert lines[-1] == "4 cases passed, 0 failed (tolerances of float64)"


def test_the_first_divergence_is_told_for_each_case(cases, mine, compared):
    for name in ("neuron/tanh", "neuron/tie"):
        case = cases[name]
        conventions = case.conventions | {"fire_at_threshold": True, "reset": "subtract"}
        mine(name, **compute("neuron", case.inputs, {}, conventions))
    code, lines = compared()
    assert code == 1
    assert [line for line in lines if line.startswith("neuron/tanh: u at step 0")]
    assert [line for line in lines if line.startswith("neuron/tie: o at step 0, index [0]")]
    assert lines[-1] == "0 cases passed, 2 failed, 2 not given (tolerances of float64)"


def test_float32_is_noticed_and_can_be_refused(mine, compared):
    mine("layer/plain", np.float32)
    assert compared()[0] == 0
    assert compared()[1][-1] == "1 case passed, 0 failed, 3 not given (tolerances of float32)"
    code, lines = compared("--precision", "float64")
    assert code == 1
    assert lines[-1].endswith("(tolerances of float64)")


def test_omitted_outputs_may_be_missing(mine, compared):
    mine("neuron/tanh", o=None, dc=None)
    code, lines = compared()
    assert code == 1
    assert (
        "missing outputs: o in 1 case, dc in 1 case (--verbose names them; --omit NAME if they "
        "need not be given)" in lines
    )
    assert not any("is missing" in line for line in lines)
    assert "neuron/tanh: missing: o, dc" in compared("--verbose")[1]
    assert compared("--omit", "[od]*")[0] == 0
    assert compared("--omit", "o", "--omit", "dc")[0] == 0
    assert compared("--omit", "o")[0] == 1


def test_broken_files_do_not_stop_the_others(mine, compared, tmp_path):
    mine("neuron/tanh")
    broken = mine("neuron/tie")
    broken.write_bytes(broken.read_bytes()[:-50])
    mine("layer/plain", bn=np.array([["a"]]))
    np.savez(tmp_path / "mine" / "thesis.npz", y=np.ones(2))
    code, lines = compared()
    assert code == 1
    assert any(line.startswith("neuron/tie: ") and "damaged" in line for line in lines)
    assert "layer/plain: bn: got dtype <U1, want numbers" in lines
    assert any(
        "thesis.npz: is not named after a case, want LEVEL/NAME.npz" in line for line in lines
    )
    assert lines[-1] == (
        "1 case passed, 1 failed, 2 can't be compared, 1 not given (tolerances of float64)"
    )


def test_a_broken_expected_file_does_not_stop_the_others(cases, mine, compared, tmp_path):
    folder = tmp_path / "v"
    vectors.write([cases[name] for name in NAMES], folder)
    (folder / "neuron/tie.npz").write_bytes(b"")
    mine("neuron/tanh")
    mine("neuron/tie")
    code, lines = compared(wanted=folder)
    assert code == 1
    assert any("neuron/tie.npz has another checksum" in line for line in lines)
    assert lines[-1].startswith("1 case passed, 0 failed, 1 can't be compared, 2 not given")


def test_one_case_by_its_file(expected, mine, compared, tmp_path):
    mine("neuron/tanh")
    wrong = mine("neuron/tie", o=np.ones((6, 8)))
    one = expected / "neuron/tanh.npz"
    assert compared(wanted=one)[0] == 0
    assert compared(wanted=one)[1][-1] == "1 case passed, 0 failed (tolerances of float64)"
    assert compared(given=wrong)[0] == 1  # its name says which
    elsewhere = tmp_path / "o.npz"
    wrong.rename(elsewhere)
    assert compared(wanted=expected / "neuron/tie.npz", given=elsewhere)[0] == 1
    assert compared(wanted=one, given=elsewhere)[0] == 1


def test_expected_agrees_with_itself(expected, compared):
    code, lines = compared(given=expected)
    assert code == 0
    assert lines[-1] == f"{expected} holds the expected values themselves, so nothing was checked"


def test_json_holds_all_of_it(cases, mine, compared, tmp_path):
    case = cases["neuron/tanh"]
    u = case.outputs["u"].copy()
    u[3, 7] += 100 * case.tolerances["u"]["float64"]
    mine("neuron/tanh", u=u, more=np.ones(1))
    mine("neuron/tie")
    code, lines = compared("--json", "-")
    assert code == 1
    found = json.loads("\n".join(lines), parse_constant=pytest.fail)
    assert found["passed"] is False
    first = found["first_divergence"]
    assert (first["case"], first["tensor"], first["step"]) == ("neuron/tanh", "u", 3)
    assert first["index"] == [7]
    assert first["error"] == pytest.approx(100)
    assert found["tensors"]["neuron/tanh"]["u"]["status"] == "differs"
    assert found["tensors"]["neuron/tanh"]["u_pre"] == {"error": 0.0, "status": "ok"}
    assert set(found["tensors"]["neuron/tie"]) == set(cases["neuron/tie"].outputs)
    assert found["problems"] == ["neuron/tanh: more is not among the outputs"]
    assert found["not_given"] == ["layer/plain", "network/evolutionary"]
    path = tmp_path / "report.json"
    assert compared("--json", path)[0] == 1
    assert json.loads(path.read_text()) == found


def test_json_of_agreement(mine, compared):
    mine("neuron/tie")
    found = json.loads("\n".join(compared("--json", "-")[1]))
    assert found["passed"] is True
    assert found["first_divergence"] is None
    assert found["cases"][0]["precision"] == "float64"


def test_errors_are_one_line(expected, mine, refused, tmp_path):
    path = mine("neuron/tie")
    folder = tmp_path / "mine"
    assert "manifest.json is missing" in refused(["compare", tmp_path, folder])
    assert "does not exist" in refused(["compare", expected, tmp_path / "nothing"])
    assert "is not among the cases" in refused(["compare", expected / "neuron/no.npz", folder])
    assert "holds no neuron/tanh.npz" in refused(["compare", expected / "neuron/tanh.npz", folder])
    path.rename(tmp_path / "o.npz")
    assert "o.npz is not named after a case: name it LEVEL/NAME.npz" in refused(
        ["compare", expected, tmp_path / "o.npz"]
    )
    assert "holds no .npz file" in refused(["compare", expected, folder])
    assert "--precision: invalid choice" in refused(
        ["compare", expected, folder, "--precision", "float8"]
    )


def test_a_report_that_cant_be_written_is_said_before_anything(expected, refused):
    line = refused(["compare", expected, expected, "--json", "/nothing/report.json"])
    assert line == "refsnn: error: No such file or directory: /nothing/report.json"


def test_flips_are_told_and_counted_but_excused(mine, cases, on_the_edge, tmp_path, compared):
    case = on_the_edge(5)
    vectors.write([case], tmp_path / "v")
    below = case.inputs | {"c": case.inputs["c"] - 2.0**-22}
    got = compute("neuron", below, {}, case.conventions)
    mine("neuron/tanh", **got)
    code, lines = compared("--precision", "float32", wanted=tmp_path / "v")
    assert code == 0, lines
    assert sum("rounding flip, not counted: o at step 0, index [" in line for line in lines) == 3
    assert "neuron/tanh: rounding flip, not counted: 2 more" in lines
    assert lines[-1] == (
        "1 case passed, 0 failed, 5 rounding flips excused (tolerances of float32)"
    )
    mine("neuron/tanh", **got | {"dc": got["dc"] * 1.5})
    code, lines = compared("--precision", "float32", wanted=tmp_path / "v")
    assert code == 1
    assert any(line.startswith("neuron/tanh: dc at step 0, index [0]") for line in lines)


def test_a_pattern_that_no_output_matches_is_refused(mine, expected, tmp_path, refused):
    mine("neuron/tanh")
    line = refused(["compare", expected, tmp_path / "mine", "--omit", "upre"])
    assert line.endswith("omit: got 'upre', want an output's name or pattern, like u_pre")


def test_missing_outputs_are_named_and_judge_nothing(mine, compared):
    left_out = ("u_pre", "du_pre", "dc", "du0", "dtau", "dv_th")
    mine("neuron/tanh", **dict.fromkeys(left_out))
    code, lines = compared("--omit", "*")
    assert code == 0
    assert f"not given, so not compared: {', '.join(left_out)}" in lines
    counts = {line.split()[0]: line.split()[1:] for line in lines if line[:2] in ("EQ", "D3")}
    assert counts["EQ2"] == ["1", "1", "0", "0"]
    assert counts["EQ3"] == counts["D3"] == ["1", "0", "0", "1"]


def test_a_file_that_is_another_cases_by_its_name_is_refused(mine, expected, refused):
    path = mine("neuron/tanh")
    line = refused(["compare", expected / "neuron/tie.npz", path])
    assert line.endswith("tanh.npz is named after the case neuron/tanh, want neuron/tie")


def test_more_cases_than_are_expected_are_counted_and_no_fault(mine, cases, tmp_path, compared):
    vectors.write([cases["neuron/tanh"]], tmp_path / "v")
    for name in NAMES:
        mine(name)
    code, lines = compared(wanted=tmp_path / "v")
    assert code == 0
    assert lines[-1] == (
        "1 case passed, 0 failed, 3 not among the expected ones (tolerances of float64)"
    )


def test_hidden_rounding_and_what_is_not_judged_are_said(mine, cases, compared, tmp_path):
    case = cases["neuron/tanh"]
    got = {name: value.astype(np.float32).astype(float) for name, value in case.outputs.items()}
    mine("neuron/tanh", **got)
    code, lines = compared()
    assert code == 1
    line = (
        "agrees as float32: something computes in float32 (--precision float32 judges it as that)"
    )
    assert lines.count(line) == 1
    assert "neuron/tanh: agrees as float32" in lines
    vectors.write([case, cases["neuron/far-tanh"]], tmp_path / "v")
    mine("neuron/far-tanh")
    mine("neuron/tanh")
    code, lines = compared("--precision", "float16", wanted=tmp_path / "v")
    assert code == 0
    assert any(
        line.startswith("neuron/far-tanh: not judged in float16: u_pre re") for line in lines
    )
    assert "1 case passed, 0 failed, 1 not judged" in lines[-1]
