"""What holds of every guide: its links, its commands, its blocks of code."""

import contextlib
import inspect
import re
import shlex
import tomllib
from itertools import pairwise
from operator import attrgetter
from pathlib import Path

import pytest
from guides import GUIDES, INSTALLED, ROOT, Guide, guide
from run import commands, execute, is_here, runnable

from refsnn import spec
from refsnn.cli import COMMANDS, build_parser
from verification.__main__ import build_parser as verification_parser
from verification.mutants import build_parser as mutants_parser

README = guide("README.md")
LANGUAGES = ("python", "sh", "text", "json", "toml", "powershell")
NAMES = ("train", "evaluate", "spec", *COMMANDS)

GUIDE_NAME = attrgetter("name")

every_guide = pytest.mark.parametrize("one", GUIDES, ids=GUIDE_NAME)


def test_guides_are_found():
    assert {"README.md", "refsnn/equations/README.md", "verification/README.md"} <= {
        one.name for one in GUIDES
    }


@every_guide
def test_links_lead_to_files_and_headings(one):
    for target in one.links:
        if re.match(r"https?://", target):
            continue
        file, _, anchor = target.partition("#")
        path = (one.path.parent / file).resolve() if file else one.path
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        if anchor and path.suffix == ".md":
            assert anchor in Guide(path).anchors, target


def lines_of_commands(one):
    """The command lines of `refsnn` in a guide's blocks and inline code."""
    for block in one.blocks:
        if block.language in ("sh", "powershell"):
            for line in commands(block.code):
                yield from re.findall(r"(?:^|[\s/\\])(refsnn (?!-).*?)(?: &&.*| \|.*)?$", line)
    yield from (span for span in one.spans if re.match(r"refsnn \S", span))


def parse(line):
    """Parse a command line as refsnn would; an exception where it can't."""
    words = shlex.split(line.partition(" > ")[0])[1:]
    if len(words) == 1:
        assert words[0] in NAMES, line
    elif words[-1] == "--help":
        with pytest.raises(SystemExit, match=r"^0$"):
            build_parser().parse_args(words)
    else:
        build_parser().parse_args(words)


@every_guide
def test_commands_are_accepted(one, capsys):
    for line in lines_of_commands(one):
        parse(line)


def options_of(parser, words):
    """The options that a parser lists in the help of the command `words`."""
    with contextlib.suppress(SystemExit):
        parser.parse_args([*words, "--help"])


def test_options_exist_of_some_command(capsys):
    for words in (*([name] for name in NAMES), *(["data", x] for x in ("list", "fetch", "check"))):
        options_of(build_parser(), words)
    for words in (["vectors", x] for x in ("list", "generate", "check", "schema")):
        options_of(build_parser(), words)
    options_of(verification_parser(), [])
    options_of(mutants_parser(), [])
    known = set(re.findall(r"--[a-z][-a-z]*", capsys.readouterr().out))
    for one in GUIDES:
        for span in one.spans:
            if option := re.match(r"--[a-z][-a-z]*", span):
                assert option[0] in known, f"{one.name}: {option[0]}"


@every_guide
def test_every_block_has_a_name_and_a_use(one):
    blocks = [block for block in one.blocks if block.language != "math"]
    names = [block.name for block in blocks if block.name != "output"]
    assert len(set(names)) == len(names), names
    for block in blocks:
        assert block.name, f"{one.name}: a comment with a name is missing before:\n{block.code}"
        assert block.language in LANGUAGES, block.language
        if block.language == "python":
            assert block.is_run, f"{one.name}: {block.name} is not run"
        if block.is_file:
            stem = block.name.split(".")[0]
            used = [b.code for b in blocks if b.language == "sh" and b.is_run]
            assert any(re.search(rf"\b{stem}\b", code) for code in used), block.name
    for before, block in pairwise([None, *blocks]):
        assert (block.language == "text") == (block.name == "output")
        if block.name == "output":  # or nothing would compare it
            assert before is not None, block.code
            assert before.language in ("python", "sh"), block.code
            assert before.is_run, block.code


NEEDED = sorted({name for one in GUIDES for block in one.blocks for name in block.option("needs")})


@pytest.mark.parametrize("name", NEEDED)
def test_packages_that_blocks_need_are_here(name):
    if not is_here(name):
        pytest.skip(f"without {name} some blocks are not run")


#: guides whose blocks take longest
LONG = tuple(f"refsnn/{name}/README.md" for name in ("bench", "experiments", "training"))


def is_slow(one):
    """Tell whether a guide's blocks take long, or need more than the package."""
    return one.name in LONG or any(block.option("needs") for block in one.blocks)


RUN = [
    pytest.param(one, id=one.name, marks=[pytest.mark.slow] * is_slow(one))
    for one in GUIDES
    if any(runnable(one, NEEDED))
]


@pytest.mark.parametrize("one", RUN)
def test_blocks_do_what_is_shown(one, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    execute(one, [name for name in NEEDED if is_here(name)])


def test_the_readme_has_every_guide_in_its_map():
    linked = {(README.path.parent / target.partition("#")[0]).resolve() for target in README.links}
    assert {one.path for one in GUIDES if one.path != README.path} <= linked


def test_the_readme_is_short():
    assert len(README.text.encode()) <= 8000  # without the line ends of Windows


def test_the_readme_leads_to_the_code_and_derivation_of_each_equation():
    rows = []
    for clause in spec.CLAUSES:
        if clause.id.startswith(("EQ", "ALG")):
            target = spec.resolve(clause.code)  # a function, or a module
            path = Path(inspect.getsourcefile(target)).relative_to(ROOT).as_posix()
            name = target.__name__.rpartition(".")[2] + ".py" * inspect.ismodule(target)
            derivation = f"refsnn/equations/README.md#{spec.anchor(spec.heading(clause))}"
            rows.append(f"| {clause.title} | [`{name}`]({path}) | [{clause.id}]({derivation}) |")
    assert "\n".join(rows) in README.text, "\n".join(rows)


def test_the_readme_has_the_version_and_the_pythons():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert f'"refsnn, version {project["version"]}"' in README.text
    assert project["requires-python"] == ">=3.11"
    assert "Python 3.11 or newer" in README.text


def test_commands_that_ci_takes_from_the_readme_are_there():
    for name in INSTALLED:
        assert "pip install --quiet --editable" in README.block(name).code
