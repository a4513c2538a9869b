"""Damage done to formats that hold others: archives, arrays, pictures, compressed streams."""

import gzip
import io
import math
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from mutations import (
    EXTREMES,
    Random,
    mutated_json,
    mutated_lines,
    mutated_toml,
    number,
    scrambled,
)
from numpy.lib import format as npy_format

#: names that a member of an archive must not have, and some that it may
NAMES = [
    "../evil",
    "/tmp/evil",
    "..\\evil",
    "C:\\evil",
    "a/../../evil",
    "",
    ".",
    "..",
    "x" * 300,
    "a\0b",
    "\u202e",
    "a/b/c",
    "a" * 5000,
    "é.npy",
    "//x",
    "a/",
]
DESCRIPTIONS = [
    "'|O'",
    "'<f8'",
    "'>i4'",
    "'<U9999999'",
    "'|V8'",
    "'<M8[s]'",
    "'<c16'",
    "'|b1'",
    "'<f2'",
    "[('a', '<f4')]",
    "'<i8'",
    "'x'",
    "'|S0'",
    "'<U0'",
    "'|V0'",
    "'<f16'",
    "3",
    "None",
    "'<U1'",
    "[('a', '<f4', (9999999,))]",
    "'" + "x" * 5000 + "'",
]
SHAPES = [
    "()",
    "(0,)",
    "(-1,)",
    "(2147483648,)",
    "(9223372036854775808,)",
    f"({10**30},)",
    "(1,) * 9",
    "(4294967296, 4294967296)",
    f"({'1, ' * 32})",
    f"({'1, ' * 65})",
    "(3, -1)",
    "(True,)",
    "7",
    "(1.5,)",
    "('a',)",
    "None",
    "(1099511627776, 0)",
    f"({'9' * 5000},)",
]


class Canary:
    """Pickle that, if it is executed, leaves a folder in the current one."""

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, ("canary",)


def members_of(content: bytes) -> list[tuple[str, bytes]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(info.filename, archive.read(info)) for info in archive.infolist()]


