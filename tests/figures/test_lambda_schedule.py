"""Weights of the side branches over the iterations."""

import pytest

METHODS = ("vanilla", "shortcut", "evolutionary")


@pytest.fixture
def figure(script):
    return script("lambda_schedule")


def test_weights_are_eq_10_by_iteration_and_by_epoch(figure):
    data = figure.compute(epochs=2, batches=2, lam=0.5)
    assert data["weights"] == {
        "vanilla": [0, 0, 0, 0],
        "shortcut": [1, 1, 1, 1],
        "evolutionary": [0.375, 0.25, 0.125, 0],
        "by epoch": [0.25, 0.25, 0, 0],
    }
    assert (data["epochs"], data["batches"]) == (2, 2)


def test_lines_are_the_weights(figure, script):
    data = {
        "epochs": 2,
        "batches": 2,
        "weights": {
            "vanilla": [0, 0, 0.1, 0],
            "shortcut": [1, 1, 0.9, 1],
            "evolutionary": [0.3, 0.2, 0.1, 0],
            "by epoch": [0.2, 0.2, 0, 0],
        },
    }
    methods, clocks = figure.draw(data).axes
    for axes, names in ((methods, METHODS), (clocks, ("evolutionary", "by epoch"))):
        for line, name in zip(axes.lines, names, strict=True):
            assert list(line.get_xdata()) == [1, 2, 3, 4]
            assert list(line.get_ydata()) == data["weights"][name]
    for line, method in zip(methods.lines, METHODS, strict=True):
        style = script("_style").METHOD_LINES[method]
        assert (line.get_color(), line.get_linestyle()) == (style["color"], style["linestyle"])
    assert [t.get_text() for t in methods.get_legend().get_texts()] == list(METHODS)
    legend = [t.get_text() for t in clocks.get_legend().get_texts()]
    assert legend == ["clock: iteration", "clock: epoch"]
    assert list(clocks.get_xticks()) == [0, 2, 4]
    assert "2 epochs of 2 iterations" in clocks.get_title()


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("batches", 0), ("lam", -1.0)])
def test_settings_without_a_schedule_are_named(figure, name, value):
    with pytest.raises(ValueError, match=rf"^{name}: got {value}"):
        figure.compute(**{name: value})
