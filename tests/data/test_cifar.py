"""CIFAR's two published formats: read to the byte, refused when damaged, harmless when hostile."""

import hashlib
import itertools
import os
import pickle
import re
import shutil
import struct
import tracemalloc
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from refsnn.data import cifar
from refsnn.data.cifar import load_cifar10, load_cifar100
from refsnn.data.dataset import CHANNEL_STATISTICS
from refsnn.data.pickles import play

SHARED = Path(os.environ.get("REFSNN_SHARED", Path(__file__).parents[2].parent / "shared" / "data"))
CASES = SHARED.parent / "cases" / "files"
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no cases beside the checkout")
TRAIN10 = [f"data_batch_{k}" for k in range(1, 6)]
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("REFSNN_CACHE", str(tmp_path / "cache"))
    yield
    shutil.rmtree(tmp_path / "cache", ignore_errors=True)  # some are large


def made(n, classes):
    """Random images (N, 32, 32, 3) and labels; the last class is among them."""
    labels = RNG.integers(0, classes, n)
    labels[0] = classes - 1
    return RNG.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8), labels


def record(image, *labels):
    """The binary version's: labels, then the red, green and blue plane row by row."""
    planes = [image[row, column, c] for c in range(3) for row in range(32) for column in range(32)]
    return bytes([*labels, *planes])


