"""JUnit XML of a conformance report, read back with the standard library's parser."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from refsnn.cli import main
from refsnn.oracle.conform import Report, Result
from refsnn.oracle.junit import junit_text

PASSED = Result("neuron/right", "neuron", {}, "passed", "done", "", seconds=0.25)
FAILED = Result(
    "neuron/wrong", "neuron", {}, "failed", "done", "o: 1 < 2 & so on", printed="\x1b[1mhello\n"
)
UNABLE = Result("layer/narrow", "layer", {}, "unsupported", "unsupported", "no such reset")
KNOWN = Result("layer/known", "layer", {}, "expected", "done", "u differs", reason="issue 7")


def parsed(*results, **fields):
    report = Report("mine & co", None, (), results, seconds=1.5, **fields)
    return ElementTree.fromstring(junit_text(report))


def test_a_suite_for_each_level_and_a_case_for_each_case():
    root = parsed(PASSED, FAILED, UNABLE, KNOWN)
    assert root.tag == "testsuites"
    assert root.attrib == {
        "name": "mine & co",
        "tests": "4",
        "failures": "1",
        "skipped": "2",
        "errors": "0",
        "time": "1.500",
    }
    neuron, layer = root
    assert (neuron.tag, neuron.get("name"), layer.get("name")) == ("testsuite", "neuron", "layer")
    assert [neuron.get(name) for name in ("tests", "failures", "skipped", "time")] == [
        "2",
        "1",
        "0",
        "0.250",
    ]
    assert [layer.get(name) for name in ("tests", "failures", "skipped")] == ["2", "0", "2"]
    right, wrong = neuron
    assert (right.get("classname"), right.get("name"), right.get("time")) == (
        "neuron",
        "right",
        "0.250",
    )
    assert list(right) == []
    assert wrong.find("failure").get("message") == "o: 1 < 2 & so on"
    narrow, known = layer
    assert narrow.find("skipped").get("message") == "no such reset"
    assert known.find("skipped").get("message") == "expected to fail: issue 7; u differs"


def test_what_was_printed_is_kept_without_what_xml_cannot_hold():
    root = parsed(FAILED, replace(FAILED, message="bell \x07, half \ud83d, whole \U0001f600"))
    first, second = root.iter("testcase")
    assert first.find("system-out").text == "?[1mhello\n"
    assert second.find("failure").get("message") == "bell ?, half ?, whole \U0001f600"


def test_what_else_lets_a_run_fail_is_a_failure_too():
    stale = ("neuron/right: expected to fail (x), but passed: neuron/right",)
    root = parsed(PASSED, stale=stale, damaged={"neuron/torn": "no such file"})
    assert root.get("failures") == "2"
    (expected,) = root.find("testsuite[@name='expected failures']")
    assert expected.get("name") == "neuron/right"
    message = "expected to fail (x), but passed: neuron/right"
    assert expected.find("failure").get("message") == message
    (torn,) = root.find("testsuite[@name='vectors']")
    assert (torn.get("name"), torn.find("failure").text) == ("neuron/torn", "no such file")


MINE = """
    from refsnn.oracle.adapters import Unsupported
    from refsnn.oracle.recompute import recompute

    def run(case):
        if case.conventions["reset_gradient"] != "full":
            raise Unsupported("the reset is always differentiated")
        return recompute(case, {"fire_at_threshold": True}).outputs
    """


@pytest.mark.processes
def test_the_command_writes_it_and_exits_as_before(adapter, tmp_path, capsys):
    adapter(MINE)
    given = ["conform", "mine:run", "--junit", "report.xml", "--case"]
    assert main([*given, "neuron/tie", "neuron/tie-inclusive", "neuron/detached-reset"]) == 1
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert root.get("name") == "mine:run"
    found = {
        case.get("name"): [(why.tag, why.get("message")) for why in case]
        for case in root.iter("testcase")
    }
    assert found["tie-inclusive"] == []
    ((tag, message),) = found["tie"]
    assert tag == "failure"
    assert message.startswith("o at step 0, index [0]: expected 0, got 1")
    assert found["detached-reset"] == [("skipped", "the reset is always differentiated")]
    assert "FAILED neuron/tie: " in capsys.readouterr().out
    assert main([*given, "neuron/tie-inclusive"]) == 0
    root = ElementTree.parse(tmp_path / "report.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("1", "0")


def test_a_file_that_cannot_be_written_is_refused(refused):
    assert "none/x.xml" in refused(["conform", "mine:run", "--junit", "none/x.xml"])
    assert "junit: got -, want a file's name" in refused(["conform", "mine:run", "--junit", "-"])
