"""Every method of convolution against the NumPy equations in float64.

direct, dense and event sum the products of the equations in orders of their own, so each
element is within n eps sum |x||w| of the exact one (see `kernels.direct`); of whole numbers
nothing is rounded. winograd multiplies other numbers: 1e-4 of the largest element.
"""

import re
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config, get_num_threads

from refsnn.equations import conv as equations
from refsnn.equations.conv import Conv, ConvCache
from refsnn.kernels import conv as kernels
from refsnn.kernels import dense, direct, event, layout, winograd

CHANNELS = direct.CHANNELS
COMPILED = not config.DISABLE_JIT
DIRECTIONS = "forward", "input_gradient", "weight_gradient"
METHODS = "direct", "dense", "event", "winograd"
F4, F8, U1 = np.float32, np.float64, np.uint8


class Layer(NamedTuple):
    size: tuple[int, int, int]  # N, H, W
    channels: tuple[int, int]
    kernel: tuple[int, int]
    p: Conv

    def __str__(self) -> str:
        return " ".join(str(part).replace(" ", "") for part in (*self[:3], *vars(self.p).values()))


class Problem(NamedTuple):
    x: np.ndarray
    w: np.ndarray
    dy: np.ndarray
    p: Conv


def same(channels: int, pixels: int) -> Layer:
    return Layer((2, pixels, pixels), (channels, channels), (3, 3), Conv((1, 1), (1, 1)))


def halving(channels: int, pixels: int) -> list[Layer]:
    """A transition's convolution and its shortcut's."""
    size, pair = (2, pixels, pixels), (channels, 2 * channels)
    return [
        Layer(size, pair, (3, 3), Conv((2, 2), (1, 1))),
        Layer(size, pair, (1, 1), Conv((2, 2))),
    ]


#: All convolutions of ResNet-18 (64 channels and more) and ResNet-20 for 32 by 32 pixels
NETWORKS = [
    *(same(*a) for a in ((16, 32), (32, 16), (64, 8), (64, 32), (128, 16), (256, 8), (512, 4))),
    *(layer for a in ((16, 32), (32, 16), (64, 32), (128, 16), (256, 8)) for layer in halving(*a)),
    *(Layer((2, 32, 32), (3, c), (3, 3), Conv((1, 1), (1, 1))) for c in (16, 64)),
]
#: Pixels, channels, kernels, strides and paddings that divide nothing
ODD = [
    Layer((2, 6, 5), (1, 3), (3, 3), Conv((1, 1), (1, 1))),
    Layer((3, 7, 6), (17, 5), (3, 3), Conv((2, 2), (1, 1))),
    Layer((2, 5, 7), (5, 33), (1, 1), Conv((2, 2))),
    Layer((2, 4, 3), (33, 17), (1, 1), Conv((1, 1), (2, 3))),  # windows in the padding alone
    Layer((1, 11, 9), (3, 17), (7, 7), Conv((2, 2), (3, 3))),
    Layer((2, 8, 9), (5, 20), (2, 5), Conv((3, 1), (0, 4))),
    Layer((2, 3, 4), (6, 7), (3, 1), Conv((1, 3), (4, 2))),  # paddings larger than the kernel
    Layer((3, 9, 4), (7, 35), (5, 3), Conv((1, 1), (2, 4))),
    Layer((1, 2, 3), (2, 1), (2, 2), Conv((4, 5), (1, 2))),  # strides larger than all
    Layer((1, 13, 12), (2, 3), (2, 3), Conv((1, 1), (1, 1))),  # more pixels than one part
    Layer((3, 5, 6), (16, 32), (3, 3), Conv((1, 1), (1, 1))),
    Layer((2, 3, 7), (16, 16), (3, 3), Conv((1, 1), (0, 2))),
    Layer((1, 1, 1), (16, 16), (3, 3), Conv((1, 1), (2, 1))),
]
LARGER_ODD = [
    Layer((3, 13, 10), (48, 80), (3, 3), Conv((1, 1), (1, 1))),
    Layer((2, 9, 11), (80, 48), (3, 3), Conv((1, 1), (2, 0))),
    Layer((2, 13, 10), (80, 33), (5, 3), Conv((2, 2), (6, 3))),
    Layer((2, 12, 7), (17, 80), (2, 5), Conv((3, 1), (1, 2))),
    Layer((2, 14, 15), (33, 48), (7, 7), Conv((1, 1), (3, 3))),
    Layer((37, 2, 3), (48, 48), (3, 3), Conv((1, 1), (1, 1))),  # several images a task
    Layer((70, 16, 16), (64, 32), (3, 3), Conv((1, 1), (1, 1))),  # a weight gradient in parts
    Layer((70, 16, 16), (33, 64), (3, 3), Conv((2, 1), (1, 1))),
]
LAYERS = [*ODD, *(NETWORKS + LARGER_ODD if COMPILED else [])]
USED = [layer for layer in LAYERS if not (COMPILED and layer in NETWORKS)]  # quick ones
KINDS = {"direct": (F4, U1), "dense": (F4, U1), "event": (U1,), "winograd": (F4, U1)}


