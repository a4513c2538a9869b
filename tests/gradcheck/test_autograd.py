"""PyTorch functions as layers."""

import numpy as np
import pytest

from refsnn.gradcheck import by_autograd, gradcheck, stop_gradient

torch = pytest.importorskip("torch")


class Square(torch.autograd.Function):
    factor = 2.0

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, dy):
        (x,) = ctx.saved_tensors
        return Square.factor * x * dy


X = {"x": np.linspace(-1.0, 1.0, 5)}


def test_a_right_and_a_wrong_autograd_function(monkeypatch):
    def square(x):
        return Square.apply(x)

    assert gradcheck(*by_autograd(square), X).passed
    monkeypatch.setattr(Square, "factor", 2.001)
    report = gradcheck(*by_autograd(square), X)
    assert [check.verdict for check in report.checks] == ["passed", "passed", "failed"]


def test_several_inputs_and_outputs_of_which_some_do_not_meet(verdicts):
    def layer(x, w, n):
        return torch.sin(x), n * w.exp()

    inputs = X | {"w": np.linspace(0.0, 1.0, 3), "n": np.arange(3)}
    report = gradcheck(*by_autograd(layer), inputs)
    assert report.passed, report
    assert {subject for subject, _ in verdicts(report)} == {"forward", "backward", "x", "w"}
    assert gradcheck(*by_autograd(lambda x, w: x * x), {**X, "w": np.ones(2)}).passed


def test_a_module_and_float32():
    module = torch.nn.Softplus()
    inputs = {"input": np.linspace(-1, 1, 4, dtype=np.float32)}
    assert gradcheck(*by_autograd(module), inputs).passed


def test_detached_tensors_are_stopped_gradients():
    def layer(x):
        return x * stop_gradient(x)

    assert gradcheck(*by_autograd(layer), X).passed
    assert not gradcheck(*by_autograd(lambda x: x * x.detach()), X).passed
    x = torch.ones(2, requires_grad=True)
    assert not stop_gradient(x).requires_grad
