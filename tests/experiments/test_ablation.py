"""Ablations: their runs, the runs' folders, and what is refused."""

import json
import re
import shutil
from concurrent.futures import Future
from itertools import product

import pytest

from refsnn.cli import build_parser, main
from refsnn.experiments import ablation, ablation_command, schedule, table
from refsnn.experiments.ablation import Planned, Result, configs, fixed
from refsnn.experiments.presets import PRESETS, DataSize, Grid
from refsnn.files.writing import write_json
from refsnn.training.config import make_config
from refsnn.training.folder import read_config

TINY = ["--archs=1-1:4-8", "--epochs=2", "--batch-size=160", "--ops=numpy"]


def wanted(*options):
    return configs(ablation_command.grids(build_parser().parse_args(["ablation", *options])))


@pytest.fixture
def untrained(monkeypatch):
    """No run is run: all that was asked for, of every call."""
    asked = []

    def train_all(runs, workers, stopping):
        asked.append([run.folder.name for run in runs])
        for folder, config in runs:
            folder.mkdir(parents=True)
            write_json(folder / "config.json", config.to_dict())
            write_json(folder / "diverged.json", {"reason": "of the test"})
        return schedule.Counter(diverged=len(runs))

    monkeypatch.setattr(ablation_command, "train_all", train_all)
    return asked


def test_a_grid_is_every_combination_once():
    grid = Grid({"epochs": 3}, ("1:4", "2:4"), (1, 2), ("vanilla", "shortcut"), (0, 5))
    overlapping = Grid({"epochs": 3}, ("1:4",), (2, 4), ("vanilla",), (5,))
    made = [
        (c.objective.method, c.network.arch, c.steps, c.seed) for c in configs([grid, overlapping])
    ]
    axes = (("vanilla", "shortcut"), ("1:4", "2:4"), (1, 2), (0, 5))
    assert made == [*product(*axes), ("vanilla", "1:4", 4, 5)]
    assert all(c.epochs == 3 for c in configs([grid]))


def test_options_replace_the_presets_values():
    made = wanted(
        "--methods",
        "shortcut",
        "vanilla",
        "--archs",
        "1:4",
        "2:4",
        "--steps",
        "1",
        "4",
        "--seeds",
        "2",
        "--lr=0.5",
        "--reset-gradient",
        "detached",
    )
    axes = [(c.objective.method, c.network.arch, c.steps, c.seed) for c in made]
    assert axes == list(product(("shortcut", "vanilla"), ("1:4", "2:4"), (1, 4), (0, 1)))
    assert fixed(made[0]) == fixed(make_config()) | {"lr": 0.5, "reset_gradient": "detached"}
    assert [c.seed for c in wanted("--methods=vanilla", "--seeds", "3", "7")] == [3, 7]
    assert len(wanted("--preset=claim")) == 75
    # one surrogate, with its usual number, in place of both of the preset's
    given = wanted("--preset=claim", "--seeds=1", "--surrogate=triangular")
    assert len(given) == 9
    assert {c.neuron.surrogate_shape for c in given} == {None}


def test_regimes_that_an_option_makes_equal_are_run_once():
    alike = wanted("--preset=claim", "--surrogate=triangular", "--surrogate-shape=1")
    assert len(alike) == 45


def test_the_tables_order_depends_only_on_the_runs(tmp_path):
    made = wanted(
        "--archs",
        "1-10:4-8",
        "2-2:4-8",
        "--steps",
        "4",
        "2",
        "--seeds",
        "3",
        "1",
        "--methods",
        "evolutionary",
        "vanilla",
    )
    settings = ablation.settings_of(tmp_path, made)
    names = [run.folder.name for run in ablation.plan(tmp_path, made[::-1], settings)]
    assert names == [
        f"{arch}_4-8-T{steps}-{method}-seed{seed}"
        for arch, steps, method, seed in product(
            ("2-2", "1-10"), (2, 4), ("vanilla", "evolutionary"), (1, 3)
        )
    ]


