import pytest

from refsnn.bench.workload import Spec


@pytest.fixture
def tiny():
    return Spec(arch="1-1:4-8", steps=2, batch_size=2, size=8, ops="numpy", threads=1)
