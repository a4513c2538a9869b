"""Runs in processes and on a cluster: whatever happens to them, the table stays the same."""

import json
import multiprocessing
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import pytest

from refsnn.cli import main
from refsnn.experiments import schedule
from refsnn.experiments.ablation import Planned
from refsnn.experiments.presets import DataSize
from refsnn.experiments.schedule import Failed, on_this_machine, train_run
from refsnn.training.config import make_config
from refsnn.training.run import start

pytestmark = pytest.mark.processes

TINY = ["--archs=1-1:4-8", "--epochs=6", "--batch-size=40", "--ops=numpy"]
RUNS = ["--methods", "vanilla", "shortcut", "--seeds=1"]
WAIT = 120.0  # seconds after which something is wrong
ALONE = pytest.param(False, id="the parent alone", marks=pytest.mark.slow)
SIGINT = pytest.param(signal.SIGINT, marks=pytest.mark.slow)

SIGKILL = getattr(signal, "SIGKILL", None)  # Windows has none


def ablation(out, *options):
    return main(["ablation", *TINY, *RUNS, "--out", str(out), *options])


@pytest.fixture
def process():
    """Start a command as a process with a group of its own, which ends with the test."""
    started = []

    def begin(out, *options):
        buffered = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
        command = [sys.executable, "-m", "refsnn", "ablation", *TINY, *RUNS, "--out", str(out)]
        started.append(
            subprocess.Popen(
                [*command, *options],
                start_new_session=True,
                env=buffered,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for running in started:
        with suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(running.pid, SIGKILL)
        running.communicate()


def until(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def read_until(pipe, words):
    text = ""
    while words not in text:
        assert select.select([pipe], [], [], WAIT)[0], text
        chunk = os.read(pipe.fileno(), 4096).decode()
        assert chunk, text
        text += chunk


def in_mid_run(out):
    """An epoch of some run is done."""
    return any(path.stat().st_size for path in out.glob("runs/*/metrics.jsonl"))


def content(out):
    """Table and checkpoints; no file of a run says when it was made but metrics and summary."""
    paths = [*out.glob("table.*"), *out.glob("ablation.*"), *out.glob("runs/*/checkpoint.npz")]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of an ablation that nothing disturbed."""
    out = tmp_path_factory.mktemp("ablation") / "whole"
    assert ablation(out, "--jobs=2") == 0
    assert len(content(out)) == 5 + 2
    return out


@pytest.fixture(scope="module")
def undisturbed(whole):
    return content(whole)


def test_one_job_makes_the_same_bytes_as_two(undisturbed, tmp_path, capsys):
    assert ablation(tmp_path / "out", "--jobs=1") == 0
    assert content(tmp_path / "out") == undisturbed
    shown = capsys.readouterr()
    assert undisturbed["table.md"].decode().split("\nTest accuracy of each class")[0] in shown.out
    assert "runs=2/2" in shown.err
    assert not list(tmp_path.rglob(".*"))  # no lock is left
    assert all((path / "summary.json").exists() for path in tmp_path.glob("out/runs/*"))
    assert "(n = 1)" in shown.out


@pytest.mark.slow
def test_finished_runs_are_not_run_again(whole, undisturbed, tmp_path, capsys):
    out = shutil.copytree(whole, tmp_path / "out")
    shutil.rmtree(next(out.glob("runs/*-shortcut-*")))
    (out / "table.json").unlink()
    made = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/*")}
    assert ablation(out) == 0
    capsys.readouterr()
    assert ablation(out) == 0
    assert not capsys.readouterr().err  # no bar of nothing
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert content(out) == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("group", [True, False], ids=["all processes", "the parent alone"])
def test_sigkill_in_mid_run_changes_no_byte(group, process, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = process(out, "--jobs=2")
    until(lambda: in_mid_run(out))
    (os.killpg if group else os.kill)(running.pid, SIGKILL)
    running.wait(WAIT)
    assert not (out / "table.json").exists()
    assert ablation(out, "--jobs=2") == 0
    assert content(out) == undisturbed


def test_children_end_when_their_parent_is_gone(process, tmp_path):
    running = process(tmp_path, "--epochs=10000")
    until(lambda: in_mid_run(tmp_path))
    assert list(tmp_path.rglob(".lock"))
    running.kill()
    until(lambda: not list(tmp_path.rglob(".lock")))
    _, errors = running.communicate(timeout=WAIT)  # once the children have closed it
    assert "Traceback" not in errors


@pytest.mark.slow
@pytest.mark.parametrize("number", [SIGINT, signal.SIGTERM])
def test_a_signal_leaves_checkpoints_to_resume_from(number, process, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = process(out, "--jobs=2")
    until(lambda: in_mid_run(out))
    os.killpg(running.pid, number)  # as a terminal does it
    _, errors = running.communicate(timeout=WAIT)
    assert running.returncode == 128 + number
    assert "stopped; the same command continues" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert "failed" not in errors
    counts = re.findall(r"(interrupted|waiting|runs)=([0-9/]+)", errors.splitlines()[-2])
    assert dict(counts) == {"interrupted": "2", "runs": "0/2"}
    assert not list(out.rglob(".lock"))
    assert ablation(out) == 0
    assert content(out) == undisturbed


def test_runs_that_had_not_begun_when_it_was_stopped_are_waiting(process, tmp_path):
    running = process(tmp_path, "--jobs=1", "--epochs=10000")
    until(lambda: in_mid_run(tmp_path))
    running.send_signal(signal.SIGTERM)
    _, errors = running.communicate(timeout=WAIT)
    assert running.returncode == 128 + signal.SIGTERM
    bar = errors.splitlines()[-2].split("\r")[-1]
    counts = re.findall(r"(\w+)=([0-9/]+)", bar)
    assert dict(counts) == {"interrupted": "1", "waiting": "1", "runs": "0/2"}


@pytest.mark.parametrize("group", [pytest.param(True, id="all processes"), ALONE])
@pytest.mark.parametrize("number", [SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("begun", [False, True])
def test_an_estimate_stops_at_once_silently(begun, number, group, process, tmp_path):
    """It is stopped while the first process starts, and after a line, in a slow network."""
    options = ["--estimate", "--archs", "1:4", "18-18-18:64-128-256", "--batch-size=128"]
    running = process(tmp_path / "out", *options)
    read_until(running.stdout, "real ones:\n")
    if begun:
        read_until(running.stdout, "  1:4, T = 2: 2 runs, ")
        time.sleep(2)
    (os.killpg if group else os.kill)(running.pid, number)
    shown, errors = running.communicate(timeout=WAIT)
    assert running.returncode == 128 + number
    assert not errors
    assert "together" not in shown
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_failed_run_is_reported_and_the_others_continue(process, undisturbed, tmp_path, capsys):
    out = tmp_path / "out"
    running = process(out)
    until(lambda: in_mid_run(out))
    os.killpg(running.pid, SIGKILL)
    running.wait(WAIT)
    (checkpoint,) = out.glob("runs/*/checkpoint.npz")
    good = checkpoint.read_bytes()
    checkpoint.write_bytes(good[: len(good) // 2])
    assert ablation(out, "--jobs=2") == 1
    errors = capsys.readouterr().err
    assert "1-1_4-8-T2-vanilla-seed0: failed: CheckpointError: " in errors
    assert "1 of 2 runs failed" in errors.splitlines()[-1]
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert row["methods"]["vanilla"]["missing"] == [0]
    assert (row["methods"]["vanilla"]["n"], row["methods"]["shortcut"]["n"]) == (0, 1)
    checkpoint.write_bytes(good)
    assert ablation(out) == 0
    assert content(out) == undisturbed


def test_diverged_runs_are_counted_and_stop_nothing(tmp_path, capsys):
    out = tmp_path / "out"
    wild = ["--optimizer=sgd", "--lr=1e38"]
    assert ablation(out, *wild) == 0
    shown = capsys.readouterr()
    assert shown.err.count("diverged: iteration ") == 2
    assert shown.out.count("– (n = 0, 1 diverged)") == 2
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert {m: cell["diverged"] for m, cell in row["methods"].items()} == {
        "vanilla": [0],
        "shortcut": [0],
    }
    record = out / "runs" / "1-1_4-8-T2-vanilla-seed0" / "diverged.json"
    assert "NaN or infinity is in " in json.loads(record.read_text())["reason"]
    before = record.stat().st_mtime_ns
    assert ablation(out, *wild) == 0
    assert record.stat().st_mtime_ns == before


def test_a_process_that_is_killed_is_named_by_its_signal(tmp_path):
    config = make_config(arch="1-1:4-8", ops="numpy", epochs=10000)
    with on_this_machine(1, 1) as workers:
        future = workers.submit("run", train_run, tmp_path / "run", config)
        until(lambda: (tmp_path / "run" / "checkpoint.npz").exists())
        (child,) = multiprocessing.active_children()
        child.kill()
        with pytest.raises(Failed, match=r"^its process ended with SIGKILL$"):
            future.result()


def test_a_run_that_was_told_to_stop_by_itself_has_failed(tmp_path):
    class Done:
        def result(self):
            return schedule.Outcome("interrupted")

    run = Planned(tmp_path, make_config())
    assert schedule.outcome_of(Done(), run, stopping=False).state == "failed"
    assert schedule.outcome_of(Done(), run, stopping=True) == ("waiting", "")
    (tmp_path / "config.json").touch()
    assert schedule.outcome_of(Done(), run, stopping=True) == ("interrupted", "")


PROBE = """
def threads(stop):
    import os, threadpoolctl
    from refsnn.kernels.threads import get_num_threads
    pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return get_num_threads(), os.environ["OMP_NUM_THREADS"], pools

def ignored(stop):
    import signal
    return signal.pthread_sigmask(signal.SIG_BLOCK, ())
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    (tmp_path / "probe.py").write_text(PROBE)
    monkeypatch.syspath_prepend(tmp_path)  # of the children too
    return import_module("probe")


def test_ctrl_c_is_the_parents_to_handle(probe):
    with on_this_machine(1, 1) as workers:
        assert workers.submit("signals", probe.ignored).result() == {signal.SIGINT}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_each_process_has_its_share_of_threads(probe):
    with on_this_machine(2, 1) as workers:
        futures = [workers.submit("threads", probe.threads) for _ in range(2)]
        assert [future.result() for future in futures] == [(1, "1", {1})] * 2


def test_a_step_is_measured_on_images_of_the_data_sets_size(monkeypatch):
    """No more images are used than needed, and the learning rate changes nothing."""
    seen, now = [], [0.0]

    def train_step(state, net, config, ops, batch, batches):
        seen.append((batch[0].shape, batch[0].dtype.name, config.optimizer.lr, net.num_classes))
        now[0] += 60 if len(seen) == 1 else 6  # the first compiles

    def main_logits(*arguments):
        now[0] += 3

    monkeypatch.setattr(schedule, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(schedule, "train_step", train_step)
    monkeypatch.setattr(schedule, "main_logits", main_logits)
    monkeypatch.setattr(schedule, "PIXELS", 6 * 2 * 5 * 4)
    config = make_config(arch="1:4", ops="numpy", steps=2, batch_size=128)
    size = DataSize(1, 1, (5, 4, 3), 7)
    assert schedule.measure(config, size, lambda: False) == (6 / 6, 3 / 6)
    assert set(seen) == {((6, 5, 4, 3), "float32", schedule.TINY, 7)}
    seen.clear()
    schedule.measure(config.changed(batch_size=5), size, lambda: False)
    assert {shape for shape, *_ in seen} == {(5, 5, 4, 3)}


def test_a_folder_that_is_locked_for_a_short_time_is_waited_for(tmp_path, monkeypatch):
    config = make_config(arch="1-1:4-8", ops="numpy", epochs=1, batch_size=160)
    other = start(tmp_path / "run", config)
    monkeypatch.setattr(schedule, "PATIENCE", 0.2)
    with pytest.raises(ValueError, match="another process is at work on this run"):
        train_run(tmp_path / "run", config, lambda: False)
    monkeypatch.setattr(schedule, "PATIENCE", WAIT)
    monkeypatch.setattr(time, "sleep", lambda seconds: other.unlock())
    with pytest.raises(ValueError, match="another process"):
        train_run(tmp_path / "run", config, lambda: True)
    assert train_run(tmp_path / "run", config, lambda: False) == ("finished", "")


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each a process; one that dies is replaced."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def at_work(client):
    """(process of a worker, folder of the run that it trains)"""
    pids = client.run(os.getpid)
    return [
        (pids[address], Path(key.removeprefix("refsnn-")))
        for address, keys in client.processing().items()
        for key in keys
    ]


def test_a_killed_worker_of_a_cluster_changes_no_result(cluster, process, undisturbed, tmp_path):
    out = tmp_path / "out"
    running = process(out, "--scheduler", cluster.scheduler.address)
    until(lambda: in_mid_run(out))
    pid, folder = at_work(cluster)[0]
    os.kill(pid, SIGKILL)
    assert not (folder / "summary.json").exists()
    _, errors = running.communicate(timeout=WAIT)
    assert running.returncode == 0, errors
    assert content(out) == undisturbed
    (row,) = json.loads((out / "table.json").read_text())["rows"]
    assert {name: cell["n"] for name, cell in row["methods"].items()} == {
        "vanilla": 1,
        "shortcut": 1,
    }


@pytest.mark.parametrize("number", [signal.SIGINT, SIGKILL])
def test_a_cluster_stops_for_a_client_that_is_gone(number, cluster, process, tmp_path):
    running = process(tmp_path, "--epochs=10000", "--scheduler", cluster.scheduler.address)
    until(lambda: in_mid_run(tmp_path))
    running.send_signal(number)
    _, errors = running.communicate(timeout=WAIT)
    assert running.returncode == (130 if number == signal.SIGINT else -SIGKILL)
    assert "Traceback" not in errors
    until(lambda: not list(tmp_path.rglob(".lock")))


def test_an_interrupted_ablation_goes_on_on_a_cluster(cluster, process, undisturbed, tmp_path):
    """It resumes at once, though workers may still finish the last iteration of the old runs."""
    out = tmp_path / "out"
    options = ["--scheduler", cluster.scheduler.address]
    running = process(out, *options)
    until(lambda: in_mid_run(out))
    running.send_signal(signal.SIGINT)
    running.wait(WAIT)
    assert running.returncode == 130
    assert ablation(out, *options) == 0
    assert content(out) == undisturbed


def test_a_run_that_fails_on_a_cluster_is_reported(cluster, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--scheduler", cluster.scheduler.address, "--cutout=100"]
    assert ablation(out, *options) == 1
    errors = capsys.readouterr().err
    assert errors.count(": failed: ValueError: cutout: got 100, want at most 8") == 2


def test_a_scheduler_that_does_not_answer(tmp_path, capsys, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(schedule, "CONNECT", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://there"):
        assert ablation(tmp_path / "out", "--scheduler", address) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"refsnn: error: scheduler: no answer from {address}")


def test_a_cluster_needs_the_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert ablation(tmp_path / "out", "--scheduler=tcp://there:8786") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("distributed is not installed; pip install 'refsnn[cluster]'")


def test_a_pipe_among_the_runs_files_counts_as_no_progress(tmp_path):
    os.mkfifo(tmp_path / "metrics.jsonl")
    assert schedule.epochs_done([Planned(tmp_path, make_config())]) == 0
