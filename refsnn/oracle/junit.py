"""Conformance reports as JUnit XML, which CI services show."""

import re
from typing import Any
from xml.etree import ElementTree

from refsnn.oracle.report import level

#: characters that XML 1.0 does not allow
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_text(report: Any) -> str:
    """Return a conformance report as JUnit XML: a testsuite for each level, a testcase for a case.

    Unsupported cases and expected failures are skipped ones. Expected failures that did not happen
    and cases that could not be read are failures of testsuites of their own.
    """
    suites: dict[str, list[ElementTree.Element]] = {}
    for result in report.results:
        suites.setdefault(level(result), []).append(of_case(result))
    for line in report.stale:
        pattern, _, text = line.partition(": ")
        suites.setdefault("expected failures", []).append(
            element("expected failures", pattern, "failure", text)
        )
    for name, text in report.damaged.items():
        suites.setdefault("vectors", []).append(element("vectors", name, "failure", text))
    root = ElementTree.Element("testsuites", name=plain(report.adapter))
    for name, found in suites.items():
        suite = ElementTree.SubElement(root, "testsuite", name=name)
        suite.extend(found)
        count(suite)
    count(root)
    root.set("time", f"{report.seconds:.3f}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode")


def of_case(result: Any) -> ElementTree.Element:
    """Return the testcase of one result."""
    kind = {"passed": "", "failed": "failure"}.get(result.status, "skipped")
    reason = f"expected to fail: {result.reason}; " if result.status == "expected" else ""
    name = result.case.removeprefix(f"{result.level}/")
    case = element(result.level, name, kind, reason + result.message)
    case.set("time", f"{result.seconds:.3f}")
    if result.printed and result.status == "failed":
        ElementTree.SubElement(case, "system-out").text = plain(result.printed)
    return case


def element(suite: str, name: str, kind: str, message: str) -> ElementTree.Element:
    """Return a testcase; `kind` is "" for one that passed, else failure or skipped."""
    case = ElementTree.Element("testcase", classname=suite, name=plain(name), time="0.000")
    if kind:
        why = ElementTree.SubElement(case, kind, message=plain(message))
        if kind == "failure":
            why.text = plain(message)
    return case


def count(suite: ElementTree.Element) -> None:
    """Give a suite the numbers and the time of its testcases."""
    cases = list(suite.iter("testcase"))
    suite.set("tests", str(len(cases)))
    for name, kind in (("failures", "failure"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(kind) is not None for case in cases)))
    suite.set("errors", "0")
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def plain(text: str) -> str:
    """Return the text with `?` for characters that XML can't hold."""
    return FORBIDDEN.sub("?", text)