def zipped(members: list[tuple[str, bytes]], method: int) -> bytes:
    """A .zip; unlike `ZipFile.writestr` it says nothing of a name that comes twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for name, content in members:
            archive.NameToInfo.pop(name, None)
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            archive.writestr(info, content)
    return buffer.getvalue()


def mutated_zip(content: bytes, rng: Random, inner: Callable[[bytes, Random], bytes]) -> bytes:
    """Its members (their content changed by `inner`), or what it says of them."""
    members = members_of(content)
    at = rng.randrange(len(members))
    name, data = members[at]
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    match rng.randrange(12):
        case 0:
            del members[at]
        case 1:
            members[at] = (rng.choice((*NAMES, name + "x", members[0][0])), data)
        case 2:
            members.insert(rng.randrange(len(members) + 1), (name, data))
        case 3:
            other = rng.randrange(len(members))
            members[at], members[other] = (name, members[other][1]), (members[other][0], data)
        case 4:
            return redeclared(zipped(members, method), rng)
        case 5:
            bomb = bytes(rng.choice((10**5, 10**7)))
            members[at], method = (name, data[:10] + bomb), zipfile.ZIP_DEFLATED
        case _:
            members[at] = (name, inner(data, rng))
    return zipped(members, method)


def redeclared(content: bytes, rng: Random) -> bytes:
    """A number in a member's record, in the local one, the central one or both, or in the end's."""
    data = bytearray(content)
    marks = rng.choice((((b"PK\1\2", 0),), ((b"PK\3\4", -2),), ((b"PK\1\2", 0), (b"PK\3\4", -2))))
    field, size = rng.choice(((24, 4), (20, 4), (10, 2), (8, 2), (16, 4), (28, 2), (30, 2)))
    if rng.random() < 0.3:
        marks, (field, size) = ((b"PK\1\2", 0),), rng.choice(((42, 4), (38, 4), (32, 2), (6, 2)))
    if rng.random() < 0.2:
        marks, (field, size) = ((b"PK\5\6", 0),), rng.choice(((8, 2), (10, 2), (12, 4), (16, 4)))
    value = rng.choice((*EXTREMES, len(content), 2**28, 0o120777 << 16, 99, 12, 14)) % 256**size
    for mark, shift in marks:
        at = data.find(mark)
        if at >= 0:
            data[at + field + shift : at + field + shift + size] = value.to_bytes(size, "little")
    return bytes(data)


def mutated_npy(content: bytes, rng: Random) -> bytes:
    """The header of a .npy file, or its array."""
    buffer = io.BytesIO(content)
    npy_format.read_magic(buffer)
    shape, fortran, dtype = npy_format.read_array_header_1_0(buffer)
    data = content[buffer.tell() :]
    if rng.random() < 0.4:
        return with_header(shape, fortran, dtype, data, rng)
    return changed_array(np.frombuffer(data, dtype).reshape(shape), rng)


def with_header(shape: Any, fortran: bool, dtype: Any, data: bytes, rng: Random) -> bytes:
    fields = {"descr": repr(dtype.str), "fortran_order": str(fortran), "shape": repr(shape)}
    match rng.randrange(8):
        case 0 | 1:
            fields["descr"] = rng.choice(DESCRIPTIONS)
        case 2 | 3:
            flat = int(np.prod(shape))
            fields["shape"] = rng.choice(
                (*SHAPES, repr(shape[::-1]), f"({flat},)", repr((1, *shape)), repr((*shape, 1)))
            )
        case 4:
            fields["fortran_order"] = rng.choice(("True", "False", "1", "None"))
        case 5:
            del fields[rng.choice(list(fields))]
        case 6:
            fields["more"] = rng.choice(("1", "__import__('os').mkdir('canary')", "(" * 500))
        case _:
            data = rng.choice((data[:-1], data + b"\0", b"", data * 2))
    text = ("{" + ", ".join(f"'{k}': {v}" for k, v in fields.items()) + "}").encode() + b"\n"
    version = rng.choice((b"\1\0", b"\1\0", b"\1\0", b"\2\0", b"\3\0", b"\x09\0"))
    length = struct.pack("<H" if version[0] == 1 else "<I", len(text) % 2**16)
    return b"\x93NUMPY" + version + length + text + data


def changed_array(array: Any, rng: Random) -> bytes:
    """Other values, another shape or another type, rightly declared."""
    if array.dtype.kind == "U" and array.ndim == 0 and rng.random() < 0.8:
        text = str(array).encode()
        text = (mutated_json if text[:1] == b"{" else scrambled)(text, rng)
        return saved(np.array(text.decode(errors="replace")))
    if array.dtype == np.uint8 and bytes(array[:1].tobytes()) == b"{" and rng.random() < 0.8:
        return saved(np.frombuffer(mutated_json(array.tobytes(), rng), np.uint8))
    match rng.randrange(9):
        case 0 if array.dtype.kind != "U":
            array = array.astype(rng.choice(("f4", "f8", "i8", "u1", "?", "f2", "U8", "i1")))
        case 1:
            array = rng.choice((array.ravel(), array[None], array[..., None], array.T))
        case 2:
            array = array[: rng.choice((0, 1, len(array) // 2))] if array.ndim else array[None]
        case 3:
            array = array.ravel()[0] if array.size else np.array(3)
        case 4:
            array = np.concatenate([np.atleast_1d(array)] * rng.choice((2, 50)))
        case 5 if rng.random() < 0.3:
            payload = pickle.dumps(np.array([Canary()], object))
            return b"\x93NUMPY\1\0" + named_header("|O", (1,)) + payload
        case 6:
            array = np.asarray(rng.choice(([], [[]], ["a"], [True], 2**62, np.nan, -np.inf)))
        case _ if array.size and array.dtype.kind in "iuf":
            array = array.copy()
            value = rng.choice((*EXTREMES, np.nan, np.inf, -np.inf, 1e308, 0.5))
            with np.errstate(all="ignore"):
                array.flat[rng.randrange(array.size)] = cast(value, array.dtype)
        case _:
            array = array.astype(array.dtype.newbyteorder(">"))
    return saved(array)


def cast(value: Any, dtype: Any) -> Any:
    if dtype.kind == "f":
        return np.float64(value).astype(dtype)
    whole = int(value) if math.isfinite(value) else 0
    bits = 8 * dtype.itemsize
    whole %= 1 << bits
    return whole - (1 << bits) * (dtype.kind == "i" and whole >> (bits - 1))


def saved(array: Any) -> bytes:
    buffer = io.BytesIO()
    npy_format.write_array(buffer, np.asarray(array), version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def named_header(description: str, shape: tuple[int, ...]) -> bytes:
    text = repr({"descr": description, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return struct.pack("<H", len(text)) + text


def either(first: Callable[[bytes, Random], bytes]) -> Callable[[bytes, Random], bytes]:
    return lambda data, rng: (first if rng.random() < 0.7 else scrambled)(data, rng)


def mutated_safetensors(content: bytes, rng: Random) -> bytes:
    """The header, a JSON text after its length; the length at times as well."""
    length = int.from_bytes(content[:8], "little")
    head, data = mutated_json(content[8 : 8 + length], rng), content[8 + length :]
    length = rng.choice((*[len(head)] * 8, len(head) + 1, 0, 2**63, 2**28))
    return length.to_bytes(8, "little") + head + data


def mutated_tar_gz(content: bytes, rng: Random) -> bytes:
    """A tar file's header with a sum that is right again, or any bytes of it, compressed anew."""
    data = bytearray(gzip.decompress(content))
    if rng.random() < 0.3:
        return gzip.compress(scrambled(bytes(data), rng), 1, mtime=0)
    heads = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    at = rng.choice(heads)
    match rng.randrange(6):
        case 0 | 1:
            name = rng.choice(NAMES).encode()[:100]
            data[at : at + 100] = name.ljust(100, b"\0")
        case 2:
            sizes = (b"00000000000", b"77777777777", b"\x80" + b"\xff" * 10, b"-1", b"x", b"1")
            data[at + 124 : at + 136] = rng.choice(sizes).ljust(12, b"\0")
        case 3:
            data[at + 156] = rng.choice(b"0123456789gxLKSVADN\0\xff")
            data[at + 157 : at + 257] = rng.choice((b"/etc/passwd", b"../x")).ljust(100, b"\0")
        case 4:
            data[at:at] = data[at : at + 1024] * rng.choice((1, 3))
        case _:
            place = at + rng.randrange(512)
            number(data, place, rng)
    tar_sum = sum(data[at : at + 148]) + 8 * 32 + sum(data[at + 156 : at + 512])
    data[at + 148 : at + 156] = b"%06o\0 " % tar_sum
    return gzip.compress(bytes(data), 1, mtime=0)


