"""Numba twins of `equations.conv`, with the choice of a method for each layer and direction.

float64 is always computed directly. In float32 the method depends only on the layer's shape and
the density of its spikes, so that the same input gives the same bits on any machine:

direct    loops as in the equations (`direct`)
dense     register-blocked sums (`dense`): any layer
event     sums over spikes (`event`): forward and weight gradient, where x is uint8
lookup    sums over patterns of four channels (`lookup`): where `event` can be used
winograd  F(4x4, 3x3) (`winograd`): 3x3, stride 1, padding up to 2, whole vectors of channels

Each element differs from the direct sum by less than 1e-4 of the largest element.
"""

from typing import Any

import numpy as np
from numpy import empty

from refsnn.equations.conv import Conv, ConvCache, output_shape
from refsnn.equations.surrogate import Array
from refsnn.equations.validate import floating, like, one_of
from refsnn.kernels import dense, direct, event, layout, lookup, winograd
from refsnn.kernels.add import add_into
from refsnn.kernels.count import count_spikes
from refsnn.kernels.simd import aligned, contiguous

METHODS = ("auto", "direct", "dense", "event", "lookup", "winograd")
#: (direction, kind of layer) -> pairs of input channels and density: a layer with at least so many
#: channels takes `event` below this density. The kind is `minimal` where Winograd can be used, else
#: `window` or, with one tap, `point`. Measured with AVX-512 and AVX2; where they differ, between.
EVENT_BELOW = {
    ("forward", "minimal"): ((32, 0.12), (64, 0.19), (128, 0.24)),
    ("forward", "window"): ((32, 0.1), (64, 0.2), (128, 0.3), (256, 0.4)),
    ("forward", "point"): ((128, 0.1), (256, 0.3)),
    ("weight_gradient", "minimal"): ((64, 0.04), (256, 0.1)),
    ("weight_gradient", "window"): ((64, 0.08), (128, 0.25), (256, 0.35)),
    ("weight_gradient", "point"): ((128, 0.08), (256, 0.25)),
}
#: (direction, kind of layer) -> most input channels with which a layer takes `lookup` otherwise;
#: where none is given, any number
LOOKUP_UP_TO = {
    ("forward", "minimal"): 16,
    ("weight_gradient", "minimal"): 0,
    ("weight_gradient", "window"): 32,
    ("weight_gradient", "point"): 32,
}
ZERO = np.zeros(1, np.float32)  # stands for every element where only the shape counts


def conv_choice(direction: str, x: Array, w: Array, p: Conv, method: str = "auto") -> str:
    """Return the method for `forward`, `input_gradient` or `weight_gradient`.

    A `method` that cannot be used for the layer is replaced by the dense one. ValueError if x is
    uint8 and has other numbers than 0 and 1.
    """
    one_of("direction", direction, ("forward", "input_gradient", "weight_gradient"))
    one_of("conv", method, METHODS)
    floating("w", w)
    if w.dtype == np.float64:
        return "direct"
    spikes = x.dtype == np.uint8 and direction != "input_gradient"
    density = count_spikes(x) / max(x.size, 1) if spikes else 1.0
    minimal = (
        w.shape[:2] == (3, 3)
        and p.stride == (1, 1)
        and max(p.padding) <= 2
        and winograd.fits(*w.shape[2:])
    )
    if method == "auto":
        return automatic(direction, w, spikes, density, minimal)
    usable = {"event": spikes, "lookup": spikes, "winograd": minimal}
    return method if usable.get(method, True) else "dense"


def automatic(direction: str, w: Array, spikes: bool, density: float, minimal: bool) -> str:
    """Return the method that was fastest in measurements; `density` is the spikes per element."""
    if not spikes:
        return "winograd" if minimal else "dense"
    kind = "minimal" if minimal else "point" if w.shape[:2] == (1, 1) else "window"
    c_in = w.shape[2]
    if density < event_below(direction, kind, c_in):
        return "event"
    if c_in <= LOOKUP_UP_TO.get((direction, kind), c_in):
        return "lookup"
    return "winograd" if minimal else "dense"


def event_below(direction: str, kind: str, c_in: int) -> float:
    """Return the density below which `event` is the fastest; see `EVENT_BELOW`."""
    fitting = [below for channels, below in EVENT_BELOW[direction, kind] if c_in >= channels]
    return fitting[-1] if fitting else 0.0


