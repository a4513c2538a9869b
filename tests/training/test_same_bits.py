"""A run's result does not depend on the machine: its parameters have recorded bits.

Kernels add and multiply in one order, with fused operations only where they are written. Two
functions of NumPy are left: `exp` in the softmax, and `einsum` in the last layer. Where they give
the recorded bits (x86-64 with AVX2 and FMA, that is since 2013), so does a run, whatever the number
of threads, the kind of BLAS and the versions of Python and of packages; elsewhere this is skipped.
"""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refsnn.ops import SURROGATES
from refsnn.training.recipes import recipes

pytestmark = pytest.mark.processes

RECORDED = json.loads(Path(__file__).with_name("same_bits.json").read_text(encoding="utf-8"))
RUN = """
import hashlib, sys
from pathlib import Path
from refsnn.training.config import TrainConfig
from refsnn.training.run import start
run = start(Path(sys.argv[1]), TrainConfig(epochs=int(sys.argv[2])))
run.train(quiet=True)
digest = hashlib.sha256()
for name, array in sorted(run.state.params.items()):
    digest.update(name.encode() + array.tobytes())
print(digest.hexdigest())
"""


def premise():
    """A digest of what NumPy's exp and einsum give for some numbers of float32."""
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(32, 64)).astype("f4"), rng.normal(size=(64, 10)).astype("f4")
    dy = np.exp(np.linspace(-20, 0, 320, dtype="f4")).reshape(32, 10)
    made = [
        dy,
        np.einsum("ni,io->no", x, w),
        np.einsum("no,io->ni", dy, w),
        np.einsum("ni,no->io", x, dy),
    ]
    return hashlib.sha256(b"".join(a.tobytes() for a in made)).hexdigest()


def trained(folder, epochs, **environment):
    """The digest of the parameters that a run with the default settings ends with."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder), str(epochs)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def same_numpy():
    if premise() != RECORDED["premise"]:
        pytest.skip("NumPy's exp or einsum gives other bits on this processor")


@pytest.mark.parametrize(("epochs", "threads"), [(1, "1"), (3, "2")])
@pytest.mark.usefixtures("same_numpy")
def test_the_default_run_has_the_recorded_bits(epochs, threads, tmp_path):
    if int(threads) > (os.cpu_count() or 1):
        pytest.skip("needs two cores")
    sizes = dict.fromkeys(("NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS"), threads)
    assert trained(tmp_path / "run", epochs, **sizes) == RECORDED[f"epochs={epochs}"]


@pytest.mark.usefixtures("same_numpy")
def test_the_kind_of_blas_changes_no_bit(tmp_path):
    assert trained(tmp_path / "run", 1, OPENBLAS_CORETYPE="Prescott") == RECORDED["epochs=1"]


WIDE = """
import sys
from refsnn.kernels import target
features = target.target_features()
target.target_features = lambda: features + sys.argv[3]
import hashlib
from pathlib import Path
from refsnn.kernels import simd
from refsnn.training.config import make_config
from refsnn.training.run import start
settings = {"arch": "1-1:5-24", "batch_size": 31, "steps": 3, "norm_statistics": "per_step"}
run = start(Path(sys.argv[1]), make_config(epochs=int(sys.argv[2]), **settings))
run.train(quiet=True)
digest = hashlib.sha256()
for name, array in sorted(run.state.params.items()):
    digest.update(name.encode() + array.tobytes())
print(simd.LANES, digest.hexdigest())
"""


@pytest.mark.slow
def test_vectors_of_another_width_give_the_same_bits(tmp_path):
    """Those of AVX-512, which other processors compute in halves."""
    found = {}
    for extra in ("", ",+avx512f"):
        folder = tmp_path / f"cache{extra}"
        done = subprocess.run(
            [sys.executable, "-c", WIDE, str(tmp_path / f"run{extra}"), "1", extra],
            # one thread: another process would compile for the narrow vectors
            env=os.environ | {"NUMBA_CACHE_DIR": str(folder), "NUMBA_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        )
        lanes, found[extra] = done.stdout.split()
        assert lanes == ("16" if extra else lanes)
    assert found[""] == found[",+avx512f"]


STEPS = """
import hashlib
import numpy as np
from refsnn.ops import SURROGATES, get_ops
from refsnn.training.algorithm import train_step
from refsnn.training.config import make_config
from refsnn.training.recipes import recipes
from refsnn.training.trainer import initial_state
rng = np.random.default_rng(0)
images, labels = rng.normal(size=(16, 9, 7, 3)).astype("f4"), rng.integers(10, size=16)
answers = rng.normal(size=(16, 10)).astype("f4")
cases = [{"recipe": name} for name in recipes()] + [{"surrogate": name} for name in SURROGATES]
for settings in cases:
    if settings.get("recipe") == "kdsnn":
        settings["teacher"] = "run"
    config = make_config(arch="1-1:8-16", steps=3, **settings)
    net = config.build_network(3, 10)
    state = initial_state(config, net)
    given = answers if "teacher" in settings else None
    for _ in range(3):
        train_step(state, net, config, get_ops("numba"), (images, labels), 3, True, given)
    digest = hashlib.sha256(b"".join(x.tobytes() for x in state.params.values()))
    print(*settings.values(), digest.hexdigest())
"""


def test_numpy_without_avx_512_gives_the_same_bits_to_recipes_and_surrogates():
    """With it NumPy computes powers otherwise; only a wide rectifier's slope has one."""
    umath = np._core._multiarray_umath
    wide = [f for f in umath.__cpu_dispatch__ if f.startswith(("AVX512", "X86_V4"))]
    wide = [f for f in wide if umath.__cpu_features__[f]]
    if not wide:
        pytest.skip("this processor has no AVX-512")
    found = [
        subprocess.run(
            [sys.executable, "-c", STEPS],
            env=os.environ | {"NPY_DISABLE_CPU_FEATURES": without},
            stdout=subprocess.PIPE,
            encoding="utf-8",
            check=True,
        ).stdout.splitlines()
        for without in ("", " ".join(wide))
    ]
    assert len(found[0]) == len(recipes()) + len(SURROGATES)
    assert found[0] == found[1]
