"""Conformance reports and diagnoses as text, for the commands and for `str`."""

from collections.abc import Sequence
from typing import Any

from refsnn.oracle import evidence
from refsnn.oracle.comparison import few
from refsnn.oracle.conventions import words
from refsnn.oracle.report import STATUSES, by_clause, by_level
from refsnn.output import counted

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
    return "\n\n".join([*parts, summary(report)])


def failures(report: Any, verbose: bool) -> list[str]:
    """Return a line for each failure; cases that fail with the same message share a line."""
    cases: dict[tuple[str, str], list[str]] = {}
    for r in report.results:
        if r.status == "failed" or (verbose and r.status != "passed"):
            text = r.message + (f" [{r.reason}]" if r.reason else "")
            cases.setdefault((r.status.upper(), text), []).append(r.case)
    join = ", ".join if verbose else listed
    return [f"{status} {join(names)}: {text}" for (status, text), names in cases.items()]


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
        else:
            what = "what could be compared" if found.problems else "everything"
            lines.append(f"{count}: {what} matches, no convention differs")
            if found.undecided:
                undecided = few([words(state) for state in found.undecided])
                lines.append(f"{SAME}: {' | '.join(undecided)}")
        lines += [f"{SAME}: {words(fit.deviations)}" for fit in others]
    else:
        tried = "known conventions" if found.stopped is None else "conventions tried so far"
        lines.append(f"no combination of {tried} reproduces the {count}")
        so_far = "nearest" if found.stopped is None else "nearest so far"
        lines += [f"{so_far}: {near(fit)} {fit.first}" for fit in found.nearest[:1]]
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


def near(fit: Any) -> str:
    """Introduce the first divergence that remains under the nearest conventions."""
    agree = f"{counted(fit.passed, 'case')} agree" + "s" * (fit.passed == 1)
    return f"{words(fit.deviations)}; {agree}; first divergence:"
