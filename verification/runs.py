"""Checks of whole runs: each image once per epoch, metrics as means over steps, exact resuming."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from refsnn.network import without_branches
from refsnn.oracle.naive import training as naive
from refsnn.training import trainer
from refsnn.training.algorithm import Step
from refsnn.training.config import make_config
from refsnn.training.folder import read_metrics
from refsnn.training.run import Run, resume, start
from refsnn.training.trainer import Interrupted
from verification import cases
from verification.record import Recorder
from verification.registry import check
from verification.training import config_of, settings

LENGTHS = st.tuples(settings(), st.integers(1, 5), st.integers(1, 6))


@check("coefficients of a run", "oracle", "D15 D16 EQ10 EQ7", LENGTHS, quick=40, full=1000)
def coefficients(case: Any, record: Recorder) -> None:
    """Compare the side branches' weight at each iteration, for all methods and clocks."""
    plain, epochs, batches = case
    plain = plain | {"batches_per_epoch": batches, "total": epochs * batches}
    config = config_of(plain)
    clause = {"vanilla": "EQ7", "shortcut": "D15"}.get(plain["method"], "D16 EQ10")
    for i in range(1, epochs * batches + 1):
        got, want = config.side_coefficient(i, batches), naive.side_coefficient(i, plain)
        record.close(clause, f"coefficient at iteration {i}", got, want, 1e-15, 1.0)


@st.composite
def run_cases(draw: Any) -> Any:
    """Draw images with different first pixels, whose number is no multiple of the batch size."""
    n, seed = draw(st.sampled_from([7, 10])), draw(cases.SEEDS)
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(n, 4, 4, 1))
    images[:, 0, 0, 0] = np.arange(n)
    options = {
        "method": draw(st.sampled_from(["shortcut", "evolutionary"])),
        "arch": "1-1:2-3",
        "epochs": 3,
        "batch_size": 4,
        "seed": draw(st.integers(0, 99)),
        "dtype": "float64",
        "optimizer": draw(st.sampled_from(["adamw", "sgd"])),
        "ops": "numpy",
    }
    return images, np.arange(n) % 2, options, draw(st.integers(1, 5))


def watched(run: Run, steps: list[tuple[Step, Any, Any]], stop_after: int | None = None) -> None:
    """Train, recording each step with its images' first pixels and labels."""
    original = trainer.train_step

    def train_step(*arguments: Any) -> Step:
        step = original(*arguments)
        images, labels = arguments[4]
        first = images[:, 0, 0, 0] * run.dataset.std[0] + run.dataset.mean[0]
        steps.append((step, np.round(first).astype(int), labels))
        return step

    trainer.train_step = train_step
    try:
        run.train(lambda: run.state.iteration == stop_after, quiet=True)
    finally:
        trainer.train_step = original


