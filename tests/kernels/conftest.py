"""Fixtures that tests of several kernels use."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from refsnn.kernels.threads import get_num_threads, set_num_threads
from verification.poison import poisoned


@pytest.fixture(scope="session")
def assert_same_bits() -> Callable[[Any, Any], None]:
    def check(got, want):
        """Check that both are equal in dtype, shape and every bit, the sign of zero too."""
        got, want = np.asarray(got), np.asarray(want)
        assert (got.dtype, got.shape) == (want.dtype, want.shape)
        assert got.tobytes() == want.tobytes()

    return check


@pytest.fixture(scope="session")
def with_threads() -> Callable[..., Any]:
    """`with_threads(count, f, ...)` is f(...) on so many threads."""

    def run(count, function, *args):
        before = get_num_threads()
        set_num_threads(count)
        try:
            return function(*args)
        finally:
            set_num_threads(before)

    return run


@pytest.fixture(scope="session")
def compiled() -> Callable[..., int]:
    def count(*modules: ModuleType) -> int:
        """Count the compiled signatures of the modules' functions."""
        found = {f for m in modules for f in vars(m).values() if isinstance(f, Dispatcher)}
        return sum(len(f.signatures) for f in found)

    return count


@pytest.fixture(scope="session")
def poisons() -> Callable[..., list[Any]]:
    """`poisons(f, ...)` lists f(...) with NaN, then with large and with small numbers in whatever
    memory the kernels take; the first is computed as usual."""

    def run(function, *args):
        results = [function(*args)]
        for value in (np.nan, 1e30, -0.5):
            with poisoned(value):
                results.append(function(*args))
        return results

    return run
