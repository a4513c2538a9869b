"""Parameters as a mapping like a PyTorch `state_dict`, and as `.npz` or `.safetensors` files.

The mapping has refsnn's dotted names, running statistics included, in PyTorch's order of names and
of axes. A file that refsnn wrote also describes the network.
"""

import difflib
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from refsnn.data import load
from refsnn.export.network_json import CONFIG, network_from_json, network_to_json
from refsnn.files.arrays import SUFFIXES, dump_arrays, read_whole
from refsnn.files.reading import one_line
from refsnn.files.writing import write_atomic
from refsnn.network import Network, Params, check_params, init_buffers
from refsnn.ops import LOSSES, SURROGATES, Array, validate
from refsnn.oracle.layout import has_steps, params_from_torch, params_to_torch, torch_shape
from refsnn.training.checkpoint import State
from refsnn.training.config import TrainConfig, from_dict
from refsnn.training.folder import check_standardization, open_run

LIMIT = 2**34  # bytes of a file
FEW = 3  # names in a message
IGNORED = "num_batches_tracked"  # a buffer of PyTorch's batch norm that refsnn does not need


def state_dict(net: Network, params: Params, buffers: Params) -> Params:
    """Return all arrays by name, in PyTorch's axis order; ValueError if they don't fit `net`."""
    check_params(net, params)
    state = params_to_torch(params | buffers)
    check_state(net, state)
    return {name: state[name] for name in state_shapes(net)}


def from_state_dict(net: Network, state: Mapping[str, Any]) -> tuple[Params, Params]:
    """Return (params, buffers) of `net` from arrays in PyTorch's axis order.

    Values may be anything that `numpy.asarray` takes. ValueError or TypeError names what is missing
    or surplus, has another shape, dtype or axis order, or is not finite.
    """
    arrays = {
        name: as_array(name, value)
        for name, value in state.items()
        if name.rsplit(".", 1)[-1] != IGNORED
    }
    check_state(net, arrays)
    ours = params_from_torch({name: arrays[name] for name in state_shapes(net)})
    return {n: ours[n] for n in net.shapes()}, {n: ours[n] for n in init_buffers(net)}


def as_array(name: str, value: Any) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:  # from PyTorch, for a tensor with a gradient or of another type
        raise TypeError(f"{name}: NumPy can't take it ({one_line(error)})") from None


class Trained(NamedTuple):
    """How a network was trained: settings, iterations done, and the standardisation of its images.

    An image is standardised as (pixel - mean) / std, by channel, in the unit of its pixels.
    """

    config: TrainConfig
    iteration: int
    mean: Array  # (C,)
    std: Array  # (C,)

    def to_dict(self) -> dict[str, Any]:
        """Describe it by values that JSON can hold, without the paths of the data."""
        config = self.config
        refuse_own_objects(config.neuron.surrogate, config.objective.loss)
        name = Path(config.data.dataset).name
        return {
            "settings": config.changed(dataset=name, data_dir="").to_dict(),
            "iteration": self.iteration,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }


def refuse_own_objects(surrogate: Any, loss: Any) -> None:
    """Check that both are refsnn's own: a file can't hold code, and reading one imports none."""
    for name, value, known in (
        ("surrogate", surrogate, SURROGATES),
        ("loss", loss, LOSSES),
    ):
        if value not in known:
            got, want = validate.shown(value), ", ".join(known)
            raise ValueError(f"{name}: got {got}, but a file can hold only {want}")


def trained_in(config: TrainConfig, state: State) -> Trained:
    """Return how a run was trained; the data set is read where a checkpoint of 0.1 asks for it."""
    mean, std = state.mean, state.std
    if not mean.size:
        dataset = load(config.data.dataset, config.data_options(begun=True))
        mean, std = (np.asarray(x, np.float64) for x in (dataset.mean, dataset.std))
    return Trained(config, state.iteration, mean, std)


def trained_from_dict(values: Mapping[str, Any], net: Network) -> Trained:
    """Make the record of a file's training again; ValueError or TypeError names what is wrong."""
    settings = values["settings"]
    refuse_own_objects(settings.get("surrogate"), settings.get("loss"))
    mean, std = (np.array(values[name], np.float64) for name in ("mean", "std"))
    check_standardization(mean, std, net.in_channels)
    return Trained(from_dict(settings), values["iteration"], mean, std)


