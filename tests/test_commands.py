"""Each command imports its own module, and no other's."""

import re
import subprocess
import sys

import pytest

from refsnn.cli import COMMANDS, main

#: command -> the module that is its alone; the ledger names the settings of others too
OWN = {name: module for name, (module, *_) in COMMANDS.items()}

HELP = """
import sys
from refsnn.cli import main
for name in sys.argv[2:]:
    sys.modules[name] = None  # importing it is an ImportError
try:
    main([*sys.argv[1].split(), "--help"])
except SystemExit as end:
    print(*sys.modules, sep="\\n", file=sys.stderr)
    sys.exit(end.code)
"""


def helped(command, *missing):
    """Exit code and output of its --help, and the modules that are imported then."""
    done = subprocess.run(
        [sys.executable, "-c", HELP, command, *missing],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return done.returncode, done.stdout, set(done.stderr.splitlines())


def test_the_list_of_commands_imports_none_of_them():
    code, text, modules = helped("")
    assert code == 0
    for name in ("train", "evaluate", "spec", *OWN):
        assert f"\n    {name}" in text
    ours = {name for name in modules if name.split(".")[0] == "refsnn"}
    assert ours == {"refsnn", "refsnn.cli", "refsnn.version"}
    assert "numpy" not in modules


@pytest.mark.parametrize("command", ["train", "evaluate", *COMMANDS, "spec", "vectors generate"])
@pytest.mark.slow_after(4)
def test_help_works_where_no_other_command_can_be_imported(command):
    others = {module for name, module in OWN.items() if name != command.split()[0]}
    code, text, modules = helped(command, *others)
    assert code == 0, modules
    assert text.startswith(f"usage: refsnn {command}")
    assert len(text.splitlines()) > 5
    assert not {"numba", "matplotlib", "torch"} & modules


def test_a_command_that_cannot_be_imported_is_noticed():
    assert helped("bench", OWN["bench"])[0] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --mehtod=vanilla", "refsnn train: .*; did you mean --method? (see refsnn train "),
        ("evaluate RUN --jsn", "refsnn evaluate: .*; did you mean --json? (see refsnn evaluate "),
        (
            "data check digits --jbos 2",
            "refsnn data check: .*did you mean --jobs? (see refsnn data ",
        ),
        ("tran", "refsnn: .*; did you mean train? (see refsnn --help)"),
        ("data chek", "refsnn data: .*; did you mean check? (see refsnn data --help)"),
        ("train --method evolution", "refsnn train: .*; did you mean evolutionary?"),
        ("train --nothing-like-it", "refsnn train: error: unrecognized .*--nothing-like-it (see"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest_and_the_right_help(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(words.split())
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(re.escape(message).replace(r"\.\*", ".*"), line)
