"""The names that `import refsnn` offers."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import refsnn


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_importing_the_package_imports_its_version_alone_and_not_numpy():
    loaded = run("import sys, refsnn; print(*[m for m in sys.modules])")
    assert {m for m in loaded if m.startswith("refsnn")} == {"refsnn", "refsnn.version"}
    assert not {"numpy", "numba", "matplotlib", "torch"} & set(loaded)


def test_the_mathematics_needs_neither_numba_nor_matplotlib():
    names = ["LIF", "lif_forward", "Network", "forward", "NUMPY", "assert_gradients"]
    loaded = run(
        "import sys, refsnn\n"
        f"for name in {names}: getattr(refsnn, name)\n"
        "print(*[m for m in sys.modules])"
    )
    assert "numpy" in loaded
    assert not {"numba", "matplotlib", "torch"} & set(loaded)


@pytest.mark.parametrize("name", refsnn.PUBLIC)
def test_a_name_is_the_one_of_its_module(name):
    module = import_module(refsnn.PUBLIC[name])
    assert getattr(refsnn, name) is (module if name == "gradcheck" else getattr(module, name))
    assert name in dir(refsnn)


def test_gradcheck_is_the_module_and_the_function_whichever_comes_first():
    call = "print(bool(refsnn.gradcheck(lambda x: (x, 0), lambda dy, _: (dy,), dict(x=x))))"
    x = "import numpy as np, refsnn; x = np.ones(3)"
    for first in ("", "from refsnn.gradcheck import gradcheck", "import refsnn.gradcheck"):
        assert run(f"{x}\n{first}\n{call}\nrefsnn.gradcheck.Report") == ["True"]


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(refsnn.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name for node in block.body for alias in node.names}
    assert seen == set(refsnn.PUBLIC) == set(refsnn.__all__) - {"__version__"}


def test_another_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'refsnn' has no attribute 'lif_foward'"):
        refsnn.lif_foward  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    project = Path(refsnn.__file__).parents[1] / "pyproject.toml"
    assert f'version = "{refsnn.__version__}"' in project.read_text(encoding="utf-8")
