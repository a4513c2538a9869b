"""The scripts in figures/, which are no package."""

import importlib
from pathlib import Path

import pytest

FIGURES = Path(__file__).parents[2] / "figures"


@pytest.fixture(scope="session")
def script():
    """Import a script by its name; it finds the scripts beside it, as when it runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FIGURES)
        yield importlib.import_module