def mutated_png(content: bytes, rng: Random) -> bytes:
    """Chunks: their order, kind and content, with sums that are right again."""
    chunks, at = [], 8
    while at < len(content):
        (size,) = struct.unpack_from(">I", content, at)
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    match rng.randrange(7):
        case 0:
            del chunks[at]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), chunks[at])
        case 2:
            sides = struct.pack(">II", *(rng.choice((0, 1, 9000, 2**31 - 1)) for _ in "wh"))
            chunks[0] = (b"IHDR", sides + chunks[0][1][8:])
        case 3:
            head = bytearray(chunks[0][1])
            head[rng.randrange(8, 13)] = rng.randrange(17)
            chunks[0] = (b"IHDR", bytes(head))
        case 4:
            extra = rng.choice((b"zTXt", b"iCCP", b"PLTE", b"tRNS", b"acTL", b"fdAT", b"eXIf"))
            chunks.insert(1, (extra, b"a\0\0" + zlib.compress(bytes(10**7), 1)))
        case 5 if kind == b"IDAT":
            chunks[at] = (kind, zlib.compress(scrambled(zlib.decompress(data), rng)))
        case _:
            chunks[at] = (kind, scrambled(data, rng))
    parts = (
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks
    )
    return content[:8] + b"".join(parts)


def mutated_jpeg(content: bytes, rng: Random) -> bytes:
    """The size and the parts of the picture, or any bytes after a marker."""
    data = bytearray(content)
    marks = [at for at in range(len(data) - 12) if data[at] == 0xFF and data[at + 1] >= 0xC0]
    frame = next(at for at in marks if data[at + 1] in (0xC0, 0xC2))
    if rng.random() < 0.4:
        data[frame + 5 : frame + 9] = struct.pack(
            ">HH", *(rng.choice((0, 1, 9000, 65535)) for _ in "hw")
        )
    else:
        at = rng.choice(marks) + rng.randrange(1, 12)
        data[at] = rng.choice((0, 1, 255, data[at] ^ 16, 0xD9, 0xC4))
    return bytes(data)


def mutated_mat(content: bytes, rng: Random) -> bytes:
    """The elements after the header of a MATLAB file; inside the first, if it is compressed."""
    kind, size = struct.unpack_from("<II", content, 128)
    if kind != 15:
        return content[:128] + scrambled(content[128:], rng)
    packed = zlib.compress(scrambled(zlib.decompress(content[136 : 136 + size]), rng))
    return content[:128] + struct.pack("<II", 15, len(packed)) + packed