def python2_pickle(pixels, labels, title="training batch 1 of 5", names=()):
    """What Python 2 and NumPy of 2009 wrote of {batch_label, **labels, data, filenames}."""
    out, stored = [], 0

    def put(content):
        nonlocal stored
        stored += 1
        number = b"q%c" % stored if stored < 256 else b"r" + struct.pack("<I", stored)
        out.append(content + number)

    def text(value):
        put(b"U%c" % len(value) + value.encode("ascii"))

    def integer(value):
        out.append(b"K%c" % value if value < 256 else b"M" + struct.pack("<H", value))

    def listed(items, write):
        put(b"]")
        for k, item in enumerate(items):
            out.append(b"(" if k % 1000 == 0 else b"")
            write(item)
            out.append(b"e" if k % 1000 == 999 or k == len(items) - 1 else b"")

    put(b"\x80\x02}")
    out.append(b"(")
    text("batch_label")
    text(title)
    for key, values in labels.items():
        text(key)
        listed(values, integer)
    text("data")
    put(b"cnumpy.core.multiarray\n_reconstruct\n")
    put(b"cnumpy\nndarray\n")
    put(b"K\0\x85U\x01b\x87R")
    out.append(b"(K\x01")
    for length in pixels.shape:
        integer(length)
    out.append(b"\x86")
    put(b"cnumpy\ndtype\n")
    put(b"U\x02u1K\0K\x01\x87R")
    out.append(b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb\x89")
    out.append(b"T" + struct.pack("<I", pixels.nbytes) + pixels.tobytes() + b"tb")
    text("filenames")
    listed(names or [f"image_s_{k:06}.png" for k in range(len(pixels))], text)
    out.append(b"u.")
    return b"".join(out)


def pixels_of(images):
    return images.transpose(0, 3, 1, 2).reshape(-1, 3072)


def write10(folder, batches, suffix):
    """The training batches, the last of `batches` for the test; (images, labels) each."""
    folder.mkdir(parents=True)
    for name, (images, labels) in zip([*TRAIN10, "test_batch"], batches, strict=True):
        if suffix == ".bin":
            content = b"".join(map(record, images, labels))
        else:
            content = python2_pickle(pixels_of(images), {"labels": labels.tolist()})
        (folder / f"{name}{suffix}").write_bytes(content)


def write100(folder, batches, suffix):
    """Training and test batch, (images, fine labels); the coarse ones are fine // 5."""
    folder.mkdir(parents=True)
    for name, (images, fine) in zip(["train", "test"], batches, strict=True):
        if suffix == ".bin":
            content = b"".join(map(record, images, fine // 5, fine))
        else:
            labels = {"fine_labels": fine.tolist(), "coarse_labels": (fine // 5).tolist()}
            content = python2_pickle(pixels_of(images), labels)
        (folder / f"{name}{suffix}").write_bytes(content)


VERSIONS = {
    "cifar-10-batches-bin": (load_cifar10, write10, 6, 10, ".bin"),
    "cifar-10-batches-py": (load_cifar10, write10, 6, 10, ""),
    "cifar-100-binary": (load_cifar100, write100, 2, 100, ".bin"),
    "cifar-100-python": (load_cifar100, write100, 2, 100, ""),
}


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("folder", VERSIONS)
def test_images_and_labels_are_read_from_the_folder_or_from_above(tmp_path, folder, inside):
    load, write, files, classes, suffix = VERSIONS[folder]
    batches = [made(n, classes) for n in (7, 4, 6, 3, 5, 8)[:files]]
    write(tmp_path / folder, batches, suffix)
    for _ in range(2):  # the second comes from the cache
        data = load(tmp_path if inside else tmp_path / folder, partial=True)
        for part, wanted in (("train", batches[:-1]), ("test", batches[-1:])):
            images, labels = (np.concatenate(arrays) for arrays in zip(*wanted, strict=True))
            got = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            assert [array.dtype for array in got] == [np.uint8, np.int64]
            assert all(isinstance(array, np.memmap) for array in got)
            assert np.array_equal(got[0], images)
            assert np.array_equal(got[1], labels)


def sparse(path, size, start=b""):
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(size)


def test_whole_sets_have_their_number_of_images(tmp_path):
    for k, name in enumerate([*TRAIN10, "test_batch"]):
        sparse(tmp_path / f"{name}.bin", 30_730_000, bytes([k]))
    data = load_cifar10(tmp_path)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert data.train_labels[::10_000].tolist() == [0, 1, 2, 3, 4]
    assert (data.train_labels.sum(), data.test_labels.sum()) == (10, 5)
    assert data.train_images.flags.c_contiguous  # an image of a batch is one piece of the file


def test_whole_sets_of_100_classes_have_their_number_of_images(tmp_path):
    sparse(tmp_path / "train.bin", 153_700_000, bytes([19, 99]))
    sparse(tmp_path / "test.bin", 30_740_000, bytes([0, 1]))
    data = load_cifar100(tmp_path)
    assert data.train_images.shape == (50_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert (data.train_labels.sum(), data.test_labels.sum()) == (99, 1)


@pytest.mark.parametrize("folder", VERSIONS)
def test_another_number_of_images_is_refused_unless_partial(tmp_path, folder):
    load, write, files, classes, suffix = VERSIONS[folder]
    write(tmp_path / folder, [made(4, classes)] * files, suffix)
    first = "train" if classes == 100 else "data_batch_1"
    count = 50_000 if classes == 100 else 10_000
    load(tmp_path, partial=True)  # and the cache of that is not taken for whole
    with pytest.raises(
        ValueError, match=rf"^dataset: .*/{first}{suffix}: got 4 images, want {count}$"
    ):
        load(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ""])
def test_missing_files_are_named_unless_partial(tmp_path, suffix):
    batches = [made(3, 10) for _ in range(6)]
    write10(tmp_path / "set", batches, suffix)
    for k in (2, 4):
        (tmp_path / "set" / f"{TRAIN10[k]}{suffix}").unlink()
    with pytest.raises(
        ValueError,
        match=rf"^dataset: \S*/data_batch_3{suffix}, \S*_5{suffix} are missing, want all",
    ):
        load_cifar10(tmp_path / "set")
    data = load_cifar10(tmp_path / "set", partial=True)
    assert np.array_equal(data.train_images, np.concatenate([batches[k][0] for k in (0, 1, 3)]))
    assert np.array_equal(data.train_labels, np.concatenate([batches[k][1] for k in (0, 1, 3)]))


def test_partial_needs_the_test_file_and_one_of_training(tmp_path):
    write10(tmp_path / "a", [made(3, 10)] * 6, ".bin")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "test_batch.bin").unlink()
    for name in TRAIN10:
        (tmp_path / "b" / f"{name}.bin").unlink()
    with pytest.raises(ValueError, match=r"^dataset: \S*/test_batch\.bin is missing, want all"):
        load_cifar10(tmp_path / "a", partial=True)
    with pytest.raises(ValueError, match=r"data_batch_5\.bin are missing, want all"):
        load_cifar10(tmp_path / "b", partial=True)


@pytest.mark.parametrize("name", ["", "none"])
def test_a_folder_without_any_of_the_files_is_refused(tmp_path, name):
    (tmp_path / "train").mkdir()  # as other data sets have
    with pytest.raises(
        ValueError, match=r"holds no cifar100, want cifar-100-binary or cifar-100-python in it"
    ):
        load_cifar100(tmp_path / name)


@pytest.mark.parametrize("name", ["train", "test"])
@pytest.mark.parametrize("size", [1, 3073, 2 * 3074 - 1, 2 * 3074 + 1])
def test_a_cut_record_is_refused(tmp_path, name, size):
    write100(tmp_path / "set", [made(3, 100)] * 2, ".bin")
    sparse(tmp_path / "set" / f"{name}.bin", size)
    with pytest.raises(
        ValueError, match=rf"^dataset: .*/{name}\.bin: got {size} bytes, want records of 3074$"
    ):
        load_cifar100(tmp_path / "set", partial=True)


@pytest.mark.parametrize("suffix", [".bin", ""])
def test_a_file_without_images_is_refused(tmp_path, suffix):
    write100(
        tmp_path / "set",
        [made(3, 100), (np.empty((0, 32, 32, 3), np.uint8), np.empty(0, int))],
        suffix,
    )
    with pytest.raises(ValueError, match=rf"/test{suffix}: got 0 images, want some"):
        load_cifar100(tmp_path / "set", partial=True)


@pytest.mark.parametrize("suffix", [".bin", ""])
@pytest.mark.parametrize(
    ("key", "at", "value", "last"), [("coarse_labels", 0, 20, 19), ("fine_labels", 1, 100, 99)]
)
def test_labels_beyond_the_classes_are_refused(tmp_path, suffix, key, at, value, last):
    images, _ = made(3, 100)
    labels = [[0, 0], [0, 0], [0, 0]]
    labels[1][at] = value
    write100(tmp_path / "set", [made(3, 100)] * 2, suffix)
    coarse, fine = zip(*labels, strict=True)
    content = b"".join(record(i, *pair) for i, pair in zip(images, labels, strict=True))
    if suffix == "":
        content = python2_pickle(pixels_of(images), {"coarse_labels": coarse, "fine_labels": fine})
    (tmp_path / "set" / f"train{suffix}").write_bytes(content)
    with pytest.raises(
        ValueError,
        match=rf"^dataset: .*/train{suffix}: {key}: got {value} at index 1, want 0 to {last}$",
    ):
        load_cifar100(tmp_path / "set", partial=True)


def test_labels_beyond_10_classes_are_refused(tmp_path):
    write10(tmp_path / "set", [*[made(3, 10)] * 5, made(3, 11)], ".bin")
    with pytest.raises(
        ValueError, match=r"test_batch\.bin: labels: got 10 at index 0, want 0 to 9$"
    ):
        load_cifar10(tmp_path / "set", partial=True)


@pytest.fixture
def read(tmp_path):
    """A pickle read as the only training file of CIFAR-10."""
    folders = (tmp_path / str(k) for k in itertools.count())

    def load(content):
        folder = next(folders)
        write10(folder, [made(2, 10)] * 6, "")
        for name in TRAIN10[1:]:
            (folder / name).unlink()
        (folder / "data_batch_1").write_bytes(content)
        return load_cifar10(folder, partial=True)

    return load


@pytest.fixture
def refused(read):
    """Whether a pickle is refused with this text, without much memory or time."""

    def check(content, text):
        with pytest.raises(ValueError, match=text):
            read(content)  # what this imports is not to be measured
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=text) as caught:
                read(content)
            assert tracemalloc.get_traced_memory()[1] < 1_000_000 + 20 * len(content)
        finally:
            tracemalloc.stop()
        message = str(caught.value)
        assert re.match(r"dataset: \S*/data_batch_1: not of CIFAR's Python version: .", message)
        assert len(message) < 500

    return check


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


PIXELS = RNG.integers(0, 256, (3, 3072), dtype=np.uint8)
GOOD = {"labels": [9, 0, 4], "data": PIXELS}


INTEGERS = ("<i8", ">i4", "u1", ">u2", "i1", "<u8")
LABELS = {
    "list": list,
    "tuple": tuple,
    "scalars": lambda labels: [np.int64(k) for k in labels],
    "mixed": lambda labels: [labels[0], *map(np.uint8, labels[1:])],
} | {dtype: partial(np.array, dtype=dtype) for dtype in INTEGERS}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("key", [str, str.encode])
@pytest.mark.parametrize("order", ["C", "F", "view"])
def test_files_pickled_again_are_read(read, protocol, key, order, labels):
    fields = {
        "batch_label": key("training batch 1 of 5"),
        "labels": LABELS[labels](GOOD["labels"]),
        "data": PIXELS.repeat(2, 0)[::2] if order == "view" else np.asarray(PIXELS, order=order),
        "filenames": [key(f"image_{k}.png" * bool(k)) for k in range(3)],
    }
    data = read(pickle.dumps({key(name): value for name, value in fields.items()}, protocol))
    assert np.array_equal(pixels_of(data.train_images), PIXELS)
    assert data.train_labels.tolist() == [9, 0, 4]


@pytest.mark.parametrize("protocol", range(6))
def test_a_whole_file_in_the_form_that_takes_the_most_opcodes_is_read(tmp_path, protocol):
    n = 10_000
    labels = [np.int64(k % 100) for k in range(n)]
    fields = {
        b"data": np.random.default_rng(0).integers(0, 256, (n, 3072), np.uint8),
        b"filenames": [b"bos_taurus_s_%06d.png" % k for k in range(n)],
        b"fine_labels": labels,
        b"coarse_labels": [k // np.int64(5) for k in labels],
    }
    path = tmp_path / "train"
    path.write_bytes(pickle.dumps(fields, protocol))
    images, fine = cifar.read(cifar.CIFAR100, path, n)
    assert np.array_equal(images[[0, -1]], pixels_images(fields[b"data"][[0, -1]]))
    assert fine.tolist() == labels


def pixels_images(pixels):
    return pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (np.array([9.0, 0, 4]), "labels: got dtype 'f8', want integers"),
        (np.array([True, False, True]), "labels: got dtype 'b1', want integers"),
        (["9", 0, 4], "labels: want a list of integers"),
        ([np.float64(9), 0, 4], "labels: got dtype 'f8', want integers"),
        ([9.0, 0, 4], "BINFLOAT 9.0 is not allowed"),
        ("904", "labels: got str, want integers"),
        ({9: 1}, ": ."),
        (bytearray(b"904"), "labels: got bytearray, want integers"),
        (Calls(np._core.numeric._frombuffer, b"904", np.dtype("u1"), (3,), "A"), "order 'A'"),
        (Calls(np._core.multiarray.scalar, np.dtype("u1"), b"\1\2"), "want an array"),
    ],
)
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_labels_that_are_no_integers_are_refused(refused, labels, text, protocol):
    if isinstance(labels, bytearray) and protocol < 5:
        text = "'__builtin__ bytearray'|'builtins bytearray'"
    refused(pickle.dumps(GOOD | {"labels": labels}, protocol), text)


def test_a_pickle_whose_arrays_are_elsewhere_is_refused(refused):
    buffers = []
    content = pickle.dumps(GOOD, 5, buffer_callback=buffers.append)
    assert buffers
    refused(content, "NEXT_BUFFER")


def test_a_long_key_is_refused(refused):
    refused(pickle.dumps(GOOD | {"k" * 101: 1}, 4), "got a key of 101 characters, want at most 100")


@pytest.mark.parametrize("protocol", [2, 5])
@needs_cases
def test_real_images_pickled_by_other_protocols_are_read(protocol):
    data = load_cifar10(CASES / f"cifar_protocol{protocol}", partial=True)
    assert data.train_images.shape[1:] == (32, 32, 3)
    with open(CASES / f"cifar_protocol{protocol}" / "data_batch_1", "rb") as file:
        fields = pickle.load(file)
    assert np.array_equal(pixels_of(data.train_images), fields["data"])
    assert data.train_labels.tolist() == fields["labels"]


def test_what_came_before_may_be_named_again(read):
    pickled = python2_pickle(PIXELS, {"labels": GOOD["labels"]})
    listed = b"labelsq\4]q\5(K\x09K\0K\4e"
    assert pickled.count(listed) == 1
    for again in (b"h\5", b"j\5\0\0\0"):
        data = read(pickled.replace(listed, b"lebalsq\4]q\5(K\x09K\0K\4eU\6labels" + again))
        assert data.train_labels.tolist() == [9, 0, 4]


def test_the_older_and_the_newer_name_of_numpys_module_are_known(read):
    parts = re.split(rb"(?<=cnumpy\.)_?core", pickle.dumps(GOOD, 3))
    assert len(parts) == 2
    for name in (b"core", b"_core"):
        assert np.array_equal(pixels_of(read(name.join(parts)).train_images), PIXELS)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("function", [os.mkdir, eval, np.load])
def test_other_functions_are_named_and_not_called(refused, tmp_path, protocol, function):
    target = str(tmp_path / "done")
    argument = f"__import__('os').mkdir({target!r})" if function is eval else target
    hostile = {"filenames": Calls(function, argument)} | GOOD
    refused(pickle.dumps(hostile, protocol), rf"\w+ {function.__name__}' is not allowed")
    assert not os.path.exists(target)


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"(ios\nsystem\n.", "INST 'os system'"),
        (b"(cos\nsystem\nX\x02\0\0\0lso.", "'os system'"),
        (b"\x80\x02}\x82\x01.", "EXT1 1"),
        (b"\x80\x02}U\x01aQ.", "BINPERSID"),
        (b"\x80\x02cnumpy\ndtype\n)\x81.", "NEWOBJ"),
        (b"\x80\x04\x96" + struct.pack("<Q", 2**40) + b".", "bytearray8"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"\x80\x02\x8a\x01\x05.", "LONG1 5"),
        (b"cnumpy\nload\n.", "'numpy load'"),
        (b"cnumpy.core.multiarray\nfromfile\n.", "'numpy.core.multiarray fromfile'"),
        (b"cos\nsystem" + b"x" * 10_000 + b"\n.", r"'os systemx{60,}"),
    ],
)
def test_opcodes_and_names_that_arrays_do_not_need_are_named(refused, content, name):
    refused(content, name)