@check("runs", "structure", "ALG1-TRAIN R3 D16 D18", run_cases(), quick=3, full=40)
def whole_runs(case: Any, record: Recorder) -> None:
    images, labels, options, stop_after = case
    n, blame = len(labels), "ALG1-TRAIN"
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        np.savez(
            work / "data.npz",
            train_images=images,
            train_labels=labels,
            test_images=images[:5],
            test_labels=labels[:5],
        )
        config = make_config(dataset=str(work / "data.npz"), **options)
        run, steps = start(work / "whole", config), []
        main = without_branches(run.net, run.state.params)[1]
        vanilla = trainer.initial_state(
            config.changed(method="vanilla"),
            without_branches(run.net, run.state.params)[0],
        )
        for layer, value in vanilla.params.items():
            record.equal("D18", f"{layer} of the same seed", main[layer], value)
        watched(run, steps)
        batches = -(-n // 4)
        record.equal(blame, "iterations", (len(steps), run.state.iteration), (3 * batches,) * 2)
        rows = read_metrics(work / "whole")
        record.equal(blame, "rows", [row["epoch"] for row in rows], [1, 2, 3])
        orders = []
        for epoch, row in enumerate(rows):
            own = steps[epoch * batches : (epoch + 1) * batches]
            orders.append([int(i) for _, first, _ in own for i in first])
            record.equal(blame, "each image once", sorted(orders[-1]), list(range(n)))
            seen = np.concatenate([y for _, _, y in own])
            record.equal(blame, "each with its label", seen, labels[orders[-1]])
            record.equal("D16", "lambda", row["lambda"], own[-1][0].side)
            record.equal("R3", "learning rate", row["lr"], own[-1][0].lr)
            compare_row(row, own, record)
        record.true(blame, "an order of its own for each epoch", orders[0] != orders[1])
        halted, own_steps = start(work / "halted", config), []
        try:
            watched(halted, own_steps, stop_after)
        except Interrupted:
            watched(resume(work / "halted"), own_steps)
        same = [(work / name / "checkpoint.npz").read_bytes() for name in ("whole", "halted")]
        record.true(blame, "a resumed run ends with the same bytes", same[0] == same[1])
        again = read_metrics(work / "halted")
        for row, other in zip(rows, again, strict=True):
            for key in ("loss", "train_accuracy", "test_loss", "first_layer_gradient_norm"):
                record.equal(blame, f"{key} of a resumed run", other[key], row[key])


AUGMENTED = st.tuples(cases.SEEDS, st.integers(1, 2), st.integers(1, 5))


@check("augmented runs", "structure", "ALG1-TRAIN R3 D24", AUGMENTED, quick=2, full=20)
def augmented_runs(case: Any, record: Recorder) -> None:
    """Check that each iteration augments its images with random numbers of its own.

    They depend only on seed and iteration, so they differ between epochs, but not after an
    interruption.
    """
    seed, size, stop_after = case
    images = np.random.default_rng(seed).normal(size=(7, 5, 4, 1))
    options = {"arch": "1:2", "epochs": 2, "batch_size": 3, "seed": seed % 100, "cutout": size}
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "data.npz")
        np.savez(
            data,
            train_images=images,
            train_labels=np.arange(7) % 2,
            test_images=images,
            test_labels=np.arange(7) % 2,
        )
        config = make_config(dataset=str(data), dtype="float64", ops="numpy", **options)
        run, halted = (start(Path(name, folder), config) for folder in ("whole", "halted"))
        seen, again = seen_by_steps(run), seen_by_steps(halted, stop_after)
        again += seen_by_steps(resume(Path(name, "halted"))) if len(again) < len(seen) else []
    train, size = run.dataset.train, config.batch_size
    record.equal("ALG1-TRAIN", "iterations", (len(seen), len(again)), (6, 6))
    for i, ((order, batch), (_, other)) in enumerate(zip(seen, again, strict=True), 1):
        rng = np.random.default_rng(np.random.SeedSequence(config.seed, spawn_key=(2, i)))
        which = order[(i - 1) % 3 * size :][:size]
        want = run.dataset.batch(train, which, config.dtype, rng)[0]
        record.equal("ALG1-TRAIN R3 D24", f"images of iteration {i}", batch, want)
        record.equal("ALG1-TRAIN R3", f"images of iteration {i} in a resumed run", other, batch)


def seen_by_steps(run: Run, stop_after: int | None = None) -> list[tuple[Any, Any]]:
    """Train, recording for each step the order of the epoch's images and the step's images."""
    original, seen = trainer.train_step, list[Any]()

    def train_step(*arguments: Any) -> Step:
        seen.append((arguments[0].order, arguments[4][0]))
        return original(*arguments)

    trainer.train_step = train_step
    try:
        run.train(lambda: run.state.iteration == stop_after, quiet=True)
    except Interrupted:
        pass
    finally:
        trainer.train_step = original
    return seen


def compare_row(row: dict[str, Any], own: list[Any], record: Recorder) -> None:
    """Check that metrics are means over images (loss, accuracy) or steps (gradient norm, rates)."""
    weights = [len(y) for _, _, y in own]
    losses = [step.loss for step, _, _ in own]
    correct = [
        sum(int(np.argmax(b)) == k for b, k in zip(step.logits, y, strict=True))
        for step, _, y in own
    ]
    norms = [float(np.linalg.norm(step.grads["stem.conv0.weight"])) for step, _, _ in own]
    rates = [step.rates["stem.lif0"] for step, _, _ in own]
    for key, got, want in (
        ("loss", row["loss"], np.average(losses, weights=weights)),
        ("train_accuracy", row["train_accuracy"], sum(correct) / sum(weights)),
        ("gradient norm", row["first_layer_gradient_norm"], np.mean(norms)),
        ("firing rate", row["firing_rate"]["stem.lif0"], np.mean(rates)),
    ):
        record.close("ALG1-TRAIN", key, got, want, 1e-12)
