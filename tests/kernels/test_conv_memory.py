"""Where convolutions read and write: layouts, threads, memory that holds other numbers."""

from functools import partial

import numpy as np
import pytest
from convolutions import (
    COMPILED,
    DIRECTION,
    DIRECTIONS,
    F4,
    METHOD,
    METHODS,
    ODD,
    SMALL,
    U1,
    USED,
    Layer,
    Problem,
    assert_exact,
    by_kernel,
    crossed,
    drawn,
    expected,
    in_all_directions,
)

from refsnn.equations.conv import Conv, ConvCache
from refsnn.kernels import conv as kernels
from refsnn.kernels import dense, direct, event, layout, threads, winograd
from refsnn.kernels.tasks import make_tasks
from refsnn.kernels.threads import get_num_threads
from verification import poison

GRADIENT = "input_gradient"


def views(problem: Problem):
    """Yield the same numbers in other layouts."""
    yield problem._replace(x=np.asfortranarray(problem.x), dy=np.asfortranarray(problem.dy))
    yield problem._replace(w=np.asfortranarray(problem.w))
    wide = np.repeat(problem.x, 2, axis=3)[..., ::2]
    turned = np.ascontiguousarray(problem.dy[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
    yield problem._replace(x=wide, dy=turned)


@crossed(USED)
def test_inputs_that_are_not_contiguous_give_the_same_bits(direction, layer, method, x_dtype):
    problem = drawn(layer, x_dtype)
    want = by_kernel(direction, problem, method).tobytes()
    for view in views(problem):
        assert by_kernel(direction, view, method).tobytes() == want


@METHOD
@pytest.mark.parametrize("layer", USED, ids=str)
def test_a_gradient_that_is_added_is_the_one_that_is_returned(layer, method):
    problem = drawn(layer)
    cache, dx = ConvCache(problem.x, problem.w, problem.p), by_kernel(GRADIENT, problem, method)
    total = np.random.default_rng(1).normal(size=dx.shape).astype(dx.dtype)
    for order in ("C", "F"):
        got = np.array(total, order=order)
        kernels.conv_add_input_gradient(problem.dy, cache, got, method=method)
        assert np.array_equal(got, total + dx)


def test_a_gradient_is_added_to_its_own_cotangent():
    problem = drawn(Layer((2, 8, 8), (16, 16), (3, 3), Conv((1, 1), (1, 1))))
    cache, total = ConvCache(problem.x, problem.w, problem.p), problem.dy.copy()
    want = total + by_kernel(GRADIENT, problem, "winograd")
    kernels.conv_add_input_gradient(total, cache, total, method="winograd")
    assert np.array_equal(total, want)


@pytest.mark.parametrize(
    "changed", [lambda x: x[:1], lambda x: x.astype(float)], ids=["shape", "dtype"]
)
def test_a_gradient_is_not_added_to_another_shape_or_dtype(changed):
    problem = drawn(SMALL)
    cache = ConvCache(problem.x, problem.w, problem.p)
    with pytest.raises(ValueError, match=r"^total: got "):
        kernels.conv_add_input_gradient(problem.dy, cache, changed(problem.x))


@pytest.mark.parametrize(("channels", "merged"), [(7, True), (15, True), (16, False)])
def test_columns_are_merged_on_any_machine_alike(channels, merged, monkeypatch):
    """The sum's parts follow from the blocks: a rule by the machine's vectors would change bits."""
    calls, original = [], dense.merge_columns

    def merge_columns(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(dense, "merge_columns", merge_columns)
    problem = drawn(Layer((2, 5, 6), (channels, 3), (3, 3), Conv((1, 1), (1, 1))))
    by_kernel("weight_gradient", problem, "dense")
    assert bool(calls) == merged


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


@crossed(USED)
def test_the_number_of_threads_does_not_change_a_bit(
    direction, layer, method, x_dtype, with_threads
):
    problem = drawn(layer, x_dtype)
    many = with_threads(get_num_threads(), by_kernel, direction, problem, method)
    one = with_threads(1, by_kernel, direction, problem, method)
    assert one.tobytes() == many.tobytes()


@crossed(USED)
def test_a_thread_writes_into_no_others_memory(direction, layer, method, x_dtype, monkeypatch):
    """Whether threads meet there is chance; so one computes everything, as if it weren't alone."""
    problem, own, taken = drawn(layer, x_dtype), 5, []
    want = by_kernel(direction, problem, method)
    monkeypatch.setattr(threads, "_number", 23)  # no other array has so many rows

    def filled(original):
        def take(*arguments):
            x = original(*arguments)
            if x.shape[:1] == (23,):
                x.reshape(-1).view(np.uint8)[:] = 171
                taken.append(x)
            return x

        return take

    for module in poison.modules():
        for name in {*poison.NAMES} & {*vars(module)}:
            monkeypatch.setattr(module, name, filled(vars(module)[name]))
        if hasattr(module, "share"):
            monkeypatch.setattr(module, "share", partial(alone, own))
    assert by_kernel(direction, problem, method).tobytes() == want.tobytes()
    for x in taken:
        others = np.delete(x, own, axis=0).tobytes()
        assert others == bytes([171]) * len(others)


def alone(own, kernel, count, *args, threads=None):
    """Compute all tasks of a kernel as its thread `own`."""
    kernel(make_tasks(count), own, *args)


@in_all_directions([SMALL, ODD[1], ODD[4], ODD[10]])
def test_nothing_given_is_written_and_each_call_gives_the_same_bits(layer, method, x_dtype):
    problem = drawn(layer, x_dtype)
    copies = [a.copy() for a in problem[:3]]
    first = [by_kernel(direction, problem, method) for direction in DIRECTIONS]
    copied = [a.copy() for a in first]
    by_kernel("forward", drawn(SMALL, U1, seed=1), method)  # other numbers in the memory in use
    second = [by_kernel(direction, problem, method) for direction in DIRECTIONS]
    for a, b, c in zip(first, second, copied, strict=True):
        assert a.tobytes() == b.tobytes() == c.tobytes()
    for a, b in zip(problem[:3], copies, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "direction"),
    [
        *zip(("direct", "dense", "event"), DIRECTIONS, strict=True),
        ("lookup", "forward"),
        ("winograd", "forward"),
    ],
)
def test_read_only_arrays_give_the_same_bits(method, direction):
    """They are other types to Numba: for them it compiles all again."""
    problem = drawn(SMALL, U1)
    want = by_kernel(direction, problem, method).tobytes()
    for a in problem[:3]:
        a.flags.writeable = False
    assert by_kernel(direction, problem, method).tobytes() == want


def test_the_cache_holds_what_came():
    x, w, _, p = drawn(SMALL, U1)
    _, kept = kernels.conv_forward(x, w, p)
    assert kept.x is x
    assert kept.w is w
    assert kept.p is p


#: Taps that meet no pixel, pixels that no tap meets, images smaller than a window or a tile;
#: where strides are larger than 1, and Winograd can't serve, kernels take turns
KERNELS = [((5, 3), (1, 4)), ((5, 3), (5, 4)), ((16, 16), (3, 3))]
SHORT = [
    Layer((2, *size), channels, kernel, Conv(stride, (kernel[0] // 2, kernel[1] // 2)))
    for k, stride in enumerate([(1, 1), (1, 2), (2, 1), (2, 3), (2, 2)])
    for n, size in enumerate([(1, 1), (1, 4), (3, 1), (5, 2)])
    for channels, kernel in (KERNELS if stride == (1, 1) else [KERNELS[(k + n) % 3]])
]


@in_all_directions([*SHORT, *ODD])
def test_every_element_is_written(layer, method, x_dtype, poisons, assert_same_bits):
    for direction in DIRECTIONS:
        problem, want = expected(layer, direction, x_dtype, numbers=True)
        first, *others = poisons(by_kernel, direction, problem, method)
        for other in others:
            assert_same_bits(other, first)
        assert_exact(method, first, want)