def test_architectures_of_one_depth_stay_apart(tmp_path):
    made = wanted(
        "--archs",
        "2-2:4-8",
        "1-3:4-8",
        "--methods",
        "shortcut",
        "vanilla",
        "--seeds=1",
        "--steps",
        "2",
        "1",
    )
    runs = ablation.plan(tmp_path, made, ablation.settings_of(tmp_path, made))
    assert [
        (run.config.network.arch, run.config.steps, run.config.objective.method) for run in runs
    ] == list(product(("1-3:4-8", "2-2:4-8"), (1, 2), ("vanilla", "shortcut")))
    rows = table.tabulate([Result(run.config, "missing") for run in runs])["rows"]
    assert [(row["arch"], row["steps"], len(row["methods"])) for row in rows] == [
        ("1-3:4-8", 1, 2),
        ("1-3:4-8", 2, 2),
        ("2-2:4-8", 1, 2),
        ("2-2:4-8", 2, 2),
    ]


def test_folders_name_the_settings_that_grids_differ_in(tmp_path):
    made = configs(PRESETS["claim"])
    plan = ablation.plan(tmp_path, made, ablation.settings_of(tmp_path, made))
    assert plan[0].folder == tmp_path / "runs" / "tanh-0.5-3-3-3_8-16-32-T2-vanilla-seed0"
    assert plan[-1].folder.name == "rectangular-1.0-9-9-9_8-16-32-T2-evolutionary-seed4"


