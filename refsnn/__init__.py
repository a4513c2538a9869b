"""Spiking ResNets trained by hand-derived BPTT with shortcut back-propagation.

The names below are imported when they are first used: `import refsnn` itself is quick, and brings
neither Numba nor Matplotlib.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from refsnn.version import __version__

if TYPE_CHECKING:
    from refsnn.data import Dataset, Split
    from refsnn.data.digits import load_digits
    from refsnn.equations.common_surrogates import (
        ATan,
        Dspike,
        Exponential,
        FastSigmoid,
        Gaussian,
        PiecewiseQuadratic,
        Rectifier,
        Sigmoid,
        SoftSign,
        SuperSpike,
    )
    from refsnn.equations.lif import LIF, LIFCache, LIFGrads, lif_backward, lif_forward
    from refsnn.equations.shortcut import (
        objective_backward,
        objective_forward,
        shortcut_backward,
        side_coefficient,
    )
    from refsnn.equations.surrogate import (
        Rectangular,
        Surrogate,
        Tanh,
        TanhLiteral,
        Triangular,
        make_surrogate,
    )
    from refsnn.equations.tet import TET
    from refsnn.gradcheck import assert_gradients, gradcheck
    from refsnn.model import Activity, Model, fit, load
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
    from refsnn.ops import CROSS_ENTROPY, NUMPY, Array, BatchNorm, Loss, Ops, get_ops
    from refsnn.oracle.adapters import Unsupported
    from refsnn.oracle.functions import cases, compare, conform, diagnose
    from refsnn.training.monitor import Diverged

#: each public name, and the module that it is imported from
PUBLIC = {
    "Dataset": "refsnn.data",
    "Split": "refsnn.data",
    "load_digits": "refsnn.data.digits",
    "LIF": "refsnn.equations.lif",
    "LIFCache": "refsnn.equations.lif",
    "LIFGrads": "refsnn.equations.lif",
    "lif_backward": "refsnn.equations.lif",
    "lif_forward": "refsnn.equations.lif",
    "objective_backward": "refsnn.equations.shortcut",
    "objective_forward": "refsnn.equations.shortcut",
    "shortcut_backward": "refsnn.equations.shortcut",
    "side_coefficient": "refsnn.equations.shortcut",
    "ATan": "refsnn.equations.common_surrogates",
    "Dspike": "refsnn.equations.common_surrogates",
    "Exponential": "refsnn.equations.common_surrogates",
    "FastSigmoid": "refsnn.equations.common_surrogates",
    "Gaussian": "refsnn.equations.common_surrogates",
    "PiecewiseQuadratic": "refsnn.equations.common_surrogates",
    "Rectifier": "refsnn.equations.common_surrogates",
    "Sigmoid": "refsnn.equations.common_surrogates",
    "SoftSign": "refsnn.equations.common_surrogates",
    "SuperSpike": "refsnn.equations.common_surrogates",
    "Rectangular": "refsnn.equations.surrogate",
    "Surrogate": "refsnn.equations.surrogate",
    "Tanh": "refsnn.equations.surrogate",
    "TanhLiteral": "refsnn.equations.surrogate",
    "Triangular": "refsnn.equations.surrogate",
    "make_surrogate": "refsnn.equations.surrogate",
    "TET": "refsnn.equations.tet",
    "assert_gradients": "refsnn.gradcheck",
    "gradcheck": "refsnn.gradcheck",
    "Activity": "refsnn.model",
    "Model": "refsnn.model",
    "fit": "refsnn.model",
    "load": "refsnn.model",
    "Architecture": "refsnn.network",
    "Network": "refsnn.network",
    "architecture": "refsnn.network",
    "backward": "refsnn.network",
    "encode": "refsnn.network",
    "forward": "refsnn.network",
    "init_buffers": "refsnn.network",
    "init_params": "refsnn.network",
    "Unsupported": "refsnn.oracle.adapters",
    "cases": "refsnn.oracle.functions",
    "compare": "refsnn.oracle.functions",
    "conform": "refsnn.oracle.functions",
    "diagnose": "refsnn.oracle.functions",
    "Array": "refsnn.ops",
    "CROSS_ENTROPY": "refsnn.ops",
    "NUMPY": "refsnn.ops",
    "BatchNorm": "refsnn.ops",
    "Loss": "refsnn.ops",
    "Ops": "refsnn.ops",
    "get_ops": "refsnn.ops",
    "Diverged": "refsnn.training.monitor",
}

__all__ = [
    "Array",
    "__version__",
    "Unsupported",
    "cases",
    "compare",
    "conform",
    "diagnose",
    "Dataset",
    "Split",
    "LIF",
    "LIFCache",
    "LIFGrads",
    "lif_backward",
    "lif_forward",
    "objective_backward",
    "objective_forward",
    "shortcut_backward",
    "side_coefficient",
    "ATan",
    "Dspike",
    "Exponential",
    "FastSigmoid",
    "Gaussian",
    "PiecewiseQuadratic",
    "Rectifier",
    "Sigmoid",
    "SoftSign",
    "SuperSpike",
    "Rectangular",
    "Surrogate",
    "Tanh",
    "TanhLiteral",
    "Triangular",
    "make_surrogate",
    "TET",
    "assert_gradients",
    "gradcheck",
    "Activity",
    "Model",
    "fit",
    "load",
    "load_digits",
    "Architecture",
    "Network",
    "architecture",
    "backward",
    "encode",
    "forward",
    "init_buffers",
    "init_params",
    "CROSS_ENTROPY",
    "NUMPY",
    "BatchNorm",
    "Loss",
    "Ops",
    "get_ops",
    "Diverged",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'refsnn' has no attribute {name!r}")
    value = import_module(PUBLIC[name])
    if PUBLIC[name] != f"refsnn.{name}":  # as refsnn.gradcheck, a module that can be called
        value = getattr(value, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *PUBLIC})
