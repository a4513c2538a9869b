"""Each command imports its own module, and no other's."""

import subprocess
import sys

import pytest

from refsnn.cli import COMMANDS

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
    assert ours == {"refsnn", "refsnn.cli"}
    assert "numpy" not in modules


@pytest.mark.parametrize("command", ["train", "evaluate", *COMMANDS, "spec", "vectors generate"])
def test_help_works_where_no_other_command_can_be_imported(command):
    others = {module for name, module in OWN.items() if name != command.split()[0]}
    code, text, modules = helped(command, *others)
    assert code == 0, modules
    assert text.startswith(f"usage: refsnn {command}")
    assert len(text.splitlines()) > 5
    assert not {"numba", "matplotlib", "torch"} & modules


def test_a_command_that_cannot_be_imported_is_noticed():
    assert helped("bench", OWN["bench"])[0] == 1