def test_later_calls_add_runs_and_run_only_those(untrained, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    assert main(["ablation", *TINY, *out, "--methods=vanilla", "--seeds=1"]) == 0
    assert main(["ablation", *TINY, *out, "--methods=vanilla", "--seeds=2"]) == 0
    assert main(["ablation", *TINY, *out, "--methods=shortcut", "--seeds=1"]) == 0
    assert main(["ablation", *TINY, *out, "--methods=vanilla", "--seeds=2"]) == 0
    assert untrained == [
        ["1-1_4-8-T2-vanilla-seed0"],
        ["1-1_4-8-T2-vanilla-seed1"],
        ["1-1_4-8-T2-shortcut-seed0"],
    ]
    (row,) = json.loads((tmp_path / "out" / "table.json").read_text())["rows"]
    assert {name: cell["diverged"] for name, cell in row["methods"].items()} == {
        "vanilla": [0, 1],
        "shortcut": [0],
    }


def test_remaining_runs_are_reported_even_if_no_run_was_interrupted(tmp_path, monkeypatch, capsys):
    """The last running run finished just as it was asked to stop."""
    states = schedule.Counter(finished=1, waiting=8)
    monkeypatch.setattr(ablation_command, "train_all", lambda *_: states)
    assert main(["ablation", *TINY, "--out", str(tmp_path / "out")]) == 128
    assert capsys.readouterr().err == "stopped; the same command continues\n"


def test_changed_settings_are_refused_by_name(untrained, tmp_path, capsys, refused):
    out = tmp_path / "out"
    assert main(["ablation", *TINY, "--out", str(out)]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()}
    capsys.readouterr()
    line = refused(["ablation", *TINY, "--out", out, "--lr=0.5", "--tau=1", "--seeds", "7", "8"])
    assert "is for tau 0.5, lr 0.01; got tau 1.0, lr 0.5" in line
    assert {path: path.read_bytes() for path in out.rglob("*.*") if path.is_file()} == before


def test_the_nearest_of_several_settings_is_named(untrained, tmp_path, capsys, refused):
    """A subset of the settings is no change."""
    out = tmp_path / "out"
    assert main(["ablation", "--preset=claim", *TINY, "--seeds=1", "--out", str(out)]) == 0
    rectangular = ["--surrogate=rectangular", "--surrogate-shape=1", "--lr=0.005"]
    assert main(["ablation", *TINY, "--seeds=2", "--out", str(out), *rectangular]) == 0
    assert untrained[-1] == [
        f"rectangular-1.0-1-1_4-8-T2-{method}-seed1"
        for method in ("vanilla", "shortcut", "evolutionary")
    ]
    capsys.readouterr()
    line = refused(["ablation", *TINY, "--out", out, *rectangular, "--tau=0.25"])
    assert "is for tau 0.5; got tau 0.25" in line


def test_a_run_that_does_not_belong_there_is_not_counted(untrained, tmp_path, capsys, refused):
    out = tmp_path / "out"
    assert main(["ablation", *TINY, "--seeds=1", "--out", str(out)]) == 0
    capsys.readouterr()
    copied = out / "runs" / "copy"
    shutil.copytree(out / "runs" / "1-1_4-8-T2-vanilla-seed0", copied)
    assert "copy/config.json: got a run of other settings" in refused(
        ["ablation", *TINY, "--out", out]
    )
    shutil.rmtree(copied)
    path = out / "runs" / "1-1_4-8-T2-vanilla-seed0" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lr": 0.5}))
    assert "vanilla-seed0/config.json: got a run" in refused(["ablation", *TINY, "--out", out])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of an ablation of two methods, trained."""
    out = tmp_path_factory.mktemp("ablation") / "whole"
    assert main(["ablation", *TINY, *PAIR, "--out", str(out)]) == 0
    return out


PAIR = ("--methods", "vanilla", "shortcut", "--seeds=1", "--steps=1")
VANILLA = "runs/1-1_4-8-T1-vanilla-seed0"
DAMAGE = {
    "checkpoint.npz": [b"", b"PK\x03\x04", b"x" * 5000],
    "summary.json": [
        b"",
        b"{}",
        b'{"test_accuracy": "high"}',
        b'{"test_accuracy": 7}',
        b"[" * 9999,
    ],
    "config.json": [b"", b"[]", b'{"width": 1e308}'],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, content) for name, all_ in DAMAGE.items() for content in all_]
)
@pytest.mark.slow_after(1)
def test_a_damaged_run_does_not_affect_others(name, content, finished, tmp_path, capsys):
    out = tmp_path / "copy"
    shutil.copytree(finished, out)
    (out / VANILLA / name).write_bytes(content)
    capsys.readouterr()
    assert main(["ablation", *TINY, *PAIR, "--out", str(out)]) == 1
    shown = capsys.readouterr()
    (line,) = [line for line in shown.err.splitlines() if line.startswith("left out: ")]
    assert f"{VANILLA}/{name}: " in line
    assert "remove the run's folder to train it again" in line
    row = json.loads((out / "table.json").read_text())["rows"][0]
    assert row["methods"]["vanilla"]["damaged"] == [0]
    assert row["methods"]["vanilla"]["mean"] is None
    assert row["methods"]["shortcut"]["n"] == 1
    assert "1 damaged" in shown.out


def test_a_finished_run_without_its_checkpoint_is_damaged(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "copy")
    folder = tmp_path / "copy" / VANILLA
    (folder / "checkpoint.npz").unlink()
    found = ablation.result(Planned(folder, read_config(folder)))
    assert (found.state, found.accuracy) == ("damaged", None)
    assert "checkpoint.npz" in found.reason


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("[]", "got a list, want an object"),
        ("{}", "settings is missing"),
        ('{"settings": 3}', "settings: got 3, want an array"),
        ('{"settings": [3]}', "settings[0]: got 3, want an object"),
        ('{"settings": [{"foo": 1}]}', "settings[0]: setting: got 'foo', want one of"),
        ('{"settings": [{"width": 1e308}]}', "settings[0]: width: got 1e+308, want at most"),
        ("[" * 10_000, "nested more than 64 deep"),
    ],
)
def test_a_damaged_record_of_settings_is_named(content, message, tmp_path, refused):
    (tmp_path / "ablation.json").write_text(content)
    line = refused(["ablation", *TINY, "--out", tmp_path])
    assert f"{tmp_path}/ablation.json: {message}" in line.replace("got values nested", "nested")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods=magic"], "magic"),
        (["--archs=resnet99"], "resnet99"),
        (["--steps=0"], "steps: got 0"),
        (["--seeds=0"], "seeds: got 0"),
        (["--seeds", "-1", "2"], "seed: got -1"),
        (["--seed=3"], "--seed=3"),
        (["--arch=resnet8"], "--arch"),
        (["--jobs=0"], "jobs: got 0"),
        (["--threads=0"], "threads: got 0"),
        (["--threads=100000"], "threads: got 100000, want 1 to"),
        (["--lr=0"], "lr: got 0"),
        (["--preset=table9"], "table9"),
        (["--dataset=cats"], "dataset: got 'cats'"),
        (["--cutout=100"], "cutout: got 100"),
        (["--archs=1-1-1-1-1:2-2-2-2-2", "--downsample=avgpool"], "downsample: avgpool wants even"),
        (["--dataset=cats", "--estimate"], "dataset: got 'cats'"),
        (["--preset=table1", "--dataset=cats", "--estimate"], "dataset: got 'cats'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    arguments, words, tmp_path, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert words in refused(["ablation", *TINY, *arguments])
    assert not list(tmp_path.iterdir())


def test_an_estimate_adds_up_the_remaining_runs(monkeypatch, tmp_path, capsys):
    """0.1 s a training image and 0.01 s a test image; 5 of the 9 x 3 epochs are done."""
    seen = []

    def submit(name, function, config, size):
        assert function is schedule.measure
        seen.append((config.network.arch, config.steps, size))
        return done

    done = Future()
    done.set_result((0.1, 0.01))
    made = wanted(*TINY[:1], "--epochs=3", "--seeds=3")
    runs = [Planned(tmp_path / str(i), config) for i, config in enumerate(made)]
    for folder, epochs in ((runs[0].folder, 3), (runs[1].folder, 2)):
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("{}\n" * epochs)
    sizes = {"digits": DataSize(100, 50, (8, 8, 1), 10)}
    workers = schedule.Workers(submit, None)
    (row,) = schedule.estimate(runs, sizes, workers, lambda: False)
    assert seen == [("1-1:4-8", 2, sizes["digits"])]
    assert row.runs == 9
    assert row.seconds == pytest.approx((9 * 3 - 5) * (100 * 0.1 + 50 * 0.01))


def test_an_estimate_needs_neither_data_nor_a_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ["--archs=1-1:4-8", "--steps", "1", "2", "--batch-size=4", "--ops=numpy"]
    assert main(["ablation", "--preset=table1", "--estimate", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[2:4]] == ["1-1", "1-1"]
    assert "1-1:4-8, T = 1: 9 runs, " in lines[2]
    assert lines[4].startswith("together ")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def measured(monkeypatch):
    """The runs of every estimate, each as if measured."""
    asked = []

    def estimate(runs, sizes, workers, stopping):
        asked.append([(run.folder.parents[1].name, run.config.optimizer.lr) for run in runs])
        yield schedule.Estimate(runs[0].config, len(runs), 1.0)

    monkeypatch.setattr(ablation_command, "estimate", estimate)
    return asked


@pytest.mark.usefixtures("untrained")
def test_an_estimate_ignores_a_folder_with_other_settings(tmp_path, measured, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["ablation", *TINY, "--methods=vanilla", "--seeds=2"]) == 0
    before = sorted(tmp_path.rglob("*"))
    assert main(["ablation", *TINY, "--seeds=2", "--estimate"]) == 0
    assert main(["ablation", *TINY, "--seeds=2", "--estimate", "--lr=0.5"]) == 0
    assert measured == [[("ablation-digits", 0.01)] * 4, [("ablation-digits-2", 0.5)] * 6]
    assert sorted(tmp_path.rglob("*")) == before
    other = ["ablation", *TINY, "--lr=0.5"]
    assert "which needs another folder" in refused(other)
    assert "which needs" in refused([*other, "--estimate", "--out=runs/ablation-digits"])
    assert "dataset: got 'cats'" in refused([*other, "--estimate", "--dataset=cats"])


def test_an_estimate_is_printed_line_by_line(monkeypatch, capsys):
    told = []

    def estimate(runs, sizes, workers, stopping):
        for seconds in (60.0, 7200.0):
            told.append(capsys.readouterr().out)
            yield schedule.Estimate(runs[0].config, 1, seconds)

    monkeypatch.setattr(ablation_command, "estimate", estimate)
    assert main(["ablation", "--preset=table4", "--seeds=1", "--estimate"]) == 0
    assert told[0].startswith("time on this machine")
    assert told[1] == "  resnet18, T = 10: 1 runs, 60 s\n"


def test_an_estimate_of_several_recipes_names_them(monkeypatch, capsys):
    def estimate(runs, sizes, workers, stopping):
        yield schedule.Estimate(runs[-1].config, 2, 60.0)

    monkeypatch.setattr(ablation_command, "estimate", estimate)
    assert main(["ablation", "--preset=methods", "--seeds=1", "--estimate"]) == 0
    assert "  resnet8, T = 4, recipe psp-bn: 2 runs, 60 s\n" in capsys.readouterr().out


def test_help_gives_no_default_that_a_preset_replaces(capsys):
    with pytest.raises(SystemExit):
        main(["ablation", "--help"])
    shown = " ".join(capsys.readouterr().out.split()).partition("options: ")[2]
    defaults = {
        option: re.search(rf"{option} [A-Z{{].*?\(default: ([^)]*)\)", shown).group(1)
        for option in (
            "--epochs",
            "--batch-size",
            "--lr",
            "--dataset",
            "--surrogate-shape",
            "--lam",
            "--momentum",
        )
    }
    of_preset = dict.fromkeys(list(defaults)[:5], "the preset's")
    assert defaults == of_preset | {"--lam": "0.25", "--momentum": "0.9"}


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2.0 min"), (9000, "2.5 h"), (3e6, "34.7 days")],
)
def test_durations_have_units(seconds, words):
    assert ablation_command.duration(seconds) == words


def written(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return path


CROSSED = """
epochs = 3
arch = ["1:4", "1-1:4-8"]
[[grid]]
method = ["vanilla", "evolutionary"]
seed = [0, 1]
[[grid]]
method = "vanilla"
surrogate = "rectangular"
surrogate_shape = [1.0, 2.0]
arch = "1:4"
"""


def test_lists_in_a_file_are_crossed_and_its_grids_are_joined(tmp_path):
    found = ablation.read_grids(written(tmp_path, CROSSED), {"batch_size": 7})
    wanted = [
        make_config(epochs=3, arch=arch, method=method, seed=seed, batch_size=7)
        for arch, method, seed in product(("1:4", "1-1:4-8"), ("vanilla", "evolutionary"), (0, 1))
    ]
    wanted += [
        make_config(
            epochs=3,
            arch="1:4",
            method="vanilla",
            surrogate="rectangular",
            surrogate_shape=shape,
            batch_size=7,
        )
        for shape in (1.0, 2.0)
    ]
    assert found == wanted


def test_a_file_without_tables_is_one_grid(tmp_path):
    found = ablation.read_grids(written(tmp_path, "lr = [0.1, 0.2]\nseed = [0, 0]"), {})
    assert found == [make_config(lr=0.1), make_config(lr=0.2)]


def test_settings_may_stand_in_tables_of_their_groups(tmp_path):
    text = "[neuron]\ntau = [0.5, 0.25]\n[[grid]]\n[grid.optimizer]\nlr = 0.1"
    found = ablation.read_grids(written(tmp_path, text), {})
    assert found == [make_config(lr=0.1, tau=0.5), make_config(lr=0.1, tau=0.25)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("tau = 0.5\n[neuron]\ntau = 0.25", r"grid\[0\]: tau: got it twice"),
        ("epoch = 3", r"grid\[0\]: setting: got 'epoch', did you mean epochs"),
        ("seed = []", "a grid without a combination"),
        ("grid = 3", "grid: got"),
        ("[[grid]]\nlr = -1", r"grid\[0\]: lr: got -1"),
        ("epochs = ", "not valid TOML"),
    ],
)
def test_a_bad_file_of_combinations_is_refused(text, words, tmp_path, refused):
    out = tmp_path / "out"
    line = refused(["ablation", "--grid", written(tmp_path, text), "--out", out])
    assert "mine.toml" in line
    assert re.search(words, line)
    assert not out.exists()


@pytest.mark.parametrize(
    "option", ["--preset=digits", "--methods=vanilla", "--steps=2", "--seeds=1"]
)
def test_a_file_of_combinations_has_them_all(option, tmp_path, refused):
    line = refused(["ablation", "--grid", written(tmp_path, "epochs = 1"), option])
    assert "got it beside --grid" in line
    assert option[2:].split("=")[0] in line


class Bar:
    """A progress bar that remembers."""

    def __init__(self, **options):
        self.options, self.n, self.closed = options, options["initial"], False
        self.pos = -options["position"]

    def update(self, number):
        self.n += number

    def close(self):
        self.closed = True


def test_each_run_that_trains_has_a_line_on_a_terminal(tmp_path, monkeypatch):
    bars = []

    def bar(**options):
        bars.append(Bar(**options))
        return bars[-1]

    monkeypatch.setattr(schedule, "progress_bar", bar)
    monkeypatch.setattr(schedule.sys.stderr, "isatty", lambda: True, raising=False)
    runs = [Planned(tmp_path / name, make_config(epochs=4)) for name in "abc"]

    def epochs(run, number):
        run.folder.mkdir(exist_ok=True)
        (run.folder / "checkpoint.npz").touch()
        (run.folder / "metrics.jsonl").write_text("{}\n" * number)

    with schedule.RunLines() as lines:
        lines.show(runs)
        assert bars == []
        epochs(runs[0], 1)
        epochs(runs[1], 0)
        lines.show(runs)
        assert [(b.options["desc"], b.n, b.pos) for b in bars] == [("a", 1, -1), ("b", 0, -2)]
        epochs(runs[0], 3)
        lines.show(runs)
        assert bars[0].n == 3
        lines.end(runs[0])
        assert [b.closed for b in bars] == [True, False]
        epochs(runs[2], 0)
        lines.show(runs[1:])
        assert (bars[2].options["desc"], bars[2].pos) == ("c", -1)  # the place that became free
        assert bars[2].options["total"] == 4
    assert all(b.closed for b in bars)


def test_a_finished_run_is_told_with_its_accuracy(tmp_path, monkeypatch):
    run = Planned(tmp_path / "mine", make_config())
    done = Result(run.config, "finished", 0.875, 10)
    monkeypatch.setattr(schedule, "result", lambda run: done)
    assert schedule.outcome_text(run, schedule.Outcome("finished")) == "mine: test accuracy 0.8750"
    diverged = schedule.Outcome("diverged", "iteration 3")
    assert schedule.outcome_text(run, diverged) == "mine: diverged: iteration 3"
    assert schedule.outcome_text(run, schedule.Outcome("interrupted")) == ""


def test_recorded_runs_are_not_trained_again_and_count(tmp_path, untrained, capsys):
    made = [make_config(epochs=2, arch="1:4", method="vanilla", seed=seed) for seed in (0, 1)]
    done = [Result(made[0], "finished", 0.75, 4), Result(made[1], "diverged")]
    write_json(tmp_path / "table.json", table.tabulate(done))
    given = ["--recorded", str(tmp_path / "table.json"), "--out", str(tmp_path / "all")]
    given += ["--archs=1:4", "--methods", "vanilla", "shortcut", "--epochs=2", "--seeds"]
    assert main(["ablation", *given, "0", "2"]) == 0
    assert untrained[-1] == [
        "1_4-T2-vanilla-seed2",
        "1_4-T2-shortcut-seed0",
        "1_4-T2-shortcut-seed2",
    ]
    (row,) = table.read_table(tmp_path / "all" / "table.json")["rows"]
    assert row["methods"]["vanilla"]["accuracy"] == {"0": 0.75}
    assert row["methods"]["vanilla"]["diverged"] == [1, 2]
    assert row["chance"] == 0.25
    # a later call counts them without being told
    assert main(["ablation", *given[2:], "4"]) == 0
    (row,) = table.read_table(tmp_path / "all" / "table.json")["rows"]
    assert row["methods"]["vanilla"]["accuracy"] == {"0": 0.75}


def test_recorded_tables_that_do_not_fit_are_refused(tmp_path, untrained, refused):
    def recorded(name, accuracy, **settings):
        config = make_config(**{"epochs": 2, "arch": "1:4", "method": "vanilla"} | settings)
        write_json(tmp_path / name, table.tabulate([Result(config, "finished", accuracy, 4)]))
        return str(tmp_path / name)

    one, two = recorded("one.json", 0.75), recorded("two.json", 0.5)
    other = recorded("other.json", 0.5, epochs=3, lr=0.5)
    given = ["ablation", "--archs=1:4", "--epochs=2", "--out", str(tmp_path / "all")]
    line = refused([*given, "--recorded", one, two])
    assert re.search("recorded: .*two.json has accuracy 0.5 .* seed 0.* with 0.75", line)
    line = refused([*given, "--recorded", other])
    assert re.search(r"other.json has runs of another lr and epochs than .*all", line)
    made = json.loads((tmp_path / "one.json").read_text())
    made["rows"][0]["methods"]["vanilla"]["accuracy"] = {"x": 0.5}
    write_json(tmp_path / "bad.json", made)
    line = refused([*given, "--recorded", tmp_path / "bad.json"])
    assert "bad.json: rows[0]: invalid literal" in line
    assert not untrained


def test_a_recorded_table_with_an_unknown_setting_is_refused(tmp_path, refused):
    made = table.tabulate([Result(make_config(arch="1:4"), "finished", 0.75, 4)])
    made["settings"]["speed"] = 3
    write_json(tmp_path / "table.json", made)
    line = refused(["ablation", "--recorded", tmp_path / "table.json", "--out", tmp_path / "out"])
    assert re.search(r"table.json: rows\[0\]: setting: got 'speed'", line)
    assert not (tmp_path / "out").exists()