def drawn(layer: Layer, x_dtype=F4, w_dtype=F4, density=0.15, numbers=False, seed=0) -> Problem:
    """Normal numbers, or whole ones; spikes where x is of bytes or a density is wanted of it."""
    rng = np.random.default_rng(seed)
    n, height, width = layer.size

    def draw(*shape):
        return rng.integers(-4, 5, shape) if numbers else rng.normal(size=shape)

    x = draw(n, height, width, layer.channels[0])
    if x_dtype == U1:
        x = rng.random(x.shape) < density
    x, w = x.astype(x_dtype), draw(*layer.kernel, *layer.channels).astype(w_dtype)
    out = equations.output_size(x.shape[1:3], layer.kernel, layer.p)
    return Problem(x, w, draw(n, *out, layer.channels[1]).astype(w_dtype), layer.p)


def by_kernel(direction: str, problem: Problem, method: str = "auto"):
    x, w, dy, p = problem
    if direction == "forward":
        return kernels.conv_forward(x, w, p, method=method)[0]
    return getattr(kernels, f"conv_{direction}")(dy, ConvCache(x, w, p), method=method)


def exactly(direction: str, problem: Problem, dtype=F8):
    """By the equations."""
    x, w, dy = (a.astype(dtype) for a in problem[:3])
    if direction == "forward":
        return equations.conv_forward(x, w, problem.p)[0]
    return getattr(equations, f"conv_{direction}")(dy, ConvCache(x, w, problem.p))


def bound(direction: str, problem: Problem):
    """n eps sum |a||b| for each element; n its number of products.

    Both come from the equations: of absolute values they give the sums, of ones the numbers.
    """
    x, w, dy, p = problem
    single = [np.abs(a).astype(F4) for a in (x, w, dy)]
    total = exactly(direction, Problem(*single, p), F4)
    ones = [np.ones(shape) for shape in ((1, *x.shape[1:3], 1), (*w.shape[:2], 1, 1))]
    count = exactly(direction, Problem(*ones, np.ones((1, *dy.shape[1:3], 1)), p))
    times = {"forward": w.shape[2], "input_gradient": w.shape[3], "weight_gradient": len(x)}
    slack = 1.01  # for the sums' own rounding
    return times[direction] * count * np.finfo(w.dtype).eps * total * slack


@lru_cache(maxsize=12)
def expected(layer: Layer, direction: str, x_dtype, numbers: bool = False):
    """A problem in float32 and its exact result."""
    problem = drawn(layer, x_dtype, numbers=numbers)
    return problem, exactly(direction, problem)


@lru_cache(maxsize=6)
def allowed(layer: Layer, direction: str, x_dtype):
    return bound(direction, expected(layer, direction, x_dtype)[0])


def assert_within(got, want, limit):
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    off = np.abs(got.astype(F8) - want) - limit
    assert (off <= 0).all(), f"{(off > 0).sum()} of {off.size} elements, by {off.max()} at most"


def usable(method: str, layer: Layer) -> bool:
    if method != "winograd":
        return True
    whole = all(c % 16 == 0 for c in layer.channels)
    return whole and layer.kernel == (3, 3) and layer.p.stride == (1, 1)


def cases(layers):
    """(layer, method, dtype of x) as far as the method serves for them."""
    return [
        pytest.param(layer, method, x_dtype, id=f"{method} {x_dtype.__name__} {layer}")
        for layer in layers
        for method in METHODS
        for x_dtype in KINDS[method]
        if usable(method, layer)
    ]


EACH = pytest.mark.parametrize(("layer", "method", "x_dtype"), cases(LAYERS))
QUICK = pytest.mark.parametrize(("layer", "method", "x_dtype"), cases(USED))
DIRECTION = pytest.mark.parametrize("direction", DIRECTIONS)
METHOD = pytest.mark.parametrize("method", METHODS)