def conv_forward(x: Array, w: Array, p: Conv, method: str = "auto") -> tuple[Array, ConvCache]:
    """Do as `equations.conv.conv_forward`; x may be spikes, 0 and 1 as uint8, if w is float32."""
    shape = checked_shape(x, w, p)
    if not (x.size and w.size):
        return np.zeros(shape, w.dtype), ConvCache(x, w, p)
    y = aligned(*shape) if w.dtype == np.float32 else empty(shape, w.dtype)
    chosen = conv_choice("forward", x, w, p, method)
    if chosen == "direct":
        direct.forward(x, w, p, y)
        return y, ConvCache(x, w, p)
    correlation = layout.forward_correlation(shape[1:3], w.shape[:2], p)
    images = contiguous(x)
    if chosen == "event":
        event.correlate(images, w, correlation, y)
    elif chosen == "lookup":
        lookup.correlate(images, w, correlation, y)
    elif chosen == "winograd":
        winograd.correlate(images, w, False, correlation, y)
    else:
        dense.correlate(images, w, correlation, y)
    return y, ConvCache(x, w, p)


def checked_shape(x: Any, w: Array, p: Conv) -> tuple[int, int, int, int]:
    """Do as `equations.conv.output_shape`, but accept spikes as uint8."""
    if isinstance(x, np.ndarray) and x.dtype == np.uint8 and w.dtype == np.float32:
        x = np.ndarray(x.shape, np.float32, ZERO, strides=(0,) * x.ndim)
    return output_shape(x, w, p)


def check_cotangent(dy: Array, cache: ConvCache) -> None:
    """Check that dy has the shape and dtype of the convolution's output."""
    like("dy", dy, checked_shape(*cache), cache.w.dtype, "y")


def conv_input_gradient(dy: Array, cache: ConvCache, method: str = "auto") -> Array:
    """Do as `equations.conv.conv_input_gradient`."""
    check_cotangent(dy, cache)
    x, w, p = cache
    if not (x.size and w.size):
        return np.zeros(x.shape, w.dtype)
    chosen = conv_choice("input_gradient", x, w, p, method)
    dx = aligned(*x.shape) if w.dtype == np.float32 else empty(x.shape, w.dtype)
    if chosen == "direct":
        direct.input_gradient(dy, w, p, dx)
        return dx
    images, w_t = contiguous(dy), transposed(w)
    correlations = layout.input_correlations(x.shape[1:3], w.shape[:2], p)
    if chosen == "winograd":
        winograd.correlate(images, w_t, True, correlations[0][1], dx)
        return dx
    if min(w.shape[:2]) < max(p.stride):
        dx[:] = 0  # for pixels under no tap
    for taps, correlation in correlations:
        dense.correlate(images, w_t[taps][::-1, ::-1], correlation, dx)
    return dx


def conv_add_input_gradient(
    dy: Array, cache: ConvCache, total: Array, method: str = "auto"
) -> None:
    """Add the input gradient to `total`; Winograd's method does so while it writes."""
    check_cotangent(dy, cache)
    x, w, p = cache
    like("total", total, x.shape, w.dtype, "x")
    chosen = conv_choice("input_gradient", x, w, p, method)
    alone = total.flags.carray and not np.may_share_memory(total, dy)
    if chosen == "winograd" and alone and x.size and w.size:
        ((_, correlation),) = layout.input_correlations(x.shape[1:3], w.shape[:2], p)
        winograd.correlate(contiguous(dy), transposed(w), True, correlation, total, adds=True)
    else:
        add_into(total, conv_input_gradient(dy, cache, method))


def transposed(w: Array) -> Array:
    """Return w (kh, kw, C_in, C_out) as (kh, kw, C_out, C_in)."""
    kh, kw, c_in, c_out = w.shape
    w_t = empty((kh, kw, c_out, c_in), w.dtype)
    layout.transpose(contiguous(w).reshape(-1, c_in, c_out), w_t.reshape(-1, c_out, c_in))
    return w_t


def conv_weight_gradient(dy: Array, cache: ConvCache, method: str = "auto") -> Array:
    """Do as `equations.conv.conv_weight_gradient`."""
    check_cotangent(dy, cache)
    x, w, p = cache
    if not (x.size and w.size):
        return np.zeros(w.shape, w.dtype)
    chosen = conv_choice("weight_gradient", x, w, p, method)
    dw = empty(w.shape, w.dtype)
    images, cotangent = contiguous(x), contiguous(dy)
    if chosen == "direct":
        direct.weight_gradient(images, cotangent, p, dw)
    elif chosen == "event":
        event.weight_gradient(images, cotangent, p, dw)
    elif chosen == "lookup":
        lookup.weight_gradient(images, cotangent, p, dw)
    elif chosen == "winograd":
        winograd.weight_gradient(images, cotangent, p.padding, dw)
    else:
        dense.weight_gradient(images, cotangent, p, dw)
    return dw
