"""NIR files of other programs and damaged ones are read, or refused in one line."""

import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from refsnn.export import hdf5
from refsnn.export.nir import node_outputs, read_nir, run_nir

pytestmark = pytest.mark.processes

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[3] / "shared" / "data"))
CASES = SHARED.parent / "cases" / "files"
DAMAGED = r"a\.nir: no NIR graph, or damaged \([^\n]+\)$"
UNIT = {"tau": 2e-4, "r": 2.0, "v_leak": 0.0, "v_threshold": 1.0, "v_reset": 0.0}


@pytest.fixture
def written(tmp_path):
    """Writes input -> affine -> lif -> output as others do, after `change` has had the file."""

    def write(change=lambda nodes: None, shape=(4,), out=(3,), **values):
        rng = np.random.default_rng(0)
        neuron = {name: np.full(3, x, np.float32) for name, x in (UNIT | values).items()}
        nodes = {
            "input": nir.Input(np.array(shape)),
            "lif": nir.LIF(**neuron),
            "affine": nir.Affine(rng.normal(size=(3, 4)), rng.normal(size=3)),
            "output": nir.Output(np.array(out)),
        }
        edges = [("input", "affine"), ("affine", "lif"), ("lif", "output")]
        metadata = {"dt": 1e-4, "readout": "mean"}
        nir.write(tmp_path / "a.nir", nir.NIRGraph(nodes, edges, metadata, type_check=False))
        with h5py.File(tmp_path / "a.nir", "a") as file:
            change(file["node/nodes"])
        return tmp_path / "a.nir"

    return write


def replaced(path, value):
    """A change of a file: another data set at this place among the nodes, or None."""

    def change(nodes):
        del nodes[path]
        if value is not None:
            nodes[path] = value

    return change


def rough():
    return np.random.default_rng(3).normal(size=(6, 2, 4))


def test_shapes_with_a_batch_axis_are_read(written):
    want = node_outputs(read_nir(written()), rough())
    got = node_outputs(read_nir(written(shape=(5, 4), out=(5, 3))), rough())
    assert want["lif"].any()
    assert all(np.array_equal(got[name], want[name]) for name in want)


def test_a_type_that_the_package_does_not_know_is_refused_by_name(written):
    path = written(replaced("lif/type", "Resonator"))
    with pytest.raises(ValueError, match=r"a\.nir: node lif: got type Resonator, want one of"):
        read_nir(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (replaced("lif/tau", np.full(3, np.nan)), r"lif \(LIF\): tau: got nan at \(0,\), want"),
        (replaced("lif/tau", np.zeros(3)), r"lif \(LIF\): tau: got 0\.0 at \(0,\), want"),
        (replaced("lif/r", np.ones(4)), r"lif \(LIF\): tau: got shape \(3,\), want \(4,\) like r"),
        (replaced("lif/r", None), r"lif \(LIF\): r: missing"),
        (replaced("lif/r", "two"), r"lif \(LIF\): r: got dtype <U3, want numbers"),
        (lambda nodes: nodes["lif"].create_group("tau_syn/x"), None),
        (lambda nodes: nodes["lif"].update(tau_syn=1.0), r"lif \(LIF\): tau_syn: surplus, want "),
        (replaced("affine/weight", np.ones(4)), r"affine \(Affine\): weight: got shape \(4,\)"),
        (replaced("input/shape", 2**62 * np.ones(1)), r"input \(Input\): shape: got 4\.6"),
    ],
)
def test_a_field_that_is_wrong_is_named(change, message, written):
    path = written(change)
    if message is None:  # an empty group is nothing
        assert read_nir(path)
        return
    with pytest.raises(ValueError, match=rf"a\.nir: node {message}"):
        read_nir(path)


def test_names_and_types_of_any_text_give_one_line(written):
    for name, kind in (("two\nlines", "LIF"), ("lif", "two\nlines"), ("lif", "long " * 10**5)):

        def change(nodes, name=name, kind=kind):
            nodes.move("lif", name)
            replaced(f"{name}/type", kind)(nodes)
            replaced(f"{name}/tau", np.nan)(nodes)

        path = written(change)
        with pytest.raises(ValueError, match=r"a\.nir: [^\n]{10,300}$"):
            read_nir(path)


@pytest.mark.parametrize("name", ["v_reset", "bias"])
def test_optional_fields_that_are_missing_are_zero(name, written):
    node = "lif" if name == "v_reset" else "affine"
    field = f"{node}/{name}"
    want = node_outputs(read_nir(written(replaced(field, np.zeros(3)))), rough())
    got = node_outputs(read_nir(written(replaced(field, None))), rough())
    assert np.array_equal(got["lif"], want["lif"])
    assert want["lif"].any()


def test_files_that_are_not_graphs_are_refused(written):
    path = written()
    content = path.read_bytes()
    for length in [*range(0, len(content), 3001), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match=DAMAGED):
            read_nir(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read_nir(path)
    path.mkdir()
    with pytest.raises((ValueError, OSError), match=r"a\.nir"):
        read_nir(path)


def nothing_but(**sets):
    def change(nodes):
        file = nodes.file
        for name in list(file):
            del file[name]
        for name, value in sets.items():
            file[name.replace("__", "/")] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        nothing_but(x=1),
        nothing_but(node=1),
        nothing_but(node__type="LIF", node__r=np.ones(3)),
        nothing_but(node__type="LIF", node__nodes__a__type="Input", node__edges=np.ones((1, 2))),
        nothing_but(node__nodes__a__type=1, node__edges=h5py.Empty("f")),
        replaced("lif/type", None),
        replaced("lif/type", np.ones(2)),
        replaced("lif", np.ones(2)),
        lambda nodes: replaced("edges", np.ones((2, 2)))(nodes.parent),
        lambda nodes: replaced("edges", ["ab", "cd"])(nodes.parent),
        lambda nodes: replaced("tau", h5py.SoftLink("/gone"))(nodes["lif"]),
    ],
)
def test_groups_that_are_not_a_graph_are_refused(change, written):
    path = written(change)
    with pytest.raises(ValueError, match=rf"{DAMAGED}|node lif \(LIF\): tau: missing"):
        read_nir(path)