@EACH
@DIRECTION
def test_float32_is_near_the_exact_result_for_every_layer(direction, layer, method, x_dtype):
    problem, want = expected(layer, direction, x_dtype)
    got = by_kernel(direction, problem, method)
    assert got.dtype == F4
    if method == "winograd":
        assert_within(got, want, 1e-4 * np.abs(want).max())
    else:
        assert_within(got, want, allowed(layer, direction, x_dtype))


@EACH
@DIRECTION
def test_of_whole_numbers_nothing_is_rounded(direction, layer, method, x_dtype):
    problem, want = expected(layer, direction, x_dtype, numbers=True)
    got = by_kernel(direction, problem, method)
    if method == "winograd":  # it multiplies fractions
        assert_within(got, want, 1e-4 * np.abs(want).max())
    else:
        assert np.array_equal(got, want)


@pytest.mark.parametrize("density", [0.0, 1.0], ids=["silence", "all fire"])
@METHOD
@DIRECTION
def test_silent_and_saturated_layers(direction, method, density):
    for layer in ODD:
        problem = drawn(layer, U1, density=density, numbers=True)
        got, want = by_kernel(direction, problem, method), exactly(direction, problem)
        if method == "winograd":
            assert_within(got, want, 1e-4 * np.abs(want).max())
        else:
            assert np.array_equal(got, want)


@DIRECTION
@pytest.mark.parametrize("density", [None, 0.0, 0.15, 1.0], ids=lambda d: f"density {d}")
@pytest.mark.parametrize("layer", ODD, ids=str)
def test_float64_is_direct_and_within_its_bound_whatever_is_forced(layer, density, direction):
    problem = drawn(layer, F8 if density is None else U1, F8, density or 0)
    problem = problem._replace(x=problem.x.astype(F8))
    got, limit = by_kernel(direction, problem), bound(direction, problem)
    assert got.dtype == F8
    assert_within(got, exactly(direction, problem), 2 * limit)
    for method in METHODS if COMPILED else ("winograd",):
        assert by_kernel(direction, problem, method).tobytes() == got.tobytes()


@pytest.mark.parametrize(
    ("module", "limit"), [(event, "CHUNK"), (event, "CACHE"), (event, "PIXELS")]
)
@DIRECTION
def test_working_in_the_smallest_parts_changes_nothing(direction, module, limit, monkeypatch):
    monkeypatch.setattr(module, limit, 1)
    for layer in ODD:
        problem, want = expected(layer, direction, U1, numbers=True)
        for method in ("event", "dense"):
            assert np.array_equal(by_kernel(direction, problem, method), want)


