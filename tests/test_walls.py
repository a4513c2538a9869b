"""The layers of the package: who may import whom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import refsnn

PACKAGE = Path(refsnn.__file__).parent
LIBRARIES = {
    "equations": {"numpy", "scipy"},
    "kernels": {"numpy", "numba", "llvmlite"},
    "pytorch": {"numpy", "torch"},
}
#: a folder or module of the package -> what else of the package it may import
BELOW = {
    "equations": set(),
    "kernels": {"equations"},
    "ops": {"equations", "kernels"},
    "network": {"ops"},
    "system": set(),
    "files": {"ops", "system"},
    "data": {"ops", "files", "system", "references"},
    "training": {
        *("ops", "network", "data", "files", "output", "process", "spec", "system", "references"),
    },
    "bench": {
        "ops",
        "kernels",
        "network",
        "training",
        "data",
        "process",
        "output",
        "pytorch",
        "system",
    },
    "experiments": {"ops", "network", "data", "training", "process", "output", "files", "system"},
    "oracle": {
        *("ops", "network", "training", "process", "output", "files", "pytorch", "spec", "system"),
        "references",
    },
    "export": {"ops", "network", "data", "training", "oracle", "files", "system"},
    "spec": set(),
    "references": set(),
    "version": set(),
    "gradcheck": set(),
    "testing": {"oracle"},
    "pytorch": set(),
    "process": {"files", "system", "kernels"},
    "output": {"files"},
    "cli": {
        "training",
        "data",
        "experiments",
        "oracle",
        "export",
        "bench",
        "spec",
        "process",
        "output",
    },
    "model": {"training", "data", "export", "network", "ops"},
    "__main__": {"cli", "process"},
    "__init__": {
        "equations",
        "gradcheck",
        "network",
        "ops",
        "model",
        "data",
        "oracle",
        "training",
    },  # when a name is used
}
STANDARD = set(sys.stdlib_module_names)


def imports(path: Path) -> set[str]:
    """Dotted names that the file imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_down(path):
    place = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for name in imports(path):
        first, *rest = name.split(".")
        if first == "refsnn":
            allowed = BELOW[place] | {place, "version"}
            assert rest[0] in allowed, f"{place} imports {name}"
        elif place in LIBRARIES:
            assert first in LIBRARIES[place] | STANDARD, f"{place} imports {name}"


SECOND_OPINIONS = PACKAGE.parent / "verification"
SHARED = {
    "forward_mode": "verification.dual",
    "pytorch": "refsnn.pytorch",
    "torch_methods": "refsnn.pytorch",
}


@pytest.mark.parametrize(
    "path",
    [
        *sorted((PACKAGE / "oracle" / "naive").glob("*.py")),
        *(
            SECOND_OPINIONS / f"{name}.py"
            for name in ("dual", "forward_mode", "pytorch", "torch_methods")
        ),
        PACKAGE / "pytorch.py",
    ],
    ids=lambda p: f"{p.parent.name}/{p.stem}",
)
def test_second_opinions_share_no_code_with_the_package(path):
    allowed = {"numpy", "torch"} | STANDARD
    for name in imports(path):
        inside = name.startswith(SHARED.get(path.stem, "refsnn.oracle.naive"))
        assert inside or name.split(".")[0] in allowed, f"{path.stem} imports {name}"


def test_importing_the_command_line_loads_neither_numba_nor_matplotlib():
    code = "import sys, refsnn.cli, refsnn.training.run; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert "refsnn.cli" in loaded.split()
    assert not {"numba", "matplotlib", "scipy"} & set(loaded.split())
