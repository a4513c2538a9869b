"""`refsnn bench` from the command line."""

import json
import subprocess
import sys

import pytest

from refsnn.bench import command, measure, report, scaling, workload
from refsnn.cli import build_parser, main
from refsnn.training.recipes import self_contained

TINY = ["bench", "--arch=1-1:4-8", "--size=8", "--batch-size=2", "--steps=2", "--repeats=1"]


@pytest.mark.slow
@pytest.mark.processes
def test_a_run_prints_tables_and_writes_an_object(tmp_path, capsys, monkeypatch):
    path = tmp_path / "bench.json"
    options = ["--ops=numpy", "--threads=1", "--scaling", "--json", str(path)]
    monkeypatch.setattr(scaling, "POINTS", {"steps": (1, 2, 3)})
    assert main([*TINY, *options]) == 0
    shown, found = capsys.readouterr(), json.loads(path.read_text())
    assert not shown.err
    for words in ("images/s", "convolution forward", "norm and neuron", "2x8x8x3", "straight line"):
        assert words in shown.out
    assert {"cpu", "cores", "threads", "versions", "gemm_gflops", "copy_gib_s"} <= set(
        found["machine"]
    )
    assert found["machine"]["threads"] == 1
    assert found["ratios"] == []
    train, inference = found["results"]
    for row, phase in ((train, "train"), (inference, "inference")):
        assert (row["arch"], row["phase"], row["library"]) == ("1-1:4-8", phase, "refsnn")
        assert row["images_per_second"] > 0
        assert row["peak_mib"] >= row["baseline_mib"] > 1
        assert 0 < row["density"] < 1
        parts = row["breakdown"]["parts"]
        assert sum(part["share"] for part in parts) == pytest.approx(1)
        assert parts[-1]["part"] == "rest"
    assert inference["density"] == pytest.approx(0.15, rel=0.2)
    assert [row["against"] for row in found["scaling"]] == ["steps"]
    assert len(found["scaling"][0]["seconds"]) == 3