def test_event_takes_as_many_taps_at_a_time_as_its_cache_holds():
    size = event.CACHE // 4
    assert event.taps_at_once(3, 5, size // 15) == (3, 5)
    assert event.taps_at_once(3, 5, size // 15 + 1) == event.taps_at_once(3, 5, size // 5) == (1, 5)
    assert event.taps_at_once(3, 5, size // 5 + 1) == event.taps_at_once(3, 5, 2 * size) == (1, 1)


@settings(deadline=None, max_examples=150 if COMPILED else 50, derandomize=True)
@given(data=st.data())
def test_any_layer_by_any_method(data):
    def pair(low, high):
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, p = pair(1, 5), Conv(pair(1, 3), pair(0, 5))
    n, *extra = data.draw(st.tuples(st.integers(1, 3), st.integers(0, 6), st.integers(0, 6)))
    size = [max(1, k - 2 * pad) + e for k, pad, e in zip(kernel, p.padding, extra, strict=True)]
    most = 70 if COMPILED else 18
    channels = data.draw(st.one_of(st.just((16, 16)), st.tuples(*[st.integers(1, most)] * 2)))
    layer = Layer((n, *size), channels, kernel, p)
    x_dtype, w_dtype = data.draw(st.sampled_from([(F4, F4), (U1, F4), (F8, F8)]))
    method, direction = data.draw(st.sampled_from(METHODS)), data.draw(st.sampled_from(DIRECTIONS))
    density = data.draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    problem = drawn(layer, x_dtype, w_dtype, density, seed=data.draw(st.integers(0, 2**32)))
    chosen = kernels.conv_choice(direction, problem.x, problem.w, p, method)
    got, want = by_kernel(direction, problem, method), exactly(direction, problem)
    limit = 2 * bound(direction, problem)
    assert_within(got, want, 1e-4 * np.abs(want).max() if chosen == "winograd" else limit)


def test_more_spikes_in_an_image_than_a_byte_counts():
    layer = Layer((1, 6, 6), (8, 1), (1, 1), Conv())
    problem = drawn(layer, U1, density=1, numbers=True)
    assert np.array_equal(by_kernel("forward", problem, "event"), exactly("forward", problem))


def test_a_narrow_last_block_of_columns_of_events():
    layer = Layer((1, 1, 4), (2, 65), (1, 1), Conv())
    problem, want = expected(layer, "forward", U1, numbers=True)
    assert np.array_equal(by_kernel("forward", problem, "event"), want)


@pytest.mark.parametrize("dtype", [F4, F8])
@pytest.mark.parametrize("spikes", range(10))
def test_any_number_of_spikes_at_a_pixel_adds_their_weights_exactly(spikes, dtype):
    # four non-zero values are added a pass
    rng = np.random.default_rng(spikes)
    x = np.zeros((1, 1, 50, 12), dtype)
    for pixel in x[0, 0]:
        pixel[rng.choice(12, spikes, replace=False)] = rng.integers(1, 9, spikes)
    w = rng.integers(-99, 99, (1, 1, 12, 5)).astype(dtype)
    y, _ = kernels.conv_forward(x, w, Conv(), method="direct")
    assert np.array_equal(y, x @ w[0, 0])


SMALL = Layer((3, 6, 7), (16, 16), (3, 3), Conv((1, 1), (1, 0)))


def views(problem: Problem):
    """The same numbers, laid out otherwise."""
    yield problem._replace(x=np.asfortranarray(problem.x), dy=np.asfortranarray(problem.dy))
    yield problem._replace(w=np.asfortranarray(problem.w))
    wide = np.repeat(problem.x, 2, axis=3)[..., ::2]
    turned = np.ascontiguousarray(problem.dy[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    yield problem._replace(x=wide, dy=turned)


@QUICK
@DIRECTION
def test_inputs_that_are_not_contiguous_give_the_same_bits(direction, layer, method, x_dtype):
    problem = drawn(layer, x_dtype)
    want = by_kernel(direction, problem, method).tobytes()
    for view in views(problem):
        assert by_kernel(direction, view, method).tobytes() == want


@METHOD
@DIRECTION
def test_an_image_at_every_step_may_stand_in_memory_once(direction, method):
    problem = drawn(SMALL, U1)
    once = np.broadcast_to(problem.x[:1], problem.x.shape)
    copied = problem._replace(x=once.copy())
    want = by_kernel(direction, copied, method).tobytes()
    assert by_kernel(direction, problem._replace(x=once), method).tobytes() == want


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_neither_layers_nor_layouts_make_anything_compile_again(compiled):
    modules = dense, direct, event, layout, winograd

    def all_methods(layer):
        for method in METHODS:
            for x_dtype in (F4, U1):
                problem = drawn(layer, x_dtype)
                for variant in (problem, *views(problem)):
                    for direction in DIRECTIONS:
                        by_kernel(direction, variant, method)

    all_methods(SMALL)
    before = compiled(*modules)
    all_methods(ODD[4])
    assert compiled(*modules) == before > 0


@QUICK
@DIRECTION
def test_the_number_of_threads_does_not_change_a_bit(
    direction, layer, method, x_dtype, with_threads
):
    problem = drawn(layer, x_dtype)
    many = with_threads(get_num_threads(), by_kernel, direction, problem, method)
    one = with_threads(1, by_kernel, direction, problem, method)
    assert one.tobytes() == many.tobytes()


@QUICK
def test_nothing_given_is_written_and_each_call_gives_the_same_bits(layer, method, x_dtype):
    problem = drawn(layer, x_dtype)
    for a in problem[:3]:
        a.flags.writeable = False
    copies = [a.copy() for a in problem[:3]]
    first = [by_kernel(direction, problem, method) for direction in DIRECTIONS]
    copied = [a.copy() for a in first]
    by_kernel("forward", drawn(SMALL, U1, seed=1), method)  # other numbers in the memory in use
    second = [by_kernel(direction, problem, method) for direction in DIRECTIONS]
    for a, b, c in zip(first, second, copied, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    for a, b in zip(problem[:3], copies, strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_cache_holds_what_came():
    x, w, _, p = drawn(SMALL, U1)
    _, kept = kernels.conv_forward(x, w, p)
    assert kept.x is x
    assert kept.w is w
    assert kept.p is p


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
def test_what_is_chosen_for_numbers_follows_from_the_layer(direction):
    assert choose(direction, BLOCK3X3) == "winograd"
    assert choose(direction, TURN) == "dense"
    assert choose(direction, STEM) == "dense"


@pytest.mark.parametrize("layer", [BLOCK3X3, *halving(128, 8)[:1]], ids=str)
def test_few_spikes_are_summed_and_many_are_as_numbers(layer):
    for direction in ("forward", "weight_gradient"):
        rising = [choose(direction, layer, x_dtype=U1, density=d) for d in np.linspace(0, 1, 21)]
        as_numbers = choose(direction, layer)
        events = rising.count("event")
        assert rising == ["event"] * events + [as_numbers] * (21 - events)
        assert 1 <= events <= 10
    # narrow layers have little to add for a spike, in the weight gradient above all
    assert choose("weight_gradient", TURN, x_dtype=U1, density=0) == "dense"
    assert choose("forward", TURN, x_dtype=U1, density=0) == "event"
    # the input gradient reads no spikes
    assert choose("input_gradient", layer, x_dtype=U1, density=0) == choose("input_gradient", layer)


@DIRECTION
def test_a_forced_method_gives_way_to_the_dense_one_where_it_cannot_serve(direction):
    def forced(method, layer, x_dtype=F4):
        return choose(direction, layer, method, x_dtype)

    for layer in (BLOCK3X3, TURN, STEM):
        assert forced("direct", layer) == "direct"
        assert forced("dense", layer, U1) == "dense"
        assert forced("event", layer) == "dense"
        assert forced("event", layer, U1) == ("dense" if direction == "input_gradient" else "event")
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
def test_what_is_chosen_is_what_is_computed(direction, density):
    for layer in (SMALL, ODD[1], ODD[4]):
        problem = drawn(layer, F4 if density is None else U1, density=density)
        for method in ("auto", *METHODS):
            chosen = kernels.conv_choice(direction, problem.x, problem.w, problem.p, method)
            got = by_kernel(direction, problem, method)
            assert got.tobytes() == by_kernel(direction, problem, chosen).tobytes()


def test_methods_and_directions_that_are_none_are_refused():
    x, w, dy, p = drawn(SMALL)
    for call in (
        lambda: kernels.conv_choice("forward", x, w, p, "fft"),
        lambda: kernels.conv_forward(x, w, p, method="fft"),
        lambda: kernels.conv_input_gradient(dy, ConvCache(x, w, p), method="fft"),
        lambda: kernels.conv_weight_gradient(dy, ConvCache(x, w, p), method="fft"),
    ):
        with pytest.raises(ValueError, match=r"^conv: got 'fft', want one of auto, direct, dense"):
            call()
    with pytest.raises(ValueError, match=r"^direction: got 'backward', want one of forward, input"):
        kernels.conv_choice("backward", x, w, p)


X, W = np.ones((1, 5, 5, 3)), np.ones((3, 3, 3, 2))


@pytest.mark.parametrize(
    ("x", "w", "error", "message"),
    [
        (X, np.ones((3, 3, 4, 2)), ValueError, "w: got 4 input channels, want 3"),
        (X, W.astype(F4), TypeError, "w: got dtype float32, want float64"),
        (X.astype(F4), W, TypeError, "w: got dtype float64, want float32"),
        (X.astype(int), W.astype(F4), TypeError, "x: got dtype int64, want float32 or float64"),
        (X.astype(U1), W, TypeError, "x: got dtype uint8, want float32 or float64"),
        (X.astype(bool), W.astype(F4), TypeError, "x: got dtype bool, want float32 or float64"),
        (X.tolist(), W, TypeError, "x: got list, want a numpy array"),
        (X[:, :2], W, ValueError, "x: got (2, 5) pixels"),
        (X[:, :2].astype(U1), W.astype(F4), ValueError, "x: got (2, 5) pixels"),
        (X[0], W, ValueError, "x: got shape (5, 5, 3)"),
        (X[0].astype(U1), W.astype(F4), ValueError, "x: got shape (5, 5, 3)"),
        (np.array(1, U1), W.astype(F4), ValueError, "x: got shape ()"),
        (X.astype(U1), W[..., :1, :].astype(F4), ValueError, "w: got 1 input channels, want 3"),
        (X, W[0], ValueError, "w: got shape (3, 3, 2)"),
    ],
)
def test_wrong_inputs_are_refused_as_by_the_equations(x, w, error, message):
    with pytest.raises(error, match=f"^{re.escape(message)}"):
        kernels.conv_forward(x, w, Conv())


@METHOD
def test_spikes_are_zeros_and_ones(method):
    """A spike of 2 would take two places in an event-driven list."""
    x = X.astype(U1)
    x[0, 4, 4, 2] = 2
    with pytest.raises(ValueError, match=r"^x: got 2 among spikes, want 0 and 1"):
        kernels.conv_forward(x, W.astype(F4), Conv(), method)


@METHOD
@DIRECTION
@pytest.mark.parametrize(("x_dtype", "w_dtype"), [(F4, F4), (U1, F4), (F8, F8)])
def test_no_images_are_a_batch_too(direction, x_dtype, w_dtype, method):
    dy = np.ones((0, 3, 3, 2), w_dtype)
    problem = Problem(X[:0].astype(x_dtype), W.astype(w_dtype), dy, Conv())
    got, want = by_kernel(direction, problem, method), exactly(direction, problem, w_dtype)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert not got.any()


@METHOD
@pytest.mark.parametrize(("x_dtype", "w_dtype"), [(F4, F4), (U1, F4), (F8, F8)])
@pytest.mark.parametrize("direction", DIRECTIONS[1:])
def test_a_cotangent_unlike_the_output_never_reaches_a_kernel(direction, x_dtype, w_dtype, method):
    problem = drawn(SMALL, x_dtype, w_dtype)
    n, height, width, columns = problem.dy.shape
    for shape in (
        (n - 1, height, width, columns),
        (n, height, width, columns - 1),
        (n, height - 1, width, columns),
        (n, height, width + 1, columns),
    ):
        with pytest.raises(ValueError, match=r"^dy: got "):
            by_kernel(direction, problem._replace(dy=np.ones(shape, w_dtype)), method)
    other = F8 if w_dtype == F4 else F4
    with pytest.raises(ValueError, match=r"^dy: got "):
        by_kernel(direction, problem._replace(dy=problem.dy.astype(other)), method)


#: Taps that meet no pixel, pixels that no tap meets, images smaller than a window or a tile
SHORT = [
    Layer((2, *size), channels, kernel, Conv(stride, (kernel[0] // 2, kernel[1] // 2)))
    for channels, kernel in (((5, 3), (1, 4)), ((5, 3), (5, 4)), ((16, 16), (3, 3)))
    for stride in [(1, 1), (1, 2), (2, 1), (2, 3), (2, 2)]
    for size in [(1, 1), (1, 4), (3, 1), (5, 2)]
]


@DIRECTION
@pytest.mark.parametrize(("layer", "method", "x_dtype"), cases([*SHORT, *USED]))
def test_every_element_is_written(direction, layer, method, x_dtype, poisons, assert_same_bits):
    problem, want = expected(layer, direction, x_dtype, numbers=True)
    first, *others = poisons(by_kernel, direction, problem, method)
    for other in others:
        assert_same_bits(other, first)
    if method == "winograd":
        assert_within(first, want, 1e-4 * np.abs(want).max())
    else:
        assert np.array_equal(first, want)


@METHOD
def test_bytes_that_are_no_spikes_never_reach_a_weight_gradient(method):
    """A spike of 2 would take two places in a list that has room for one each."""
    problem = drawn(SMALL, U1, density=1)
    with pytest.raises(ValueError, match=r"^x: got 200 among spikes, want 0 and 1"):
        by_kernel("weight_gradient", problem._replace(x=200 * problem.x), method)


@METHOD
@DIRECTION
@pytest.mark.parametrize("channels", [(0, 3), (3, 0), (0, 16), (16, 0), (0, 0)], ids=str)
@pytest.mark.parametrize("x_dtype", [F4, U1])
def test_no_channels_are_a_layer_too(direction, channels, x_dtype, method):
    problem = drawn(Layer((2, 4, 5), channels, (3, 3), Conv((1, 1), (1, 1))), x_dtype)
    got = by_kernel(direction, problem, method)
    like = dict(zip(DIRECTIONS, (problem.dy, problem.x, problem.w), strict=True))[direction]
    assert (got.shape, got.dtype) == (like.shape, F4)
    assert not got.any()


def test_a_choice_is_made_for_floats_alone():
    x, w, _, p = drawn(SMALL)
    for dtype in (np.float16, np.longdouble, int):
        with pytest.raises(TypeError, match=r"^w: got dtype .*, want float32 or float64"):
            kernels.conv_choice("forward", x, w.astype(dtype), p)
    assert kernels.conv_choice("forward", x[:0].astype(U1), w, p) == "event"