def with_array(array):
    return pickle.dumps(GOOD | {"data": array}, 4)


@pytest.mark.parametrize(
    ("array", "text"),
    [
        (np.array([{}, []], object), "data: got dtype 'O8', want u1"),
        (np.zeros(3, [("a", "O")]), "data: got dtype 'V8', want u1"),
        (np.zeros((3, 3072), np.int8), "data: got dtype 'i1', want u1"),
        (np.zeros((3, 3072), "U1"), "data: got dtype 'U1', want u1"),
        (np.zeros((3, 3071), np.uint8), r"data: got shape \(3, 3071\), want \(N, 3072\)"),
        (np.zeros(3072, np.uint8), r"data: got shape \(3072,\)"),
        (np.zeros((1, 1, 3072), np.uint8), r"data: got shape \(1, 1, 3072\)"),
        ([1, 2], "data: got list, want an array"),
        ("array", "data: got str, want an array"),
    ],
)
def test_other_arrays_are_refused(refused, array, text):
    refused(with_array(array), text)


SMALL = python2_pickle(PIXELS[:1], {"labels": [4]})
SHAPE = b"K\x01M\0\x0c\x86"  # (1, 3072)


@pytest.mark.parametrize(
    "shape",
    [
        b"J\xff\xff\xff\x7fM\0\x0c\x86",
        b"K\x02M\0\x0c\x86",
        b"J\xff\xff\xff\xffK\0\x86",
        b"(" + b"K\x01" * 70 + b"M\0\x0ct",
        b"(" + b"J\xff\xff\xff\x7f" * 60 + b"t",
        b"U\x01aM\0\x0c\x86",
        b"N",
        b"]",
        b")",
        b"(" * 60 + b"t" * 60,
    ],
)
def test_shapes_that_the_pixels_do_not_have_are_refused(refused, shape):
    assert SMALL.count(SHAPE) == 1
    refused(SMALL.replace(SHAPE, shape), ": .")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"T\0\x0c\0\0", b"T\xff\xff\xff\x7f"),
        (b"T\0\x0c\0\0", b"\x8e" + struct.pack("<Q", 2**40)),
        (b"U\x02u1", b"U\x02O8"),
        (b"U\x02u1", b"]"),
        (b"cnumpy\nndarray\n", b"cnumpy\ndtype\n"),
        (b"tbU\x09filenames", b"tbNbU\x09filenames"),
        (b"tbU\x09filenames", b"tU\x09filenames"),
        (b"eU\x04data", b"bU\x04data"),
        (b"U\x06labels", b"K\x01"),
        (b"U\x06labels", b")"),
        (b"K\x04e", b"U\x01ae"),
        (b"K\x04e", b"\x88e"),
        (b"K\x04e", b"]e"),
        (b"K\x04e", b"Ne"),
        (b"\x80\x02}", b"\x80\x02]"),
        (b"u.", b"u0."),
        (b"u.", b"u"),
    ],
)
def test_states_that_make_no_sense_are_refused(refused, before, after):
    assert before in SMALL
    refused(SMALL.replace(before, after, 1), ": .")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x80\x02]r\xff\xff\xff\xff.", "want a dictionary"),  # a table of 2^32 entries
        (b"]" * 1_000_000 + b".", "want at most 17666 opcodes"),
        (b"(" * 100_000 + b"t" * 99_999 + b".", "opcodes"),
        (
            b"}" + b"(" * 450 + b"t" * 450 + b"Ns.",
            "got tuple, want bytes",
        ),  # a key that takes long to hash
        (b"}]q\0(h\0h\0eNs.", "got list, want bytes"),  # or without end to print
        (b"h\0.", ": ."),
        (b"j\xff\xff\xff\xff.", ": ."),
        (b"R.", "REDUCE finds no value"),
        (b"\x87.", "TUPLE3 finds no value"),
        (b"t.", ": ."),
        (b"q\0.", ": ."),
        (b".", ": ."),
        (b"", "exhausted"),
        (b"text", ": ."),
    ],
)
def test_pickles_that_would_fill_the_memory_or_break_the_stack_are_refused(refused, content, text):
    refused(content, text)


