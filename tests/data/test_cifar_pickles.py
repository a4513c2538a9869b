"""CIFAR's pickles: read in all protocols, refused when damaged, harmless when hostile."""

import itertools
import os
import pickle
import re
import struct
import tracemalloc
from functools import partial

import numpy as np
import pytest
from cifar_files import (
    CASES,
    GOOD,
    PIXELS,
    TRAIN10,
    made,
    pixels_images,
    pixels_of,
    python2_pickle,
    write10,
)

from refsnn.data import cifar
from refsnn.data.cifar import load_cifar10
from refsnn.data.pickles import play

pytestmark = pytest.mark.usefixtures("own_cache")
needs_cases = pytest.mark.skipif(not CASES.is_dir(), reason="no cases beside the checkout")


@pytest.fixture
def read(tmp_path):
    """Read a pickle as the only training file of CIFAR-10."""
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
    """Check that a pickle is refused with this text, without much memory."""

    def check(content, text):
        with pytest.raises(ValueError, match=text):
            read(content)  # what this imports is not to be measured
        peaks = []
        for _ in range(3):  # other threads of the tests may allocate in between
            tracemalloc.start()
            try:
                with pytest.raises(ValueError, match=text) as caught:
                    read(content)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
        assert min(peaks) < 1_000_000 + 20 * len(content)
        message = str(caught.value)
        assert re.match(r"dataset: \S*/data_batch_1: not of CIFAR's Python version: .", message)
        assert len(message) < 500

    return check


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


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
@pytest.mark.slow_after(120)
def test_files_pickled_by_other_versions_are_read(read, protocol, key, order, labels):
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
@pytest.mark.slow_after(2)
def test_a_whole_file_with_the_most_opcodes_is_read(tmp_path, protocol):
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
def test_labels_that_are_not_integers_are_refused(refused, labels, text, protocol):
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


def test_memoised_values_may_be_used_again(read):
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
def test_invalid_states_are_refused(refused, before, after):
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
def test_a_file_that_is_not_regular_is_refused(tmp_path, suffix, monkeypatch):
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


def test_random_damage_is_unnoticed_or_an_error_that_names_the_file(tmp_path):
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
