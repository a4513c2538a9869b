"""Checks that two computations of a case agree: refsnn's own, and the naive loops'."""

from dataclasses import replace
from typing import Any

import numpy as np

from refsnn.oracle.compare import compare_case
from refsnn.oracle.compute import compute
from refsnn.oracle.conventions import Conventions, check
from refsnn.oracle.naive import case as naive
from refsnn.oracle.slopes import GIVEN, is_own
from refsnn.oracle.vectors import Case


def disagreements(case: Case) -> list[str]:
    """Describe the differences between the case's outputs and those of the naive loops."""
    conventions = for_loops(case.conventions)
    got = naive.outputs(case.level, case.inputs, case.settings, conventions)
    return compare_case(replace(case, exact=True), got).lines()


def changes(case: Case) -> list[str]:
    """Describe the differences between the case's outputs and those that refsnn computes now."""
    outputs = compute(case.level, case.inputs, case.settings, case.conventions, case.repeat)
    return compare_case(replace(case, exact=True), outputs).lines()


def for_loops(conventions: Conventions) -> dict[str, Any]:
    """Return the conventions as the naive loops take them: a user's slope as a function of one x.

    It is the user's definition, so there is no second opinion on it, but on all that is around it.
    """
    name = conventions.get("surrogate")
    if not is_own(name):
        return conventions
    check("surrogate", name)
    slope = GIVEN[str(name)].slope
    return {**conventions, "surrogate": lambda x: float(slope(np.array([x]))[0])}
