"""Parameters in and out: a mapping shaped like a PyTorch `state_dict`, as `.npz` or `.safetensors`.

Names are refsnn's dotted ones, running statistics included, in PyTorch's order of names and of
axes. A file that was written here also says which network the numbers belong to.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from refsnn.files.arrays import SUFFIXES, dump_arrays, read_whole
from refsnn.files.writing import write_atomic
from refsnn.network import Architecture, Network, Params, Stem, check_params, init_buffers
from refsnn.ops import LIF, SURROGATES, Array, AvgPool, BatchNorm, validate
from refsnn.oracle.layout import params_from_torch, params_to_torch, torch_shape
from refsnn.training import checkpoint
from refsnn.training.checkpoint import CheckpointError
from refsnn.training.config import TrainConfig
from refsnn.training.run import load_state, read_config

CONFIG = "refsnn.config"  # the key of what rebuilds the network, a JSON text
FORMAT = 1
LIMIT = 2**34  # bytes of a file
IGNORED = "num_batches_tracked"  # of PyTorch's batch norm; no evaluation or training here needs it


def state_dict(net: Network, params: Params, buffers: Params) -> Params:
    """All numbers under their names, in PyTorch's axis order; ValueError where they don't fit."""
    check_params(net, params)
    state = params_to_torch(params | buffers)
    check_state(net, state)
    return {name: state[name] for name in state_shapes(net)}


def from_state_dict(net: Network, state: Mapping[str, Any]) -> tuple[Params, Params]:
    """(params, buffers) of `net` from arrays, or what `numpy.asarray` takes, in PyTorch's order.

    ValueError or TypeError name what is missing, surplus, of another shape, dtype or axis order,
    or not finite.
    """
    arrays = {
        name: np.asarray(value)
        for name, value in state.items()
        if name.rsplit(".", 1)[-1] != IGNORED
    }
    check_state(net, arrays)
    ours = params_from_torch({name: arrays[name] for name in state_shapes(net)})
    return {n: ours[n] for n in net.shapes()}, {n: ours[n] for n in init_buffers(net)}


def save_parameters(path: Path | str, net: Network, params: Params, buffers: Params) -> None:
    """Write `.npz` (no pickle) or `.safetensors` (extra `safetensors`), by the suffix."""
    path = Path(path)
    state = state_dict(net, params, buffers)
    config = json.dumps({"format": FORMAT, "network": network_to_dict(net)}, sort_keys=True)
    write_atomic(path, dump_arrays(path.suffix, {CONFIG: np.array(config)} | state))


def load_parameters(path: Path | str, net: Network | None = None) -> tuple[Network, Params, Params]:
    """(network, params, buffers) of a file; `net` says what it holds where the file does not.

    OSError where it can't be read; ValueError or TypeError say what is wrong with it.
    """
    path = Path(path)
    validate.one_of("file", path.suffix, SUFFIXES)
    arrays = read_whole(path, LIMIT)
    config = arrays.pop(CONFIG, None)
    try:
        net = net or network_from_config(config)
        return net, *from_state_dict(net, arrays)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{path}: {error}") from None


def read_run(folder: Path) -> tuple[Network, Params, Params, TrainConfig]:
    """What a run's checkpoint holds; its data set is not looked at."""
    config = read_config(folder)
    params = checkpoint.load(folder / "checkpoint.npz")[0].params
    try:
        channels, classes = params["stem.conv0.weight"].shape[2], len(params["head.fc.bias"])
    except (KeyError, IndexError, TypeError):
        raise CheckpointError(f"{folder}/checkpoint.npz: of no network of refsnn's") from None
    net = config.network(channels, classes)
    state = load_state(folder, config, net)
    return net, state.params, state.buffers, config


def state_shapes(net: Network) -> dict[str, tuple[int, ...]]:
    """Every number's shape in PyTorch's order, running statistics after their batch norm's bias."""
    buffers, shapes = init_buffers(net), {}
    for name, shape in net.shapes().items():
        shapes[name] = torch_shape(shape)
        owner, _, kind = name.rpartition(".")
        if kind == "bias" and f"{owner}.running_mean" in buffers:
            shapes |= {f"{owner}.{which}": shape for which in ("running_mean", "running_var")}
    return shapes


def check_state(net: Network, state: Mapping[str, Array]) -> None:
    shapes = state_shapes(net)
    missing = [name for name in shapes if name not in state]
    if missing:
        raise ValueError(f"{missing[0]}: missing{others(missing)}, want shape {shapes[missing[0]]}")
    surplus = [name for name in state if name not in shapes]
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


def check_number(name: str, x: Array, shape: tuple[int, ...]) -> None:
    """Finite floats of this shape (PyTorch's order)."""
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


def network_to_dict(net: Network) -> dict[str, Any]:
    """What JSON can hold, and `network_from_dict` makes the same network of."""
    values = asdict(net)
    (name,) = (n for n, kind in SURROGATES.items() if type(net.lif.surrogate) is kind)
    values["lif"]["surrogate"]["name"] = name
    return values


def network_from_dict(values: Mapping[str, Any]) -> Network:
    """ValueError, TypeError or KeyError where the values make no network."""
    arch, lif = dict(values["arch"]), dict(values["lif"])
    stem, surrogate = dict(arch["stem"]), dict(lif["surrogate"])
    if stem["pool"] is not None:
        stem["pool"] = AvgPool(**stem["pool"])
    arch |= {name: tuple(arch[name]) for name in ("depths", "widths")}
    lif["surrogate"] = SURROGATES[surrogate.pop("name")](**surrogate)
    parts = {
        "arch": Architecture(**arch | {"stem": Stem(**stem)}),
        "lif": LIF(**lif),
        "norm": BatchNorm(**values["norm"]),
    }
    return Network(**dict(values) | parts)


def network_from_config(text: Any) -> Network:
    if text is None:
        raise ValueError(f"{CONFIG}: missing, so net is wanted: the network that this belongs to")
    try:
        config = json.loads(str(text))
        if config["format"] != FORMAT:
            raise ValueError(f"got format {config['format']!r}, want {FORMAT}")
        net = network_from_dict(config["network"])
        net.shapes()
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{CONFIG}: describes no network ({error!r})") from None
    return net