@pytest.mark.slow
@pytest.mark.processes
def test_recipes_are_measured_beside_the_papers_network(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main([*TINY, "--recipe", "mpbn", "ms-resnet", "--force", "--json", str(path)]) == 0
    found = json.loads(path.read_text())
    names = [(row["phase"], row["library"]) for row in found["results"]]
    wanted = ["refsnn", "mpbn", "ms-resnet"]
    assert names == [(phase, name) for phase in ("train", "inference") for name in wanted]
    assert [row["library"] for row in found["ratios"]] == wanted[1:] * 2
    assert "the paper's network is faster by" in capsys.readouterr().out


def test_a_recipe_makes_the_network_that_is_measured():
    spec = workload.Spec(arch="1-1:4-8", recipe="plif")
    assert type(workload.network_of(spec).neuron_model).__name__ == "PLIF"
    assert workload.config_of(spec).objective.method == "vanilla"
    given = build_parser().parse_args(["bench", "--recipe", "all"])
    assert command.recipes_of(given) == self_contained()
    assert all(spec.density is None for spec in command.specs(given))


@pytest.mark.slow
@pytest.mark.processes
def test_choices_are_shown_beside_the_fastest(tmp_path, capsys):
    path = tmp_path / "bench.json"
    assert main([*TINY, "--choices", "--json", str(path)]) == 0
    shown, rows = capsys.readouterr().out, json.loads(path.read_text())["choices"]
    assert "1-1:4-8, inference: the algorithm of each convolution" in shown
    assert {(row["arch"], row["phase"]) for row in rows} == {
        ("1-1:4-8", "train"),
        ("1-1:4-8", "inference"),
    }
    for row in rows:
        assert row["seconds"][row["best"]] == min(row["seconds"].values())
        assert row["ratio"] == row["seconds"][row["choice"]] / row["seconds"][row["best"]]


def test_both_phases_of_both_resnets_are_measured_by_default():
    specs = command.specs(build_parser().parse_args(["bench"]))
    assert [(s.arch, s.phase, s.batch_size, s.density) for s in specs] == [
        ("resnet20", "train", 32, None),
        ("resnet20", "inference", 32, 0.15),
        ("resnet18", "train", 16, None),
        ("resnet18", "inference", 16, 0.15),
    ]
    given = ["bench", "--arch", "resnet8", "1:4", "--arch=resnet8", "--density=0.2"]
    specs = command.specs(build_parser().parse_args([*given, "--batch-size=3"]))
    assert [(s.arch, s.batch_size, s.density) for s in specs] == [
        ("resnet8", 3, 0.2),
        ("resnet8", 3, 0.2),
        ("1:4", 3, 0.2),
        ("1:4", 3, 0.2),
    ]


@pytest.mark.parametrize("memory", ["normal", "low"])
def test_a_step_takes_the_memory_that_is_asked_for(memory, monkeypatch):
    seen = []
    monkeypatch.setattr(workload, "train_step", lambda *given: seen.append(given[-1]))
    spec, inference = command.specs(build_parser().parse_args([*TINY, f"--memory={memory}"]))
    workload.refsnn_step(spec, *workload.fresh_numbers(spec))(workload.ops_of(spec))
    assert seen == [memory == "normal"]
    for one in (spec, inference):
        row = measure.describe(one, "refsnn") | {"density": 0.1, "density_range": [0.1, 0.1]}
        results = dict.fromkeys(("images_per_second", "first_step_seconds", "peak_mib"), 1)
        row |= results | {"baseline_mib": 1, "threads": 1}
        title = report.comparison([row], []).splitlines()[0]
        assert title.endswith(", low memory") == one.is_low == (memory == "low" and one is spec)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arch=resnet99"], "resnet99"),
        (["--steps=0"], "steps: got 0"),
        (["--batch-size=0"], "batch_size: got 0"),
        (["--size=0"], "size: got 0"),
        (["--threads=0"], "threads: got 0"),
        (["--repeats=0"], "repeats: got 0"),
        (["--density=1.5"], "density: got 1.5"),
        (["--ops=cuda"], "cuda"),
        (["--memory=none"], "none"),
        (["--choices", "--conv=dense"], "choices: got --ops numba --conv dense, which leave no"),
        (["--choices", "--ops=numpy"], "choices: got --ops numpy --conv auto, which leave no"),
        (["--memory=low", "--arch=linear-lif:64"], "memory: got 'low', but linear-lif:64 has no"),
        (["--ops=numpy", "--conv=event"], "conv: got 'event', but ops numpy has one"),
        (["--threads=99999"], "threads: got 99999, want at most"),
        (["--json=missing/bench.json"], "missing/bench.json"),
        (["--json=."], "Is a directory"),
        (["--recipe=pliff"], "recipe: got 'pliff', did you mean plif?"),
        (["--recipe=tet", "--peers"], "peers: got it beside --recipe, want one of both"),
        (["--recipe=tet", "--density=0.1"], "density: got 0.1, but recipes run at the rates"),
        (["--recipe=tet", "--arch=linear-lif"], "recipe: got tet, but linear-lif:512 is no"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(
    arguments, words, refused, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command, "single", None)  # would start a process
    assert words in refused([*TINY, *arguments])
    assert not list(tmp_path.iterdir())


def test_peers_that_are_not_installed(refused, monkeypatch):
    monkeypatch.setattr(command, "find_spec", lambda name: None)
    line = refused([*TINY, "--peers"])
    assert "peers: torch is not installed; pip install 'refsnn[peers]'" in line


@pytest.mark.processes
def test_a_worker_that_dies_ends_the_run_in_a_line(refused, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "0")
    path = tmp_path / "bench.json"
    line = refused([*TINY, "--json", path])
    assert "refsnn: error: Number of threads" in line
    assert not path.exists()


@pytest.mark.parametrize(
    ("load", "options", "given"), [(0.1, [], 1), (3.0, [], 0), (3.0, ["--force"], 1)]
)
def test_a_busy_machine_gives_ratios_only_by_force(
    load, options, given, capsys, monkeypatch, tmp_path
):
    found = {"gemm_gflops": 1.0, "copy_gib_s": 1.0, "threads": 1}
    monkeypatch.setattr(command, "single", lambda spec: found)
    monkeypatch.setattr(command, "load_average", lambda: load)
    monkeypatch.setattr(command, "compare", lambda *_: ([], [{"library": "torch"}]))
    monkeypatch.setattr(command.report, "workload", lambda results, ratios: f"{len(ratios)} ratios")
    path = tmp_path / "bench.json"
    assert main([*TINY, "--json", str(path), *options]) == 0
    assert len(json.loads(path.read_text())["ratios"]) == 2 * given  # of two phases
    shown = capsys.readouterr().out
    assert f"{given} ratios" in shown
    assert ("--force" in shown) == (load > 0.5)


def test_json_alone_on_standard_output(capsys, monkeypatch):
    monkeypatch.setattr(
        command, "single", lambda spec: {"gemm_gflops": 1.0, "copy_gib_s": 1.0, "threads": 1}
    )
    monkeypatch.setattr(command, "compare", lambda *_: ([], []))
    monkeypatch.setattr(command.report, "workload", lambda *_: "not for a program")
    assert main([*TINY, "--json=-"]) == 0
    assert json.loads(capsys.readouterr().out)["results"] == []


@pytest.mark.processes
def test_the_command_line_loads_none_of_the_libraries():
    code = (
        "import sys, refsnn.cli; refsnn.cli.build_parser().parse_args(['bench']);"
        " print(*sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "refsnn.bench.command" in loaded.split()
    assert not {"numba", "torch", "matplotlib", "scipy"} & set(loaded.split())
