"""`refsnn warmup` compiles what training calls."""

import pytest

from refsnn.cli import main
from refsnn.training import warmup_command
from refsnn.training.config import make_config
from refsnn.training.run import start


def test_a_training_says_what_is_compiled_before_its_first_step(capsys, tmp_path):
    config = make_config(arch="1-1:16-32", epochs=1, batch_size=721, steps=1)
    start(tmp_path / "run", config).train()
    before, after = capsys.readouterr().err.split("loss=", 1)
    lines = [line for line in before.splitlines() if "preparing" in line]
    assert lines[0].startswith("preparing kernels, 1 of 10: batch norm and neurons:")
    assert "preparing" not in after


def test_what_is_compiled_already_is_told(capsys):
    assert main(["warmup"]) == 0
    assert main(["warmup"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "the kernels were compiled already"


@pytest.mark.parametrize(
    ("options", "asked"),
    [([], ["float32"]), (["--dtype", "float64", "float32", "float64"], ["float64", "float32"])],
)
def test_each_precision_is_compiled_once_for_each_optimiser(options, asked, capsys, monkeypatch):
    called = []

    def precompile(dtype, optimizer, watch):
        called.append((dtype, optimizer))
        watch(0, 2, "something")
        return 1

    class Ops:
        pass

    Ops.precompile = staticmethod(precompile)
    monkeypatch.setattr(warmup_command, "get_ops", lambda name: Ops)
    assert main(["warmup", *options]) == 0
    assert called == [(dtype, optimizer) for dtype in asked for optimizer in ("sgd", "adamw")]
    assert capsys.readouterr().out.startswith("compiled the kernels in ")
