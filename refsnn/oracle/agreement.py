"""Checks that two computations of a case agree: refsnn's own, and the naive loops'."""

from dataclasses import replace

from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import compute
from refsnn.oracle.naive import case as naive
from refsnn.oracle.vectors import Case


def disagreements(case: Case) -> list[str]:
    """Describe the differences between the case's outputs and those of the naive loops."""
    got = naive.outputs(case.level, case.inputs, case.settings, case.conventions)
    return compare_case(replace(case, exact=True), got).lines()


def changes(case: Case) -> list[str]:
    """Describe the differences between the case's outputs and those that refsnn computes now."""
    outputs = compute(case.level, case.inputs, case.settings, case.conventions, case.repeat)
    return compare_case(replace(case, exact=True), outputs).lines()
