"""Sequences (T, ...) whose steps are all the same."""

from refsnn.equations.surrogate import Array


def is_still(x_seq: Array) -> bool:
    """Tell whether x_seq (T, ...) is one array that is broadcast to all steps (D7)."""
    return len(x_seq) > 1 and x_seq.size > 0 and x_seq.strides[0] == 0
