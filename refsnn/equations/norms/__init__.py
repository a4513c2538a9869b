"""Batch norms of other methods: a file for each, all on the statistics of `batchnorm`."""

from refsnn.equations.norms.base import Norm
from refsnn.equations.norms.bntt import BNTT
from refsnn.equations.norms.psp import PSPBN
from refsnn.equations.norms.tebn import TEBN

__all__ = ["NORMS", "BNTT", "PSPBN", "TEBN", "Norm"]

NORMS: dict[str, type[Norm]] = {"tebn": TEBN, "bntt": BNTT, "psp": PSPBN}