def test_one_array_used_often_takes_its_memory_once(refused):
    raw = bytes(3_000_000)
    state = b"(K\1K\1K\1\x86cnumpy\ndtype\nU\x02u1\x85R\x89B" + struct.pack("<I", len(raw)) + raw
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n\x85R"
    refused(array + state + b"tq\0b" + (array + b"h\0b") * 500 + b".", "want a dict")


@pytest.mark.parametrize("key", ["labels", "data"])
def test_a_field_that_is_missing_is_named(refused, key):
    refused(
        pickle.dumps({"other": 1} | {k: v for k, v in GOOD.items() if k != key}, 4), f": {key} is"
    )


def test_an_odd_escape_in_a_string_is_no_warning(recwarn):
    with pytest.raises(ValueError, match="not allowed"):
        play(b"S'\\#'\ncos\nmkdir\n.")
    assert not recwarn.list


def test_a_cut_pickle_is_refused_at_any_length(tmp_path):
    path = tmp_path / "data_batch_1"
    for length in [*range(0, len(SMALL), 53), *range(len(SMALL) - 60, len(SMALL))]:
        path.write_bytes(SMALL[:length])
        with pytest.raises(ValueError, match=r"data_batch_1: not of CIFAR's Python version: ."):
            cifar.read(cifar.CIFAR10, path, None)


