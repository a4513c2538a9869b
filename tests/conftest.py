import pytest

from refsnn.cli import main


@pytest.fixture
def refused(capsys):
    """Runs a command that can't be done: the one line of its error, with exit code 2."""

    def line(arguments):
        capsys.readouterr()
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as stop:  # from argparse
            code = stop.code
        shown = capsys.readouterr()
        lines = shown.err.splitlines()
        assert code == 2
        assert len(lines) == 1, lines
        assert not shown.out
        return lines[0]

    return line
