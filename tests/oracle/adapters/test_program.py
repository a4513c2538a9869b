"""Programs as adapters: what they are given, what they may write, and one in C."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import refsnn
from refsnn.cli import main
from refsnn.files import npy
from refsnn.oracle.adapters import Unsupported
from refsnn.oracle.adapters.program import Program, ProgramFailed
from refsnn.oracle.isolate import Isolated

pytestmark = pytest.mark.processes

EXAMPLE = Path(refsnn.__file__).parent / "oracle" / "examples" / "lif.c"


@pytest.fixture
def program(tmp_path):
    """Makes a program of some lines of Python, in which `given` and `made` are its folders."""

    def make(code):
        path = tmp_path / "program.py"
        head = (
            "import os, sys, time\nimport numpy as np\nfrom pathlib import Path\n"
            "given, made = map(Path, sys.argv[-2:])\n"
        )
        path.write_text(head + textwrap.dedent(code))
        return Program([sys.executable, str(path), "--flag"])

    return make


def test_it_is_given_a_folder_and_writes_one(program, doubling, tmp_path):
    run = program(f"""
    assert sys.argv[1] == "--flag"
    import shutil
    shutil.copytree(given, {str(tmp_path / "seen")!r})
    x = np.load(given / "x.npy", allow_pickle=False)
    np.save(made / "y.npy", 2 * x)
    """).run
    case = doubling()
    labels = np.array([3, 1])
    case = doubling(
        inputs={**case.inputs, "labels": labels, "conv.weight": case.inputs["x"].T},
        outputs={**case.outputs, "loss": np.array(1.0)},
    )
    found = run(case)
    np.testing.assert_array_equal(found["y"], case.outputs["y"])
    seen = tmp_path / "seen"
    assert sorted(p.name for p in seen.iterdir()) == [
        "case.txt",
        "conv.weight.npy",
        "labels.npy",
        "x.npy",
    ]
    assert np.load(seen / "labels.npy").dtype.str == "<i8"
    weight = np.load(seen / "conv.weight.npy")
    assert weight.dtype.str == "<f8"
    assert weight.flags.c_contiguous
    lines = (seen / "case.txt").read_text().splitlines()
    assert lines[:3] == ["id neuron/a", "level neuron", "repeat 1"]
    for line in (
        "convention.tau 0.5",
        "convention.fire_at_threshold false",
        "convention.leak tau*u + c",
        "setting.stride 1",
        "setting.training true",
        "setting.widths 4 8",
        "input.x 2 3",
        "input.labels 2",
        "input.conv.weight 3 2",
        "output.y 2 3",
        "output.loss ",
    ):
        assert line in lines


def test_numbers_in_the_case_file_come_back_to_the_bit(program, doubling, tmp_path):
    run = program(f"Path({str(tmp_path / 'seen')!r}).write_text((given / 'case.txt').read_text())")
    case = doubling()
    run.run(doubling(conventions={**case.conventions, "tau": 0.1 + 0.2}))
    lines = dict(line.split(" ", 1) for line in (tmp_path / "seen").read_text().splitlines())
    assert float(lines["convention.tau"]) == 0.1 + 0.2


def test_exit_code_3_is_unsupported(program, doubling):
    run = program("print('no such reset\\nmore', file=sys.stderr); sys.exit(3)").run
    with pytest.raises(Unsupported, match=r"^no such reset$"):
        run(doubling())


SAVE = "np.save(made / 'y.npy', {}, allow_pickle=True)"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("sys.exit('no x.npy')", "^exit code 1: no x.npy$"),
        ("sys.exit(4)", "^exit code 4: nothing on standard error$"),
        ("os.abort()", "^killed by SIGABRT: "),
        ("(made / 'y.npy').write_bytes(b'')", r"^y\.npy: got 0 bytes without a header"),
        (SAVE.format("np.array([{}])"), r"^y\.npy: got dtype object, want numbers"),
        (SAVE.format("np.zeros(10**6)"), r"^y\.npy: got 8000128 bytes, want at most"),
        ("(made / 'y.npy').mkdir()", r"^y\.npy: got something other than a file"),
        ("os.mkfifo(made / 'y.npy')", r"^y\.npy: got something other than a file"),
        (
            SAVE.format("np.zeros(9)") + "; os.truncate(made / 'y.npy', 190)",
            r"^y\.npy: got 62 bytes of data, want 72",
        ),
    ],
)
def test_any_other_ending_is_a_failure(code, message, program, doubling):
    with pytest.raises(ProgramFailed, match=message):
        program(code).run(doubling())


def test_files_that_nobody_wanted_are_passed_on_by_name(program, doubling):
    found = program("(made / 'z.npy').write_bytes(bytes(10**7))").run(doubling())
    assert {name: array.shape for name, array in found.items()} == {"z": (0,)}


@pytest.mark.parametrize("command", ["./lif", [], ["./nothing"]])
def test_an_object_that_is_no_command_is_refused(command):
    with pytest.raises(ValueError, match=r"^program: got .*, want a "):
        Program(command)


def test_one_that_hangs_is_ended_with_its_children(program, doubling, tmp_path):
    command = program(f"""
    import subprocess
    child = subprocess.Popen(["sleep", "1000"])
    Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
    time.sleep(1000)
    """).command
    with Isolated(program=command, timeout=3) as isolated:
        answer = isolated.run(doubling())
    assert (answer.status, answer.message) == ("hung", "no answer within 3 s")
    pid = (tmp_path / "pid").read_text()
    subprocess.run(
        ["sh", "-c", f"while kill -0 {pid} 2>/dev/null; do sleep 0.05; done"],
        timeout=20,
        check=True,
    )


def test_a_program_that_hangs_leaves_no_folder(program, doubling, tmp_path, monkeypatch):
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    command = program("""
    time.sleep(1000)
    """).command
    with Isolated(program=command, timeout=1) as isolated:
        assert isolated.run(doubling()).status == "hung"
        assert not list(Path(isolated.folder.name).iterdir())
    assert not list((tmp_path / "tmp").iterdir())


def test_its_failure_is_told_without_our_own_lines(program, doubling):
    command = program("print('out', flush=True); sys.exit('no x.npy')").command
    with Isolated(program=command) as isolated:
        answer = isolated.run(doubling())
    assert (answer.status, answer.message) == ("raised", "exit code 1: no x.npy")
    assert answer.printed == "out\nno x.npy\n"


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


def compiled(folder, *flags):
    warnings = ("-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror")
    out = str(folder / "lif")
    subprocess.run(["cc", *warnings, "-O2", *flags, "-o", out, str(EXAMPLE), "-lm"], check=True)
    return out


@needs_compiler
def test_the_example_in_c_conforms(tmp_path, capsys):
    code = main(["conform", "--program", compiled(tmp_path), "--level", "neuron", "--verbose"])
    text = capsys.readouterr().out
    assert code == 0, text
    for case in ("tanh", "rectangle", "tie"):
        assert f" neuron/{case}:" not in text, "neither failed nor unsupported"
    both = "neuron/triangle, neuron/far-triangle"
    assert f"UNSUPPORTED {both}: surrogate not done here: triangular" in text


@needs_compiler
def test_the_example_with_a_fault_is_caught_at_the_tie(tmp_path, capsys):
    code = main(["conform", "--program", compiled(tmp_path, "-DINCLUSIVE"), "--level", "neuron"])
    text = capsys.readouterr().out
    assert code == 1
    (line,) = [line for line in text.splitlines() if line.startswith("FAILED neuron/tie:")]
    assert "o at step 0, index [0]: expected 0, got 1" in line


@needs_compiler
def test_the_example_names_what_it_cannot_read(tmp_path):
    lif = compiled(tmp_path)
    (tmp_path / "case.txt").write_text("input.c 2 3\n")
    (tmp_path / "c.npy").write_bytes(npy.dump(np.zeros((2, 3)))[:-1])
    done = subprocess.run([lif, tmp_path, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "can't read c.npy\n")
    done = subprocess.run([lif, tmp_path / "none", tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith(f"can't open {tmp_path / 'none'}{os.sep}case.txt")


def test_the_example_comes_with_the_package():
    assert '"examples/*.c"' in (EXAMPLE.parents[3] / "pyproject.toml").read_text()
