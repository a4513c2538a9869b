"""Which method of convolution is chosen, and what becomes of one that is forced."""

import numpy as np
import pytest
from convolutions import (
    DIRECTION,
    F4,
    F8,
    METHODS,
    ODD,
    SMALL,
    U1,
    by_kernel,
    drawn,
    halving,
    same,
)

from refsnn.equations.conv import Conv
from refsnn.kernels import conv as kernels


def choose(direction, layer, method="auto", x_dtype=F4, w_dtype=F4, density=0.15):
    problem = drawn(layer, x_dtype, w_dtype, density)
    return kernels.conv_choice(direction, problem.x, problem.w, problem.p, method)


BLOCK3X3, TURN, STEM = same(64, 8), *halving(32, 8)[:1], ODD[0]


@DIRECTION
@pytest.mark.parametrize("method", ["auto", *METHODS])
def test_float64_is_never_but_direct(direction, method):
    for layer in (BLOCK3X3, TURN, STEM):
        assert choose(direction, layer, method, F8, F8) == "direct"


@DIRECTION
def test_the_method_for_numbers_follows_from_the_layer(direction):
    assert choose(direction, BLOCK3X3) == "winograd"
    assert choose(direction, TURN) == "dense"
    assert choose(direction, STEM) == "dense"


@pytest.mark.parametrize(
    ("layer", "forward", "gradient"),
    [
        (BLOCK3X3, "winograd", "winograd"),
        *((layer, "lookup", "dense") for layer in halving(128, 8)),
    ],
    ids=str,
)
def test_few_spikes_are_summed_one_by_one(layer, forward, gradient):
    for direction, otherwise in (("forward", forward), ("weight_gradient", gradient)):
        rising = [choose(direction, layer, x_dtype=U1, density=d) for d in np.linspace(0, 1, 21)]
        events = rising.count("event")
        assert rising == ["event"] * events + [otherwise] * (21 - events)
        assert 1 <= events <= 10
    # the input gradient reads no spikes
    assert choose("input_gradient", layer, x_dtype=U1, density=0) == choose("input_gradient", layer)


def test_sums_of_few_channels_are_looked_up():
    narrow = same(16, 32)
    for density in (0, 0.1, 0.9):
        assert choose("forward", narrow, x_dtype=U1, density=density) == "lookup"
        assert choose("weight_gradient", narrow, x_dtype=U1, density=density) == "winograd"
        for direction in ("forward", "weight_gradient"):
            for layer in halving(16, 8):
                assert choose(direction, layer, x_dtype=U1, density=density) == "lookup"


@DIRECTION
def test_a_forced_method_gives_way_to_the_dense_one_where_it_cannot_serve(direction):
    def forced(method, layer, x_dtype=F4):
        return choose(direction, layer, method, x_dtype)

    for layer in (BLOCK3X3, TURN, STEM):
        assert forced("direct", layer) == "direct"
        assert forced("dense", layer, U1) == "dense"
        for method in ("event", "lookup"):
            assert forced(method, layer) == "dense"
            served = "dense" if direction == "input_gradient" else method
            assert forced(method, layer, U1) == served
    assert forced("winograd", BLOCK3X3) == forced("winograd", BLOCK3X3, U1) == "winograd"
    for layer in (
        TURN,
        STEM,
        BLOCK3X3._replace(kernel=(3, 1)),
        BLOCK3X3._replace(channels=(64, 24)),
        BLOCK3X3._replace(channels=(24, 64)),
        BLOCK3X3._replace(p=Conv((1, 2), (1, 1))),
        BLOCK3X3._replace(p=Conv((1, 1), (0, 3))),
    ):
        assert forced("winograd", layer) == "dense"


@DIRECTION
@pytest.mark.parametrize("density", [None, 0.05, 0.6], ids=lambda d: f"density {d}")
def test_the_chosen_method_is_the_one_that_computes(direction, density):
    for layer in (SMALL, ODD[1], ODD[4]):
        problem = drawn(layer, F4 if density is None else U1, density=density)
        for method in ("auto", *METHODS):
            chosen = kernels.conv_choice(direction, problem.x, problem.w, problem.p, method)
            got = by_kernel(direction, problem, method)
            assert got.tobytes() == by_kernel(direction, problem, chosen).tobytes()


def test_a_choice_is_made_for_floats_alone():
    x, w, _, p = drawn(SMALL)
    for dtype in (np.float16, np.longdouble, int):
        with pytest.raises(TypeError, match=r"^w: got dtype .*, want float32 or float64"):
            kernels.conv_choice("forward", x, w.astype(dtype), p)
    assert kernels.conv_choice("forward", x[:0].astype(U1), w, p) == "lookup"
