"""The linear layer with neurons: the same numbers in every library, and what a name means."""

from dataclasses import replace

import numpy as np
import pytest

from refsnn.bench import linear_lif, workload
from refsnn.ops import NUMPY, get_ops

TINY = workload.Spec(arch="linear-lif:24", steps=20, batch_size=3)


def test_the_plain_name_stands_for_several_sizes():
    assert linear_lif.names("linear-lif") == ["linear-lif:512", "linear-lif:2048"]
    assert linear_lif.names("linear-lif:7") == ["linear-lif:7"]
    assert linear_lif.names("resnet8") == ["resnet8"]
    assert linear_lif.width_of("linear-lif:7") == 7


@pytest.mark.parametrize(
    "arch", ["linear-lif:0", "linear-lif:x", "linear-lif:-3", "linear-lif:99999"]
)
def test_other_sizes_are_refused(arch):
    with pytest.raises(
        ValueError, match=r"^arch: got .*, want linear-lif:N of 1 to 65536 neurons$"
    ):
        linear_lif.width_of(arch)


@pytest.mark.parametrize("phase", workload.PHASES)
def test_kernels_and_equations_compute_the_same_spikes(phase):
    spec = replace(TINY, phase=phase)
    step = linear_lif.refsnn_step(spec, linear_lif.draw_numbers(spec))
    o_seq = step(NUMPY)
    assert o_seq.shape == (20, 3, 24)
    assert 0.01 < o_seq.mean() < 0.5
    assert np.mean(step(get_ops("numba")) != o_seq) < 0.01  # sums may be rounded across v_th


@pytest.mark.parametrize("library", ["torch", "spikingjelly", "snntorch"])
@pytest.mark.parametrize("phase", workload.PHASES)
def test_other_libraries_compute_the_same_spikes(library, phase):
    pytest.importorskip("torch")
    pytest.importorskip(library)
    spec = replace(TINY, phase=phase, library=library)
    params = linear_lif.draw_numbers(spec)
    want = linear_lif.refsnn_step(spec, params)(NUMPY)
    step = linear_lif.peer_step(spec, params)
    for _ in range(2):  # nothing is kept between steps
        assert np.mean(step().numpy().reshape(want.shape) != want) < 0.01
