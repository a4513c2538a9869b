"""`refsnn gradients` from the command line."""

import json
from math import hypot

import numpy as np
import pytest

from refsnn.cli import main
from refsnn.data import load
from refsnn.experiments.gradient_flow import ledger
from refsnn.experiments.gradients_command import LEFT_OUT
from refsnn.ops import NUMPY
from refsnn.training.config import make_config, settings_fields
from refsnn.training.folder import load_state, read_config
from refsnn.training.run import start
from refsnn.training.trainer import initial_state, network_for

TINY = ["--arch=1-1:4-8", "--ops=numpy", "--batch-size=20"]


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """An evolutionary run of two epochs."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--arch=1-1:4-8", "--ops=numpy", "--batch-size=400", "--epochs=2"]
    assert main(["train", "--out", str(folder), *options]) == 0
    return folder


def printed(arguments, capsys):
    """The object of --json."""
    capsys.readouterr()
    assert main(["gradients", *map(str, arguments), "--json=-"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_object_holds_the_settings_and_the_ledger_of_the_seeds_first_images(capsys):
    found = printed([*TINY, "--steps=3", "--side=0.5", "--seed=4", "--branch-sum=losses"], capsys)
    config = make_config(
        arch="1-1:4-8", ops="numpy", batch_size=20, steps=3, seed=4, branch_sum="losses"
    )
    dataset = load("digits")
    net = network_for(config, dataset)
    state = initial_state(config, net)
    which = state.rng.permutation(1442)[:20]
    wanted = ledger(
        net,
        state.params,
        state.buffers,
        *dataset.batch(dataset.train, which, "float32"),
        3,
        NUMPY,
        0.5,
        "losses",
    )
    about = {"config": config.to_dict(), "iteration": 0, "images": 20}
    assert found == about | wanted._asdict()
    assert found["branches"] == ["branch.stage1", "head"]
    layer = found["layers"][1]
    assert layer["layer"] == "stage1.block0.lif1"
    assert len(layer["rate"]) == len(layer["through"]["head"]) == 3


def test_tables_show_what_the_object_holds(tmp_path, capsys):
    path = tmp_path / "flow.json"
    assert main(["gradients", *TINY, "--method=shortcut", "--json", str(path)]) == 0
    shown, found = capsys.readouterr(), json.loads(path.read_text())
    assert not shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("1-1:4-8, shortcut, after iteration 0: T = 2, 20 images of digits")
    assert f"loss {found['loss']:.4f}" in lines[1]

    def row(name):
        (cells,) = [line.split()[1:] for line in lines if line.split()[:1] == [name]]
        return cells

    for layer in found["layers"]:
        sizes = [layer["total"], layer["through"]["head"], layer["through"]["branch.stage1"]]
        sizes += [layer["firing"], layer["leak"], layer["reset"]]
        rate, small = np.mean(layer["rate"]), np.mean(layer["small_slope"])
        wanted = [f"{rate:.3f}", f"{small:.1%}", *(f"{hypot(*size):.2e}" for size in sizes)]
        assert row(layer["layer"]) == wanted
    head = "firing rate small slopes total main stage1 firing leak reset"
    assert " ".join(row("layer")) == head
    for link in found["chain"][1:]:
        assert row(link["at"]) == [f"{link['norm']:.2e}", f"{link['factor']:.3f}"]
    assert row("logits") == [f"{found['chain'][0]['norm']:.2e}"]
    first = found["first_layer"]
    for branch, name in (("branch.stage1", "stage1"), ("head", "main")):
        part = first["branches"][branch]
        assert row(name) == [f"{part['norm']:.2e}", f"{part['cosine']:.3f}", f"{part['share']:.3f}"]
    assert row("sum") == [f"{first['norm']:.2e}"]
    worst = max(
        rest / sum(terms)
        for layer in found["layers"]
        for rest, *terms in zip(
            *(layer[k] for k in ("rest", "firing", "leak", "reset")), strict=True
        )
        if sum(terms)
    )
    assert lines[-1].startswith(f"relative rounding error: {worst:.0e} of firing + leak + reset, ")


@pytest.mark.parametrize(
    ("method", "side"),
    [("vanilla", 0.0), ("shortcut", 1.0), ("evolutionary", 0.25 * (1 - 1 / 146))],
)
def test_a_fresh_network_has_the_weight_of_the_first_iteration(method, side, capsys):
    found = printed([*TINY, f"--method={method}", "--epochs=2"], capsys)  # of 73 batches
    assert found["side"] == pytest.approx(side, rel=1e-12)
    assert ("branch.stage1" in found["branches"]) == (method != "vanilla")


@pytest.mark.slow
def test_a_run_is_measured_with_its_settings_and_parameters(run_folder, tmp_path, capsys):
    config = read_config(run_folder)
    found = printed([run_folder, "--batch-size=30"], capsys)
    dataset = load("digits")
    net = network_for(config, dataset)
    state = load_state(run_folder, config, net)
    which = initial_state(config, net).rng.permutation(1442)[:30]
    wanted = ledger(
        net,
        state.params,
        state.buffers,
        *dataset.batch(dataset.train, which, "float32"),
        2,
        NUMPY,
        0.0,
    )
    about = {"iteration": 8, "images": 30}
    assert found == {"config": config.to_dict() | {"batch_size": 30}} | about | wanted._asdict()
    assert found["side"] == 0  # as the last iteration's
    begun = start(tmp_path / "begun", config)
    begun.save()
    assert printed([tmp_path / "begun"], capsys)["side"] == 0.25 * (1 - 1 / 8)
    begun.state.iteration = 5
    begun.save()
    assert printed([tmp_path / "begun"], capsys)["side"] == 0.25 * (1 - 6 / 8)
    assert printed([tmp_path / "begun", "--side=2"], capsys)["side"] == 2


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["RUN"], True),
        (["RUN", "--side=0.25"], False),
        ([*TINY], False),
        ([*TINY, "--method=vanilla"], False),
    ],
)
@pytest.mark.slow_after(2)
def test_side_branches_without_weight_are_explained(arguments, told, run_folder, capsys):
    """At the end of evolutionary training their columns are zero."""
    capsys.readouterr()
    assert main(["gradients", *(str(run_folder) if a == "RUN" else a for a in arguments)]) == 0
    layers = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert (layers[-1] == "--side X shows them at another weight") == told
    assert ("training has reduced their weight to 0" in layers[-2]) == told


@pytest.mark.slow
def test_a_batch_is_no_larger_than_the_data(run_folder, capsys):
    assert printed([run_folder, "--batch-size=5000"], capsys)["images"] == 1442


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--arch=resnet99"], "resnet99"),
        (["--side=-1"], "side: got -1.0"),
        (["--side=0.5", "--method=vanilla"], "side: got 0.5, but a vanilla network"),
        (["--steps=0"], "steps: got 0"),
        (["--batch-size=0"], "batch_size: got 0"),
        (["--threads=0"], "threads: got 0"),
        (["--lr=0.1"], "unrecognized arguments: --lr=0.1"),
        (["nowhere"], "nowhere: no run there"),
        (["--json=missing/flow.json"], "No such file or directory: missing/flow.json"),
        (["--surrogate=tanh", "--surrogate-shape=1e30"], "holds NaN or infinity"),
    ],
)
def test_an_invalid_request_is_refused_in_one_line(
    arguments, words, tmp_path, refused, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    own = [] if arguments == ["nowhere"] else TINY[:2]
    assert words in refused(["gradients", *own, *arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--method=shortcut"], "method: got 'shortcut', but the run has 'evolutionary'"),
        (
            ["--reset-gradient", "detached"],
            "reset_gradient: got 'detached', but the run has 'full'",
        ),
        (["--preset=paper"], "preset: got 'paper', but"),
    ],
)
def test_a_run_keeps_its_settings(run_folder, arguments, words, refused):
    assert words in refused(["gradients", run_folder, *arguments])


def test_help_lists_every_setting_that_matters(capsys):
    with pytest.raises(SystemExit):
        main(["gradients", "--help"])
    shown = capsys.readouterr().out
    for item in (field for _, field in settings_fields()):
        option = f"--{item.name.replace('_', '-')} "
        assert (option in shown or f"{option[:-1]}," in shown) == (item.name not in LEFT_OUT)
