"""The entry points `gradcheck` and `assert_gradients`, and the checks of their arguments."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from refsnn.gradcheck.adjoint import adjoint, affine, affine_push, user_push
from refsnn.gradcheck.differences import differences
from refsnn.gradcheck.layer import Array, Layer
from refsnn.gradcheck.report import Check, Report
from refsnn.gradcheck.values import values

RTOL = {"float32": 1e-3, "float64": 1e-7}
ADJOINT_RTOL = {"float32": 1e-4, "float64": 1e-10}


def gradcheck(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Mapping[str, Array],
    *,
    wrt: Iterable[str] | None = None,
    jvp: Callable[..., Any] | None = None,
    linear_in: Iterable[str] = (),
    smooth: bool = True,
    rng: np.random.Generator | None = None,
    directions: int = 4,
    rtol: float | None = None,
    adjoint_rtol: float | None = None,
) -> Report:
    """Check whether `backward` computes the gradient of `forward` at `inputs`.

    The package's docstring describes both functions. `wrt` names the inputs to differentiate with
    respect to (default: all of floats), which have one dtype, float64 or, with coarser tolerances,
    float32. `jvp(tangents, cache) -> J tangents`, where tangents is a dict with an array for each
    of `wrt`, and `linear_in`, inputs in which y is affine, add the adjoint identity. `smooth=False`
    leaves out the finite differences, for a layer that fires steps; then `jvp` or `linear_in` must
    cover each of `wrt`. `rtol` (1e-7 in float64, 1e-3 in float32) and `adjoint_rtol` (1e-10, 1e-4)
    are relative to the gradient's norm along a direction: one element's error is compared with the
    whole array. ValueError or TypeError for arguments and results of the wrong form.
    """
    layer = checked_layer(forward, backward, inputs, wrt)
    linear = names("linear_in", linear_in, layer.wrt)
    check_options(jvp, rng, directions, rtol, adjoint_rtol)
    if not smooth and jvp is None and set(linear) != set(layer.wrt):
        missing = ", ".join(name for name in layer.wrt if name not in linear)
        raise ValueError(f"smooth: got False, which needs jvp, or linear_in for {missing}")
    rng = rng or np.random.default_rng(0)
    checks = values(layer, rng)
    if not Report(tuple(checks)).passed:
        return Report(tuple(checks))
    adjoint_rtol = adjoint_rtol or ADJOINT_RTOL[layer.dtype.name]
    for name in layer.wrt:
        if smooth:
            checks.append(differences(layer, name, directions, rtol or RTOL[layer.dtype.name], rng))
        checks += adjoints(layer, name, jvp, name in linear, directions, adjoint_rtol, rng)
    return Report(tuple(checks))


def adjoints(
    layer: Layer,
    name: str,
    jvp: Callable[..., Any] | None,
    linear: bool,
    directions: int,
    rtol: float,
    rng: np.random.Generator,
) -> list[Check]:
    """Return the checks of the adjoint identity with respect to one input."""
    checks = []
    if linear:
        fault = affine(layer, name, rtol, rng)
        checks.append(
            fault or adjoint(layer, name, affine_push(layer, name), directions, rtol, rng)
        )
    if jvp is not None:
        checks.append(adjoint(layer, name, user_push(layer, name, jvp), directions, rtol, rng))
    return checks


def assert_gradients(*args: Any, **kwargs: Any) -> None:
    """Call `gradcheck`; raise AssertionError with its report unless it passed."""
    report = gradcheck(*args, **kwargs)
    if not report.passed:
        raise AssertionError(f"gradcheck\n{report}")


def checked_layer(forward: Any, backward: Any, inputs: Any, wrt: Any) -> Layer:
    """Check the arguments and return the layer."""
    for argument, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            raise TypeError(f"{argument}: got {type(function).__name__}, want a function")
    if not isinstance(inputs, Mapping):
        raise TypeError(f"inputs: got {type(inputs).__name__}, want a dict of arrays by name")
    for name, x in inputs.items():
        if not isinstance(x, np.ndarray):
            raise TypeError(f"{name}: got {type(x).__name__}, want a numpy array")
    floats = [name for name, x in inputs.items() if x.dtype.kind == "f"]
    wrt = names("wrt", floats if wrt is None else wrt, inputs)
    if not wrt:
        raise ValueError("wrt: got no name, want at least one input of floats")
    for name in wrt:
        check_input(name, inputs[name], wrt[0], inputs[wrt[0]].dtype)
    return Layer(forward, backward, dict(inputs), wrt, inputs[wrt[0]].dtype, [])


def check_input(name: str, x: Array, model: str, dtype: np.dtype[Any]) -> None:
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: got dtype {x.dtype}, want float32 or float64")
    if x.dtype != dtype:
        raise TypeError(f"{name}: got dtype {x.dtype}, want {dtype} like {model}")
    if not x.size:
        raise ValueError(f"{name}: got shape {x.shape}, want at least one element")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: got NaN or infinity, want finite numbers")


def names(argument: str, given: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    chosen = (given,) if isinstance(given, str) else tuple(given)
    for name in chosen:
        if name not in known:
            raise ValueError(f"{argument}: got {name!r}, want names among {', '.join(known)}")
    return chosen


def check_options(jvp: Any, rng: Any, directions: Any, *rtols: Any) -> None:
    if jvp is not None and not callable(jvp):
        raise TypeError(f"jvp: got {type(jvp).__name__}, want a function")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: got {type(rng).__name__}, want a numpy.random.Generator")
    if not isinstance(directions, int | np.integer) or directions < 1:
        raise ValueError(f"directions: got {directions!r}, want a whole number of at least 1")
    for argument, rtol in zip(("rtol", "adjoint_rtol"), rtols, strict=True):
        if rtol is not None and not 0 < rtol < 1:
            raise ValueError(f"{argument}: got {rtol!r}, want a number between 0 and 1")
