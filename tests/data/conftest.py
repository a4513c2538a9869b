import shutil

import pytest


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Keep what is read in a folder of the test's own, which goes with it: some are large."""
    monkeypatch.setenv("REFSNN_CACHE", str(tmp_path / "cache"))
    yield
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)
