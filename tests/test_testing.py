"""The oracle in a user's own tests: `refsnn.testing`."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import refsnn
from refsnn.oracle.recompute import recompute
from refsnn.testing import cases, check

(TIE,) = refsnn.cases(pattern="neuron/tie")
(SLOPE,) = refsnn.cases(pattern="surrogate/tanh")


class Right:
    levels = ("neuron",)

    def run(self, case):
        return recompute(case).outputs


def at_threshold(case):
    return recompute(case, {"fire_at_threshold": True}).outputs


def test_cases_are_parameters_named_by_their_ids():
    given = cases("neuron", pattern="*tie*")
    assert [parameter.id for parameter in given] == ["neuron/tie", "neuron/tie-inclusive"]
    for parameter in given:
        (case,) = parameter.values
        assert case.id == parameter.id
        assert np.isfinite(case.outputs["o"]).all()


def test_cases_are_read_from_a_folder_too(tmp_path):
    from refsnn.oracle import vectors

    vectors.write([TIE], tmp_path)
    assert [parameter.id for parameter in cases(vectors=tmp_path)] == ["neuron/tie"]


@pytest.mark.parametrize("mine", [Right, Right(), lambda case: recompute(case).outputs])
def test_a_right_implementation_passes(mine):
    check(TIE, mine)


def test_a_wrong_one_fails_with_the_first_divergence():
    with pytest.raises(AssertionError) as failed:
        check(TIE, at_threshold)
    assert str(failed.value).startswith("neuron/tie: o at step 0, index [0]: expected 0, got 1")
    assert "\n" not in str(failed.value)


def test_one_that_raises_fails_with_its_line():
    def broken(case):
        raise ZeroDivisionError("no time")

    text = r"^neuron/tie: raised: ZeroDivisionError: no time \(test_testing.py:\d+, in broken: "
    with pytest.raises(AssertionError, match=text):
        check(TIE, broken)


def test_what_it_cannot_express_is_skipped():
    def narrow(case):
        raise refsnn.Unsupported("no ties")

    with pytest.raises(pytest.skip.Exception, match="neuron/tie: no ties"):
        check(TIE, narrow)
    with pytest.raises(pytest.skip.Exception, match="it declares no level surrogate"):
        check(SLOPE, Right)


def test_outputs_are_omitted_only_if_named():
    def spikes(case):
        return {"o": recompute(case).outputs["o"]}

    with pytest.raises(AssertionError, match="dc is missing"):
        check(TIE, spikes)
    check(TIE, spikes, omit=["dc", "loss"])  # the last is another level's


def test_the_precision_sets_the_tolerances():
    def coarse(case):
        return {name: x + 1e-9 * (name == "dc") for name, x in recompute(case).outputs.items()}

    check(TIE, coarse, precision="float32")
    with pytest.raises(AssertionError, match="dc at step"):
        check(TIE, coarse)


def test_anything_but_a_case_is_refused():
    with pytest.raises(TypeError, match="case: got 'neuron/tie', want a case"):
        check("neuron/tie", Right)
    with pytest.raises(TypeError, match="implementation: got int"):
        check(TIE, 3)


def test_it_is_imported_without_pytest():
    code = "import sys, refsnn.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]


@pytest.mark.processes
def test_pytest_shows_ids_skips_and_no_line_of_refsnn(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
        import pytest
        import refsnn
        from refsnn.oracle.recompute import recompute
        from refsnn.testing import cases, check

        def mine(case):
            if case.conventions["reset_gradient"] != "full":
                raise refsnn.Unsupported("no such reset")
            return recompute(case, {"fire_at_threshold": True}).outputs

        names = ["neuron/tie", "neuron/tie-inclusive", "neuron/detached-reset"]

        @pytest.mark.parametrize("case", cases("neuron", pattern=names))
        def test_mine(case):
            check(case, mine)
        """)
    )
    root = str(Path(refsnn.__file__).parents[1])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "-rs", "-p", "no:cacheprovider", "test_mine.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    out = done.stdout
    assert done.returncode == 1, out + done.stderr
    assert re.search(r"test_mine\[neuron/tie-inclusive\] PASSED", out)
    assert re.search(r"test_mine\[neuron/detached-reset\] SKIPPED", out)
    assert re.search(r"^E +AssertionError: neuron/tie: o at step 0", out, re.M)
    assert "no such reset" in out
    assert "refsnn/testing.py:" not in out.replace("\\", "/").partition("short test summary")[0]
