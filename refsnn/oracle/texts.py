"""Conformance reports and diagnoses as text, for the commands and for `str`."""

import re
from collections.abc import Sequence
from typing import Any

from refsnn.oracle import evidence
from refsnn.oracle.comparison import few
from refsnn.oracle.conventions import words
from refsnn.oracle.declare import USUAL
from refsnn.oracle.report import STATUSES, by_clause, by_level
from refsnn.output import counted

NUMBER = re.compile(r"\d+(\.\d+)?(e[+-]?\d+)?")
SAME = "these cases cannot distinguish that from"


def report_text(report: Any, verbose: bool = False) -> str:
    """Return the report as text: tables, one line per failure, a summary."""
    used = dict.fromkeys(r.precision for r in report.results if r.precision)
    statuses = (*STATUSES, "not judged")
    parts = [
        ", ".join([report.adapter, *used]),
        by_level(report.results, STATUSES),
        by_clause([r.clauses for r in report.results], statuses),
    ]
    lines = failures(report, verbose)
    if report.agrees_as:
        lines.insert(0, agreement(report.agrees_as))
    if report.unsteady:
        lines.insert(0, f"{report.unsteady} (each later case was run by a fresh adapter)")
    lines += [f"FLIPPED {r.case}: {'; '.join(r.flipped)}" for r in report.results if r.flips]
    lines += [f"STALE {line}" for line in report.stale]
    lines += [f"NOT RUN {name}: {text}" for name, text in report.damaged.items()]
    omitted = evidence.kinds(name for r in report.results for name in r.omitted)
    lines += [f"not returned, so not compared: {', '.join(omitted)}"] if omitted else []
    if lines:
        parts.append("\n".join(lines))
    if verbose:
        parts += [f"{r.case} printed:\n{r.printed.rstrip()}" for r in report.results if r.printed]
    parts.append(summary(report))
    if report.conventions or report.count("failed"):
        parts.append(judged_by(report))
    return "\n\n".join(parts)


def judged_by(report: Any) -> str:
    """Describe in words the conventions that the cases follow."""
    if not report.conventions:
        return "judged by the paper's conventions, with the numbers that each case asks for"
    if report.conventions == USUAL:
        return f"judged by the paper's conventions: {words(USUAL, always=False)}"
    text = f"judged by what was declared: {words(report.conventions, always=False)}"
    if any(r.level == "neuron" for r in report.results) and not report.has_ties:
        text += "; no potential lies exactly on the threshold, so > and >= are not told apart"
    return text


def agreement(precision: str) -> str:
    """Say what it means that all failures agree as a lower precision."""
    return (
        f"agrees as {precision}: something computes in {precision} "
        f"(--precision {precision} judges it as that)"
    )


def failures(report: Any, verbose: bool) -> list[str]:
    """Return a line for each failure; cases that fail with the same message share a line.

    Of exceptions that differ in numbers alone, such as shapes, the first one's message is shown.
    """
    cases: dict[tuple[str, str], list[str]] = {}
    first: dict[tuple[str, str], str] = {}
    for r in report.results:
        if r.status == "failed" or (verbose and r.status != "passed"):
            text = r.message + (f" [{r.reason}]" if r.reason else "")
            key = r.status.upper(), alike(text) if r.ending == "raised" else text
            first.setdefault(key, text)
            cases.setdefault(key, []).append(r.case)
    join = ", ".join if verbose else listed
    return [f"{key[0]} {join(names)}: {first[key]}" for key, names in cases.items()]


def alike(message: str) -> str:
    """Return an error's message without its numbers, which may be the case's, such as shapes.

    The line of code at its end stays.
    """
    text, at, place = message.rpartition(" (")
    return NUMBER.sub("#", text if at else message) + (at + place if at else "")


def summary(report: Any) -> str:
    """Return the last line of the report: counts and seconds."""
    words = [f"{report.count('passed')} passed"]
    for status, text in (
        ("failed", "failed"),
        ("unsupported", "unsupported"),
        ("expected", "expected to fail"),
    ):
        if report.count(status):
            words.append(f"{report.count(status)} {text}")
    if report.damaged:
        words.append(f"{counted(len(report.damaged), 'damaged file')} of vectors")
    if report.stale:
        words.append(counted(len(report.stale), "stale expected failure"))
    flipped = [r.flips for r in report.results if r.flips]
    if flipped:
        flips = counted(sum(flipped), "rounding flip")
        words.append(f"{flips} excused in {counted(len(flipped), 'case')}")
    if report.count("unsupported") == len(report.results):
        words.append("so nothing was checked")
    return f"{', '.join(words)}, in {report.seconds:.1f} s"


def listed(names: Sequence[str]) -> str:
    """Join the first few names."""
    return ", ".join(few(list(names)))


def diagnosis_text(found: Any) -> str:
    """Describe in words the conventions that reproduce everything, or those that come nearest."""
    lines = list(found.problems)
    count = counted(found.cases, "case")
    if found.matches:
        best, *others = found.matches
        if best.deviations:
            which = f"all {count}" if found.cases > 1 else f"the {count}"
            lines.append(f"these conventions reproduce {which}: {words(best.deviations)}")
            if found.profile:
                lines.append(f"they are those of {found.profile}, with nothing else set")
        else:
            what = "what could be compared" if found.problems else "everything"
            lines.append(f"{count}: {what} matches, no convention differs")
        if found.undecided:
            undecided = few([difference(state, best.deviations) for state in found.undecided])
            lines.append(f"{SAME}: {' | '.join(undecided)}")
        lines += [f"{SAME}: {difference(fit.deviations, best.deviations)}" for fit in others]
    else:
        tried = "known conventions" if found.stopped is None else "conventions tried so far"
        lines += found.contradictions
        lines.append(f"no combination of {tried} reproduces the {count}")
        so_far = "nearest" if found.stopped is None else "nearest so far"
        for fit in found.nearest[:1]:
            text = f"{so_far}: {near(fit)}" if fit.deviations else "first divergence:"
            lines.append(f"{text} {fit.first}")
        lines += [f"measured: {'; '.join(found.measured)}"] if found.measured else []
        agree = f"outputs that then agree: {', '.join(found.agree)}; " if found.agree else ""
        lines.append(f"{agree}outputs that differ: {', '.join(found.differ)}")
    if found.stopped is not None:
        lines.append(
            f"stopped after {found.stopped:g} s, before every combination was tried; "
            "refsnn diagnose --seconds sets the limit"
        )
    if found.absent:
        lines.append(f"not given, so not judged: {', '.join(found.absent)}")
    return "\n".join(lines)


def difference(state: Any, best: Any) -> str:
    """Describe in words what differs in one set of deviations from the best one."""
    other = {name: value for name, value in state.items() if best.get(name) != value}
    return words(other or state)


def near(fit: Any) -> str:
    """Introduce the first divergence that remains under the nearest conventions."""
    agree = f"{counted(fit.passed, 'case')} agree" + "s" * (fit.passed == 1)
    return f"{words(fit.deviations)}; {agree}; first divergence:"
