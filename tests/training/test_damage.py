"""Run folders whose files are damaged or forged: one line that names file and field."""

import json
import re
import shutil

import numpy as np
import pytest

from refsnn.training import checkpoint
from refsnn.training.config import make_config
from refsnn.training.folder import read_metrics
from refsnn.training.run import start
from refsnn.training.trainer import Interrupted

SMALL = {"arch": "1-1:4-8", "epochs": 3, "batch_size": 160, "ops": "numpy"}


def row_of(folder):
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped within its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "stopped"
    run = start(folder, make_config(**SMALL))
    with pytest.raises(Interrupted):
        run.train(lambda: run.state.iteration >= 15, quiet=True)
    return folder


@pytest.fixture
def halted(stopped, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(stopped, tmp_path / "run")


def missing(name):
    return lambda row: {key: value for key, value in row.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (missing("loss"), "loss is missing"),
        (missing("firing_rate"), "firing_rate is missing"),
        (lambda row: row | {"lr": "0.01"}, "lr: got '0.01', want a number"),
        (lambda row: row | {"seconds": 0}, "seconds: got 0, want more than 0"),
        (lambda row: row | {"epoch": 7}, "epoch: got 7, want 1"),
        (
            lambda row: row | {"firing_rate": {"a": None}},
            r"firing_rate\.a: got None, want a",
        ),
        (lambda row: row | {"firing_rate": {}}, "firing_rate: got no layers"),
        (lambda row: [row], "got a list, want an object"),
        (lambda row: "[" * 10_000, "got values nested more than 64 deep"),
        (lambda row: '{"epoch": 1, "lo', "not valid JSON"),
    ],
)
def test_damaged_records_are_named_with_their_line(change, message, halted, refused):
    path = halted / "metrics.jsonl"
    row = change(row_of(halted))
    path.write_text((row if isinstance(row, str) else json.dumps(row)) + "\n")
    line = refused(["train", "--resume", halted])
    assert re.search(rf"metrics\.jsonl: line 1: {message}", line)


def test_records_that_are_fewer_than_the_checkpoint_has_are_refused(halted, refused):
    (halted / "metrics.jsonl").write_text("")
    assert "got rows of 0 epochs, want 1" in refused(["train", "--resume", halted])


def test_records_of_other_layers_are_refused(halted):
    row = row_of(halted)
    rows = [row, row | {"epoch": 2, "firing_rate": {"other": 0.5}}]
    (halted / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    with pytest.raises(ValueError, match=r"line 2: firing_rate: got other layers"):
        read_metrics(halted)


def test_a_test_loss_that_overflowed_is_a_record(halted):
    (halted / "metrics.jsonl").write_text(json.dumps(row_of(halted) | {"test_loss": np.inf}) + "\n")
    assert read_metrics(halted)[0]["test_loss"] == np.inf


def forged(path, change):
    """The checkpoint with other content and the right checksum."""
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    meta = json.loads(arrays.pop("meta").tobytes())
    del arrays["sha256"]
    change(arrays, meta)
    arrays["meta"] = np.frombuffer(json.dumps(meta).encode(), np.uint8)
    arrays["sha256"] = np.frombuffer(checkpoint.digest(arrays), np.uint8)
    np.savez(path, **arrays)


VARIANCE, WEIGHT = "buffers/stem.bn0.running_var", "params/stem.conv0.weight"
SQUARE = "optimizer/square.stem.conv0.weight"
FIRST_MEAN = "optimizer/mean.stem.conv0.weight"
FORGED = [
    (lambda a, m: a.pop("order"), "order is missing"),
    (lambda a, m: a.update(order=a["order"][:-1]), "order: want each of the 1442 training images"),
    (lambda a, m: a.update(order=np.zeros_like(a["order"])), "order: want each of"),
    (lambda a, m: a.update(order=a["order"].astype(float)), "order: want each of"),
    (lambda a, m: m.pop("sums"), "meta: sums is missing"),
    (lambda a, m: m.update(sums=True), "meta: sums: got True, want an object"),
    (lambda a, m: m["sums"].pop("loss"), "sums: loss is missing"),
    (lambda a, m: m["sums"].update(steps=1), "sums: steps: got 1, want 5"),
    (lambda a, m: m["sums"].update(loss="x"), "meta: sums.loss: got 'x', want a number"),
    (lambda a, m: m.update(iteration=10**6), "iteration: got 1000000, want at most 30"),
    (lambda a, m: m.update(iteration=-1), "meta: iteration: got -1, want at least 0"),
    (lambda a, m: m.update(iteration=1.5), "meta: iteration: got 1.5, want an integer"),
    (lambda a, m: m.update(rng={}), "meta: rng: no state of NumPy's PCG64"),
    (lambda a, m: m["rng"]["state"].update(state=-1), "meta: rng: no state of NumPy's PCG64"),
    (lambda a, m: m.update(config=[]), "meta: config: got a list, want an object"),
    (lambda a, m: a.pop(FIRST_MEAN), "optimizer: mean.stem.conv0.weight is missing"),
    (lambda a, m: a.update({"optimizer/more": a["order"]}), "optimizer: more is surplus"),
    (lambda a, m: a.update({FIRST_MEAN: a[FIRST_MEAN][:1]}), "mean.stem.conv0.weight: got float32"),
    (lambda a, m: a.update({FIRST_MEAN: a[FIRST_MEAN].astype(float)}), "want float32"),
    (lambda a, m: a.pop("buffers/stem.bn0.running_var"), "stem.bn0.running_var is missing"),
    (lambda a, m: a.update(order=a["order"][:, None]), "order: want each of the 1442 training"),
    (lambda a, m: a.update(order=np.array(3)), "order: want each of the 1442 training"),
    (lambda a, m: m["sums"].update(correct=10**4), "sums: correct: got 10000, want 0 to 800"),
    (lambda a, m: m["sums"].update(correct=-1), "sums: correct: got -1, want 0 to 800"),
    (lambda a, m: m["sums"].update(loss=-np.inf), "sums.loss: got -inf, want a number"),
    (lambda a, m: m["sums"].pop("rate.stem.lif0"), "sums: rate.stem.lif0 is missing"),
    (lambda a, m: m["sums"].update({"rate.more": 1.0}), "sums: rate.more is surplus"),
    (lambda a, m: m["sums"].update({"rate.stem.lif0": 6}), "rate.stem.lif0: got 6, want 0 to 5"),
    (lambda a, m: m["config"].pop("lr"), "meta: config: lr is missing"),
    (
        lambda a, m: a.update({VARIANCE: -a[VARIANCE]}),
        "running_var: want finite numbers of",
    ),
    (lambda a, m: a.update({SQUARE: -a[SQUARE] - 1}), "square.stem.conv0.weight: want finite"),
    (lambda a, m: a.update({WEIGHT: a[WEIGHT] * np.nan}), "params: stem.conv0.weight: want finite"),
]


@pytest.mark.parametrize(("change", "message"), FORGED, ids=[m for _, m in FORGED])
def test_a_checkpoint_of_right_checksum_and_wrong_content_is_refused(
    change, message, halted, refused
):
    forged(halted / "checkpoint.npz", change)
    line = refused(["train", "--resume", halted])
    assert "checkpoint.npz: " in line
    assert message in line
