import textwrap
from dataclasses import replace

import numpy as np
import pytest

from refsnn.oracle import conventions
from refsnn.oracle.catalogue import catalogue
from refsnn.oracle.recompute import recompute
from refsnn.oracle.vectors import Case


@pytest.fixture(scope="session")
def cases():
    """Every case by its id. Not to be written into."""
    return {name: make() for name, make in catalogue(None).items()}


@pytest.fixture
def on_the_edge(cases):
    """A case of one step whose first neurons' potentials are 2^-23 above the threshold; computed
    with the currents less 2^-22, they do not fire."""

    def make(flips):
        c = np.r_[[1 + 2.0**-23] * flips, 0.2, 1.7][None]
        inputs = {"c": c, "do": np.ones_like(c)}
        return recompute(replace(cases["neuron/tanh"], inputs=inputs))

    return make


@pytest.fixture
def doubling():
    """Makes a case of one input x and one output y = 2 x, of a given id."""

    def make(name="neuron/a", **changes):
        x = np.array([[1.0, -2.0, 0.5], [0.25, 3.0, 0.0]])
        fields = {
            "id": name,
            "level": name.split("/")[0],
            "summary": "twice as much",
            "clauses": ("EQ1",),
            "flags": ("decay",),
            "conventions": dict(conventions.PAPER),
            "settings": {"stride": 1, "training": True, "widths": [4, 8]},
            "repeat": 1,
            "exact": False,
            "inputs": {"x": x},
            "outputs": {"y": 2 * x},
            "tolerances": {"y": {"float64": 1e-12, "float32": 1e-6}},
        }
        return Case(**(fields | changes))

    return make


@pytest.fixture
def adapter(tmp_path, monkeypatch):
    """Writes the module `mine` into the current folder, which is a temporary one."""
    monkeypatch.chdir(tmp_path)

    def write(code):
        (tmp_path / "mine.py").write_text(textwrap.dedent(code))

    return write
