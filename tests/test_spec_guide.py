"""The guide in refsnn/equations is what the ledger says, in the Markdown that GitHub renders."""

import re
from pathlib import Path

import pytest

import refsnn
from refsnn import spec
from refsnn.cli import main

GUIDE = Path(refsnn.__file__).parent / "equations" / "README.md"
COMMAND = "refsnn spec --markdown > refsnn/equations/README.md"


def test_the_guide_is_what_the_command_prints(capsys):
    assert main(["spec", "--markdown"]) == 0
    assert capsys.readouterr().out == GUIDE.read_text(), f"out of date, run: {COMMAND}"
    assert COMMAND in spec.guide()  # a reader of the file learns it too


def test_it_has_every_clause_symbol_and_term():
    text = GUIDE.read_text()
    for clause in spec.CLAUSES:
        assert f"\n### {clause.id}: {clause.title}\n" in text
    assert all(f"| $`{symbol.latex}`$ |" in text for symbol in spec.SYMBOLS)
    assert all(f"\n| {term} |" in text for term in spec.GLOSSARY)


def test_links_lead_to_headings_and_files():
    text = GUIDE.read_text()
    anchors = {spec.anchor(heading) for heading in re.findall(r"^#+ (.*)$", text, re.M)}
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert len(targets) == 2 * len(spec.CLAUSES)
    for target in targets:
        if target.startswith("#"):
            assert target[1:] in anchors
        else:
            assert (GUIDE.parent / target).is_file(), target


def test_formulas_stand_in_forms_that_markdown_leaves_alone():
    blocks = re.split(r"^```math\n(.*)\n```$", GUIDE.read_text(), flags=re.M)
    displayed, text = blocks[1::2], "".join(blocks[::2])
    wanted = [line for clause in spec.CLAUSES for line in clause.latex.splitlines()]
    assert set(wanted) < set(displayed)
    inline = r"(?<![^\s(])\$`[^`$\n]+`\$(?=[\s.,:;)])"  # apart from words, or GitHub shows dollars
    assert len(re.findall(inline, text)) > 50
    rest = re.sub(inline, "", text)
    assert "$" not in rest
    assert "\\frac" not in rest


def test_tables_are_not_broken_by_a_bar():
    columns = [len(re.findall(r"(?<!\\)\|", line)) for line in rows()]
    assert set(columns) == {3, 4, 6}


def rows():
    return [line for line in GUIDE.read_text().splitlines() if line.startswith("|")]


def test_text_is_escaped():
    assert spec.escaped("strict > or |x| < a*b") == r"strict \> or \|x\| \< a\*b"


def test_a_terminal_gets_no_latex(capsys):
    for clause in spec.CLAUSES:
        assert main(["spec", clause.id]) == 0
    assert main(["spec", "--glossary"]) == 0
    shown = capsys.readouterr().out
    assert "\\" not in shown
    assert "$" not in shown
    assert shown.isascii()
    assert all(f"\n{term}\n" in shown for term in spec.GLOSSARY)


def test_a_part_of_the_guide(capsys):
    assert main(["spec", "eq3", "--markdown"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("### EQ3: ")
    assert shown in GUIDE.read_text() + "\n"


@pytest.mark.parametrize("options", [["--json", "--markdown"], ["EQ3", "--glossary"]])
def test_forms_that_exclude_each_other(options, capsys):
    try:
        code = main(["spec", *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert options[-1] in capsys.readouterr().err
