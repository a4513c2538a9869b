"""Spiking ResNets trained by hand-derived BPTT with shortcut back-propagation.

The names below are imported when they are first used: `import refsnn` itself is quick, and brings
neither Numba nor Matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from refsnn.equations.lif import LIF, LIFCache, LIFGrads, lif_backward, lif_forward
    from refsnn.equations.shortcut import objective_backward, objective_forward
    from refsnn.equations.surrogate import (
        Rectangular,
        Surrogate,
        Tanh,
        TanhLiteral,
        Triangular,
        make_surrogate,
    )
    from refsnn.gradcheck import assert_gradients
    from refsnn.network import (
        Architecture,
        Network,
        architecture,
        backward,
        encode,
        forward,
        init_buffers,
        init_params,
    )
    from refsnn.ops import NUMPY, BatchNorm, Ops, get_ops

#: each public name, and the module that it is imported from
PUBLIC = {
    "LIF": "refsnn.equations.lif",
    "LIFCache": "refsnn.equations.lif",
    "LIFGrads": "refsnn.equations.lif",
    "lif_forward": "refsnn.equations.lif",
    "lif_backward": "refsnn.equations.lif",
    "Surrogate": "refsnn.equations.surrogate",
    "Tanh": "refsnn.equations.surrogate",
    "TanhLiteral": "refsnn.equations.surrogate",
    "Rectangular": "refsnn.equations.surrogate",
    "Triangular": "refsnn.equations.surrogate",
    "make_surrogate": "refsnn.equations.surrogate",
    "objective_forward": "refsnn.equations.shortcut",
    "objective_backward": "refsnn.equations.shortcut",
    "Architecture": "refsnn.network",
    "architecture": "refsnn.network",
    "BatchNorm": "refsnn.ops",
    "Network": "refsnn.network",
    "init_params": "refsnn.network",
    "init_buffers": "refsnn.network",
    "encode": "refsnn.network",
    "forward": "refsnn.network",
    "backward": "refsnn.network",
    "Ops": "refsnn.ops",
    "NUMPY": "refsnn.ops",
    "get_ops": "refsnn.ops",
    "assert_gradients": "refsnn.gradcheck",
}

__all__ = [
    "Architecture",
    "BatchNorm",
    "LIF",
    "LIFCache",
    "LIFGrads",
    "NUMPY",
    "Network",
    "Ops",
    "Rectangular",
    "Surrogate",
    "Tanh",
    "TanhLiteral",
    "Triangular",
    "architecture",
    "assert_gradients",
    "backward",
    "encode",
    "forward",
    "get_ops",
    "init_buffers",
    "init_params",
    "lif_backward",
    "lif_forward",
    "make_surrogate",
    "objective_backward",
    "objective_forward",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'refsnn' has no attribute {name!r}")
    value = getattr(import_module(PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