@pytest.mark.parametrize("suffix", ["", ".bin"])
def test_what_is_no_regular_file_is_refused(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"data_batch_1{suffix}"
    os.mkfifo(path)
    with pytest.raises(ValueError, match=rf"^{path}: is no regular file$"):
        cifar.read(cifar.CIFAR10, path, None)


@pytest.mark.parametrize("suffix", ["", ".bin"])
def test_a_file_that_wants_more_memory_than_there_is_is_named(tmp_path, suffix, monkeypatch):
    def too_large(*arguments, **options):
        raise MemoryError

    path = tmp_path / f"data_batch_1{suffix}"
    path.write_bytes(SMALL)
    monkeypatch.setattr(np, "frombuffer", too_large)
    with pytest.raises(OSError, match=rf"Cannot allocate memory: '{path}'$"):
        cifar.read(cifar.CIFAR10, path, None)


def test_random_damage_is_an_error_that_names_the_file_or_goes_unseen(tmp_path):
    path = tmp_path / "data_batch_1"
    structure = [k for k in range(len(SMALL)) if not 250 < k < len(SMALL) - 60]
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(400):
        content = bytearray(SMALL)
        for at in rng.choice(structure, rng.integers(1, 4)):
            content[at] = rng.choice(
                np.frombuffer(b"()]}.0RbtuesqhNKU\x85\x86\x87\0\xff", np.uint8)
            )
        path.write_bytes(content)
        try:
            cifar.read(cifar.CIFAR10, path, None)
        except ValueError as error:
            refused += 1
            assert str(error).startswith(f"dataset: {path}: ")  # noqa: PT017
    assert refused > 100


needs10 = pytest.mark.skipif(
    not (SHARED / "cifar-10-batches-py").is_dir(), reason="no real CIFAR-10 beside the checkout"
)
needs100 = pytest.mark.skipif(
    not (SHARED / "cifar-100-binary-part").is_dir(), reason="no real CIFAR-100 beside the checkout"
)


def published(name, md5):
    """What the authors pickled, and nobody else."""
    content = (SHARED / "cifar-10-batches-py" / name).read_bytes()
    assert hashlib.md5(content).hexdigest() == md5
    return content, pickle.loads(content, encoding="latin-1")


@needs10
def test_the_writer_of_these_tests_writes_what_was_published():
    content, fields = published("data_batch_1", "c99cafc152244af753f735de768cd75f")
    labels = {"labels": fields["labels"]}
    again = python2_pickle(fields["data"], labels, fields["batch_label"], fields["filenames"])
    assert again == content


@needs10
def test_real_images_of_10_classes():
    data = load_cifar10(SHARED, partial=True)
    assert data.train_images.shape == (20_000, 32, 32, 3)
    assert data.test_images.shape == (10_000, 32, 32, 3)
    assert (np.bincount(data.test_labels) == 1000).all()
    _, fields = published("data_batch_2", "d4bba439e000b95fd0a9bffe97cbabec")
    images = fields["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(data.train_images[10_000:], images)
    assert data.train_labels[10_000:].tolist() == fields["labels"]
    mean = data.train_images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, CHANNEL_STATISTICS["cifar10"][0], atol=2e-3)
    with pytest.raises(ValueError, match="data_batch_5 are missing"):
        load_cifar10(SHARED)


@needs100
def test_real_images_of_100_classes():
    data = load_cifar100(SHARED / "cifar-100-binary-part", partial=True)
    assert data.train_images.shape == (10_000, 32, 32, 3)
    assert data.test_images.shape == (5_000, 32, 32, 3)
    assert (np.bincount(data.train_labels) == 100).all()
    mean = data.train_images.mean(axis=(0, 1, 2)) / 255
    np.testing.assert_allclose(mean, CHANNEL_STATISTICS["cifar100"][0], atol=4e-3)
    with pytest.raises(ValueError, match=r"train\.bin: got 10000 images, want 50000"):
        load_cifar100(SHARED / "cifar-100-binary-part")