def test_numbers_in_another_file_are_not_read(written, tmp_path):
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = np.full(3, 2e-4)

    def link(nodes):
        del nodes["lif/tau"]
        nodes["lif/tau"] = h5py.ExternalLink(str(secret), "x")

    def outside(nodes):
        del nodes["lif/tau"]
        nodes["lif"].create_dataset("tau", 3, "f8", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    def virtual(nodes):
        layout = h5py.VirtualLayout(3, "f8")
        layout[:] = h5py.VirtualSource(str(secret), "x", 3)
        del nodes["lif/tau"]
        nodes["lif"].create_virtual_dataset("tau", layout)

    for change in (link, outside, virtual):
        with pytest.raises(ValueError, match=r"tau: (missing|lies in another file)"):
            read_nir(written(change))


def test_declared_arrays_that_are_not_there_take_no_memory(written):
    def declare(nodes):
        del nodes["affine/weight"]
        nodes["affine"].create_dataset("weight", (2**20, 2**20), "f8", chunks=(64, 64))

    path = written(declare)
    with pytest.raises(ValueError, match=r"declares 8\d+ bytes of arrays, want at most \d+"):
        read_nir(path)


def test_a_file_that_hdf5_does_not_finish_reading_is_refused(written, monkeypatch):
    path = written()
    content = bytearray(path.read_bytes())
    content[content.index(b"GCOL") + 9] ^= 4  # the length of the collection of texts
    path.write_bytes(content)
    monkeypatch.setattr(hdf5, "SECONDS", 10)
    with pytest.raises(ValueError, match=DAMAGED):
        read_nir(path)


def test_an_array_under_two_names_is_read_under_both(written):
    def link(nodes):
        del nodes["lif/v_reset"]
        nodes["lif/v_leak"][...] = 0.25
        nodes["lif/v_reset"] = nodes["lif/v_leak"]  # a second hard link

    lif = read_nir(written(link)).nodes["lif"]
    assert (lif.v_reset == lif.v_leak).all()
    assert (lif.v_reset == 0.25).all()


def test_a_group_within_itself_is_refused(written):
    def loop(nodes):
        nodes["lif/again"] = nodes

    with pytest.raises(ValueError, match="nested more than 8 deep"):
        read_nir(written(loop))


def test_modules_in_the_current_folder_are_not_run(written, tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("raise SystemExit('mine')")
    monkeypatch.chdir(tmp_path)
    assert "lif" in read_nir(written()).nodes


def damaged(content, seed):
    """Bytes changed, a bit flipped, the end cut off, or a piece overwritten."""
    rng, changed = random.Random(seed), bytearray(content)
    at = rng.choice([i for i, byte in enumerate(content) if byte])
    if seed % 4 == 0:
        changed[at] = rng.randrange(256)
        changed[rng.randrange(len(content))] = rng.randrange(256)
    elif seed % 4 == 1:
        changed[at] ^= 1 << rng.randrange(8)
    elif seed % 4 == 2:
        del changed[rng.randrange(len(content)) :]
    else:
        piece = bytes(rng.randrange(256) for _ in range(rng.choice([8, 64])))
        changed[at : at + len(piece)] = piece
    return bytes(changed)


def test_damaged_files_are_read_or_refused_in_a_line(written, tmp_path, monkeypatch):
    """A damaged file gives a graph that can be run, or an error that says why not."""
    content = written().read_bytes()
    monkeypatch.setattr(hdf5, "SECONDS", 20)

    def attempt(seed):
        path = tmp_path / f"{seed}.nir"
        path.write_bytes(damaged(content, seed))
        try:
            graph = read_nir(path)
        except (ValueError, OSError) as error:
            in_a_line = str(path) in str(error) and len(str(error).splitlines()) == 1
            return "refused" if in_a_line else str(error)
        try:
            run_nir(graph, rough(), dt=1e-4, readout="mean")
        except ValueError:
            return "refused when run"
        return "run"

    with ThreadPoolExecutor(2) as pool:
        came = list(pool.map(attempt, range(40)))
    assert set(came) <= {"refused", "refused when run", "run"}
    assert came.count("refused") > 10
    assert came.count("run") > 3


@pytest.mark.skipif(not CASES.is_dir(), reason="no shared cases")
@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("lif_tau_0.0", r"node n \(LIF\): tau: got 0\.0 at \(0,\), want finite numbers above 0"),
        ("lif_tau_nan", r"node n \(LIF\): tau: got nan at \(0,\), want finite numbers"),
        (
            "norse_LIFBox_unbatched",
            r"node 1 \(LIF\): tau: got 2\.5\S+ at \(0,\), want at least dt, ",
        ),
        ("norse_LIFBox_batched", r"node 1 \(LIF\): tau: got 2\.5\S+ at \(0,\), want at least dt, "),
    ],
)
def test_files_that_went_wrong(file, message):
    with pytest.raises(ValueError, match=message):
        node_outputs(read_nir(CASES / f"{file}.nir"), np.ones((3, 2, 12)), dt=1e-4)
