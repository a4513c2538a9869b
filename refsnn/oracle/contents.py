"""The settings and the inputs, with their shapes, that a case of each level needs.

Axes are in PyTorch's order. Cases from files are checked against this before they are computed.
"""

from collections.abc import Mapping
from typing import Any

from refsnn.network import init_buffers
from refsnn.ops import Array
from refsnn.oracle.compute import network_of
from refsnn.oracle.conventions import PAPER, Conventions
from refsnn.oracle.layout import torch_shape
from refsnn.oracle.method_network import norm_model_of
from refsnn.oracle.method_neuron import model_of

Shapes = dict[str, tuple[int, ...]]
NETWORK = ("steps", "depths", "widths", "stem_width", "branches")
TRAINING = (
    *NETWORK,
    "method",
    "epochs",
    "batches",
    "lam",
    "shortcut_weight",
    "optimizer",
    "lr",
    "momentum",
    "weight_decay",
)
SETTINGS = {
    "surrogate": (),
    "neuron": (),
    "layer": ("stride", "padding", "training"),
    "block": ("stride", "training"),
    "network": (*NETWORK, "side", "training"),
    "training": TRAINING,
}
#: the inputs that determine the shapes of all others, with their numbers of axes
LEADING = {
    "surrogate": {"u_pre": 1},
    "neuron": {"c": 2},
    "layer": {"x": 5, "conv.weight": 4},
    "block": {"x": 5, "conv1.weight": 4},
    "network": {"images": 4, "head.fc.bias": 1},
    "training": {"images": 5, "head.fc.bias": 1},
}


def require_inputs(
    level: str,
    inputs: Mapping[str, Array],
    settings: Mapping[str, Any],
    conventions: Conventions = PAPER,
) -> None:
    """Check the settings and inputs of a case.

    ValueError names the first that is missing, unknown or of another shape.
    """
    for name in SETTINGS[level]:
        if name not in settings:
            raise ValueError(f"settings: {name} is missing")
    if level == "neuron" and conventions["neuron_model"] != "lif":
        require_method(inputs, settings, conventions)
        return
    require_leading(LEADING[level], inputs)
    wanted = SHAPES[level](inputs, settings, conventions)
    if level == "neuron" and conventions["recurrence"] == "dense":
        wanted = {**wanted, "v": inputs["c"].shape[1:] * 2}
    require_shapes(level, inputs, wanted, LEADING[level])


def require_method(
    inputs: Mapping[str, Array], settings: Mapping[str, Any], conventions: Conventions
) -> None:
    """Check the settings and inputs of a case of neurons with parameters."""
    leading = {"c": 3}
    require_leading(leading, inputs)
    model, (steps, _, channels) = model_of(conventions), inputs["c"].shape
    wanted: Shapes = {"do": inputs["c"].shape, **model.shapes(channels, steps)}
    if model.has_statistics:
        if "training" not in settings:
            raise ValueError("settings: training is missing")
        wanted |= {"running_mean": (channels,), "running_var": (channels,)}
    require_shapes("neuron", inputs, wanted, leading)


def require_leading(leading: Mapping[str, int], inputs: Mapping[str, Array]) -> None:
    """Check the numbers of axes of the inputs that determine the shapes of all others."""
    for name, axes in leading.items():
        if name not in inputs or inputs[name].ndim != axes or not inputs[name].size:
            got = inputs[name].shape if name in inputs else "none"
            raise ValueError(f"inputs: {name}: got {got}, want an array of {axes} axes")


def require_shapes(
    level: str, inputs: Mapping[str, Array], wanted: Shapes, leading: Mapping[str, int]
) -> None:
    """Check the shapes of all inputs, and that there are no others."""
    for name, shape in wanted.items():
        if name not in inputs or inputs[name].shape != shape:
            got = inputs[name].shape if name in inputs else "none"
            raise ValueError(f"inputs: {name}: got {got}, want an array of shape {shape}")
    surplus = sorted(inputs.keys() - wanted.keys() - leading.keys())
    if surplus:
        raise ValueError(f"inputs: {surplus[0]}: is not an input of level {level}")


def out_size(size: int, kernel: int, stride: int, padding: int) -> int:
    """Return a convolution's output size along one axis; ValueError if it is below 1."""
    out = (size + 2 * padding - kernel) // stride + 1
    if out < 1:
        raise ValueError(f"inputs: x: got {size} pixels, want at least {kernel - 2 * padding}")
    return out


def norm(name: str, channels: int, steps: int = 0, conventions: Conventions = PAPER) -> Shapes:
    """Return the shapes of a batch norm's parameters and statistics."""
    parameters: Shapes = {"weight": (channels,), "bias": (channels,)}
    model = norm_model_of(conventions)
    running: tuple[int, ...] = (channels,)
    if model is not None:
        parameters = model.shapes(channels, steps)
        running = (steps, channels) if model.running_by_step else (channels,)
    parts = parameters | {"running_mean": running, "running_var": running}
    if model is not None and model.of_inputs:
        del parts["running_mean"]  # it is always 0
    return {f"{name}.{part}": shape for part, shape in parts.items()}


def layer(x: Mapping[str, Array], settings: Mapping[str, Any], conventions: Conventions) -> Shapes:
    """Return the shapes of a layer's inputs."""
    steps, images, c_in, *size = x["x"].shape
    c_out, _, *kernel = x["conv.weight"].shape
    stride, padding = settings["stride"], settings["padding"]
    out = (out_size(n, k, stride, padding) for n, k in zip(size, kernel, strict=True))
    model = norm_model_of(conventions)
    channels = c_in if model is not None and model.of_inputs else c_out
    return {
        "conv.weight": (c_out, c_in, *kernel),
        "do": (steps, images, c_out, *out),
    } | norm("bn", channels, steps, conventions)


def block(x: Mapping[str, Array], settings: Mapping[str, Any], conventions: Conventions) -> Shapes:
    """Return the shapes of a block's inputs."""
    steps, images, c_in, *size = x["x"].shape
    c_out, stride = len(x["conv1.weight"]), settings["stride"]
    shapes: Shapes = (
        {
            "conv1.weight": (c_out, c_in, 3, 3),
            "conv2.weight": (c_out, c_out, 3, 3),
            "do": (steps, images, c_out, *(out_size(n, 3, stride, 1) for n in size)),
        }
        | norm("bn1", c_out)
        | norm("bn2", c_out)
    )
    if stride != 1 or c_in != c_out:
        shapes |= {"skip.conv.weight": (c_out, c_in, 1, 1)} | norm("skip.bn", c_out)
    return shapes


def network(
    x: Mapping[str, Array], settings: Mapping[str, Any], conventions: Conventions
) -> Shapes:
    """Return the shapes of a network's inputs."""
    *batches, count, channels, _, _ = x["images"].shape
    classes = len(x["head.fc.bias"])
    net = network_of(settings, conventions, channels, classes)
    shapes: Shapes = {"labels": (*batches, count)}
    if conventions["teacher_loss"] != "none":
        shapes["teacher"] = (*batches, count, classes)
    shapes |= {name: torch_shape(shape) for name, shape in net.shapes().items()}
    return shapes | {name: value.shape for name, value in init_buffers(net).items()}


SHAPES = {
    "surrogate": lambda x, settings, conventions: {},
    "neuron": lambda x, settings, conventions: {"do": x["c"].shape},
    "layer": layer,
    "block": block,
    "network": network,
    "training": network,
}
