"""The ledger's clauses and the code refer to each other."""

import ast
import inspect
import json
import re
from pathlib import Path

import pytest

import refsnn
from refsnn import spec
from refsnn.cli import main

PACKAGE = Path(refsnn.__file__).parent
METHODS = "|".join(clause.id for clause in spec.CLAUSES if clause.id.isalpha())
TAG = re.compile(rf"#\s*(?:Eq\. \((\d+)\)|([DRM]\d+|{METHODS})\b|Alg\. 1( inference)? line \d)")


def tags(source: str) -> set[str]:
    half = {" inference": "ALG1-INFER", "": "ALG1-TRAIN"}
    return {
        f"EQ{eq}" if eq else other or half[inference]
        for eq, other, inference in TAG.findall(source)
    }


def source_of(dotted: str) -> str:
    found = spec.resolve(dotted)
    try:
        return inspect.getsource(found)
    except TypeError:  # a value: the statement in its module that assigns it
        module, name = dotted.rsplit(".", 1)
        text = inspect.getsource(spec.resolve(module))
        for node in ast.parse(text).body:
            targets = getattr(node, "targets", [getattr(node, "target", None)])
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                return "\n".join(text.splitlines()[node.lineno - 1 : node.end_lineno])
        raise


def test_every_equation_decision_and_half_of_the_algorithm_has_a_clause():
    ids = [c.id for c in spec.CLAUSES]
    wanted = [f"EQ{n}" for n in range(1, 11)] + ["ALG1-TRAIN", "ALG1-INFER"]
    wanted += [f"D{n}" for n in range(1, 26)]
    assert ids[:37] == wanted
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("clause", spec.CLAUSES, ids=lambda c: c.id)
def test_the_code_of_a_clause_exists_and_carries_its_tag(clause):
    assert clause.id in tags(source_of(clause.code))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: p.name)
def test_every_tag_names_a_clause(path):
    unknown = tags(path.read_text()) - {c.id for c in spec.CLAUSES}
    assert not unknown


def test_an_unknown_name_is_noticed():
    with pytest.raises(AttributeError):
        spec.resolve("refsnn.equations.lif.nothing")
    with pytest.raises(AttributeError):
        spec.resolve("nowhere.at.all")


def test_options_that_clauses_name_exist(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    known = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    text = " ".join(alternative for c in spec.CLAUSES for alternative in c.alternatives)
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= known


def test_json_is_a_list_of_all_clauses(capsys):
    assert main(["spec", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) >= 37
    for row in rows:
        assert {"id", "reference", "statement", "choice", "alternatives", "code"} <= set(row)
        assert all(row[name] for name in ("code", "statement", "choice"))


def test_table_and_one_clause(capsys):
    assert main(["spec"]) == 0
    shown = capsys.readouterr().out
    assert all(re.search(rf"^{c.id} ", shown, re.M) for c in spec.CLAUSES)
    for name in ("eq3", "Eq. 3", "3"):
        assert main(["spec", name]) == 0
        assert capsys.readouterr().out.startswith("EQ3 ")
    assert main(["spec", "EQ3"]) == 0
    shown = capsys.readouterr().out
    assert "refsnn.equations.lif.lif_backward" in shown
    assert "product rule" in shown


def test_an_unknown_clause_is_named_in_a_line(capsys):
    assert main(["spec", "EQ11"]) == 2
    error = capsys.readouterr().err
    assert "EQ11" in error
    assert error.count("\n") == 1