def save_parameters(
    path: Path | str, net: Network, params: Params, buffers: Params, trained: Trained | None = None
) -> None:
    """Write `.npz` (no pickle) or `.safetensors` (extra `safetensors`), by the suffix.

    The entry `refsnn.config` says which network it is and, where `trained` is given, how it was
    trained and what its images are standardised by.
    """
    path = Path(path)
    state = state_dict(net, params, buffers)
    config = np.array(network_to_json(net, trained and trained.to_dict()))
    write_atomic(path, dump_arrays(path.suffix, {CONFIG: config} | state))


def load_parameters(path: Path | str, net: Network | None = None) -> tuple[Network, Params, Params]:
    """Read network, parameters and buffers; `net` says what it holds where the file does not.

    `net` is needed if the file does not describe the network. OSError where the file can't be read;
    ValueError or TypeError says what is wrong with it.
    """
    return load_trained(path, net)[:3]


def load_trained(
    path: Path | str, net: Network | None = None
) -> tuple[Network, Params, Params, Trained | None]:
    """Read a file as `load_parameters` does, and how the network was trained where it says so."""
    path = Path(path)
    validate.one_of("file", path.suffix, SUFFIXES)
    arrays = read_whole(path, LIMIT)
    config = arrays.pop(CONFIG, None)
    try:
        described, training = (net, None) if net else network_from_json(config, len(arrays))
        params, buffers = from_state_dict(described, arrays)
        trained = None if training is None else trained_from_dict(training, described)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from None
    return described, params, buffers, trained


def read_run(folder: Path) -> tuple[Network, Params, Params, TrainConfig]:
    """Read a run's network, parameters, buffers and settings, without looking at its data set."""
    config, net, state = open_run(folder)
    return net, state.params, state.buffers, config


def state_shapes(net: Network) -> dict[str, tuple[int, ...]]:
    """Return each array's shape in PyTorch's order: running statistics after their layer's own."""
    shapes: dict[str, tuple[int, ...]] = {}
    kept = net.buffer_shapes()
    layers = groupby(net.shapes().items(), lambda item: item[0].rpartition(".")[0])
    for layer, items in layers:
        shapes |= {n: shape if has_steps(n) else torch_shape(shape) for n, shape in items}
        names = (f"{layer}.{which}" for which in ("running_mean", "running_var"))
        shapes |= {name: kept[name] for name in names if name in kept}
    return shapes


def check_state(net: Network, state: Mapping[str, Array]) -> None:
    shapes = state_shapes(net)
    missing = [name for name in shapes if name not in state]
    surplus = [name for name in state if name not in shapes]
    if missing:
        raise ValueError(
            f"{missing[0]}: missing{others(missing)}, want shape {shapes[missing[0]]}"
            + instead(missing[0], surplus)
        )
    if surplus:
        raise ValueError(f"{surplus[0]}: surplus{others(surplus)}, not part of this network")
    first = next(iter(shapes))
    for name, shape in shapes.items():
        check_number(name, state[name], shape)
        if state[name].dtype != state[first].dtype:
            raise TypeError(
                f"{name}: got dtype {state[name].dtype}, want {state[first].dtype} like {first}"
            )


def others(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def instead(name: str, surplus: list[str]) -> str:
    """Name the arrays that the network does not have, those with names like `name` first."""
    if not surplus:
        return ""
    (nearest,) = difflib.get_close_matches(name, surplus[:1000], 1, cutoff=0)
    few = [nearest, *(other for other in surplus[:FEW] if other != nearest)][:FEW]
    more = len(surplus) - len(few)
    shown = ", ".join(other[:80] for other in few) + (f" and {more} more" if more else "")
    return f"; got instead, the nearest first: {shown}"


def check_number(name: str, x: Array, shape: tuple[int, ...]) -> None:
    """Check that an array has finite floats and this shape, in PyTorch's order."""
    validate.floating(name, x)
    if x.shape != shape:
        own = x.ndim == len(shape) and torch_shape(x.shape) == shape
        hint = ", which is refsnn's own order; want" if own else ", want"
        raise ValueError(f"{name}: got {x.shape}{hint} {shape}")
    bad, wanted = ~np.isfinite(x), "finite numbers"
    if name.endswith("running_var"):
        bad, wanted = bad | (x < 0), f"{wanted} of at least 0"
    if bad.any():
        where = tuple(map(int, np.argwhere(bad)[0]))
        raise ValueError(f"{name}: got {x[where]} at {where}, want {wanted}")
