"""Joins of a block's spikes with those of its skip (SEW-ResNet; Fang et al., 2021)."""

from typing import Any

from refsnn.equations.surrogate import Array

JOINS = ("add", "and", "iand")


def join_forward(a_seq: Array, s_seq: Array, kind: str, dtype: Any) -> Array:
    """Join the spikes of a block's last neurons, `a_seq`, with the skip's, of one shape.

        add: y = a + s
        and: y = a s
        iand: y = (1 - a) s

    Sums are numbers of `dtype`; they may be larger than 1. Source: SEW.
    """
    if kind == "add":
        return a_seq.astype(dtype) + s_seq  # SEW
    return a_seq * s_seq if kind == "and" else (1 - a_seq) * s_seq  # SEW


def join_backward(dy_seq: Array, a_seq: Array, s_seq: Array, kind: str) -> tuple[Array, Array]:
    """Return dL/da and dL/ds, like `dy_seq`.

    add: dL/dy and dL/dy
    and: dL/dy s and dL/dy a
    iand: -dL/dy s and dL/dy (1 - a)
    """
    if kind == "add":
        return dy_seq, dy_seq
    if kind == "and":
        return dy_seq * s_seq, dy_seq * a_seq
    return -dy_seq * s_seq, dy_seq * (1 - a_seq)