OPCODES = [
    b"cos\nmkdir\n",
    b"cos\nmkdir\n(S'canary'\ntR",
    b"c__builtin__\neval\n(S'1'\ntR",
    b"R",
    b"b",
    b"(" * 2000,
    b"]" * 2000,
    b"l",
    b"t",
    b"d",
    b"s",
    b"u",
    b"e",
    b"a",
    b"0",
    b"1",
    b"2",
    b"N",
    b"\x88",
    b"h\xff",
    b"j\xff\xff\xff\xff",
    b"r\xff\xff\xff\xff",
    b"\x93",
    b"\x81",
    b"P1\n",
    b"Q",
    b"\x8d" + b"\xff" * 7 + b"\x7f",
    b"T\xff\xff\xff\x7f",
    b"I9" * 3000 + b"\n",
    b"\x8a\x01\x05",
    b"\x94",
    b".",
    b"q\0",
    b"h\0",
    b"h\1",
    b"\x85",
    b"\x86",
    b"\x87",
    b"K\7",
    b"}",
    b")",
    b"\x96",
    b"ibuiltins\nprint\n",
    b"F1e999\n",
    b"L" + b"9" * 6000 + b"L\n",
]


def mutated_pickle(content: bytes, rng: Random) -> bytes:
    """An opcode more, less or twice."""
    starts = [at for _, _, at in pickletools.genops(content)] + [len(content)]
    data = content
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randrange(len(starts) - 1)
        first, last = starts[at], starts[at + 1]
        new = rng.choice((b"", content[first:last] * 2, *[rng.choice(OPCODES)] * 3))
        keep = rng.choice((first, last))
        data = data[:first] + new + data[keep:] if len(data) == len(content) else data
    return data


def mutated_hdf5(content: bytes, rng: Random) -> bytes:
    """Change a NIR file: nodes, their types and numbers, edges, metadata, links."""
    import h5py

    buffer = io.BytesIO(content)
    with h5py.File(buffer, "r+") as file:
        found: list[str] = []
        file.visit(found.append)
        name = rng.choice([*found, "node/edges", "node/metadata/dt"])
        item = file.get(name)
        parent, _, last = name.rpartition("/")
        group = file.get(parent, file)
        match rng.randrange(9):
            case 0:
                del group[last]
            case 1 if item is not None:
                group.move(last, rng.choice(("x", "a b", last + "x")))
            case 2:
                group[rng.choice(("link", "x"))] = rng.choice(
                    (h5py.SoftLink("/node"), h5py.ExternalLink("/etc/passwd", "/"))
                )
            case 3 if item is not None:
                file.copy(item, group, "copy")
            case 4:
                del group[last]
                group.create_group(last)
            case _:
                old = item[()] if isinstance(item, h5py.Dataset) else None
                del group[last]
                group.create_dataset(last, data=other_value(old, rng))
    return buffer.getvalue()


def other_value(old: Any, rng: Random) -> Any:
    if isinstance(old, bytes) and rng.random() < 0.6:
        return rng.choice((b"LIF", b"IF", b"NIRGraph", b"Affine", b"Conv2d", b"x", b"", b"\xff"))
    if isinstance(old, np.ndarray) and old.dtype.kind in "iuf" and rng.random() < 0.7:
        new = old.astype(np.float64).copy()
        new.flat[rng.randrange(new.size)] = rng.choice((*EXTREMES[:9], np.nan, np.inf, -1e-9))
        with np.errstate(all="ignore"):
            forms = (new, new.ravel(), new[None], new[:0], new.astype("i4"), new.astype("f2"))
        return rng.choice(forms)
    return rng.choice((0, -1, np.nan, np.inf, 2**40, b"text", [], [[1.0]], [b"a", b"b"], True))


#: name of a format -> what damages content that is of it
FORMS: dict[str, Callable[[bytes, Random], bytes]] = {
    "json": mutated_json,
    "lines": mutated_lines,
    "toml": mutated_toml,
    "npz": lambda c, rng: mutated_zip(c, rng, either(mutated_npy)),
    "npy": mutated_npy,
    "zip": lambda c, rng: mutated_zip(c, rng, scrambled),
    "safetensors": mutated_safetensors,
    "tar.gz": mutated_tar_gz,
    "png": mutated_png,
    "jpeg": mutated_jpeg,
    "mat": mutated_mat,
    "pickle": mutated_pickle,
    "hdf5": mutated_hdf5,
}


def mutated(content: bytes, form: str, rng: Random) -> bytes:
    """The content, damaged: as bytes, or in what its format is made of."""
    if form == "bytes" or rng.random() < 0.4:
        return scrambled(content, rng)
    return FORMS[form](content, rng)
