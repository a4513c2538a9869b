"""Archives, good and hostile: what is unpacked, what is refused, and that no trace is left."""

import errno
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile

import numpy as np
import pytest

from refsnn.data import unpack as module
from refsnn.data.unpack import unpack

NOISE = np.random.default_rng(0).bytes(5000)
GOOD = {"set/a.bin": NOISE, "set/deep/b.txt": b"text", "set/empty": b""}


def tar_gz(path, *members):
    """Make an archive of `members` (TarInfo or name, content); folders' names end in /."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for info, content in members:
            if isinstance(info, str):
                info = folder_info(info) if info.endswith("/") else tarfile.TarInfo(info)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    path.write_bytes(gzip.compress(plain.getvalue()))
    return path


def folder_info(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def zipped(path, *members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for info, content in members:
            archive.writestr(info, content)
    return path


MAKERS = {"tar.gz": tar_gz, "zip": zipped}


@pytest.fixture(params=MAKERS)
def make(request, tmp_path):
    return lambda *members: MAKERS[request.param](tmp_path / f"x.{request.param}", *members)


@pytest.fixture
def refused(tmp_path):
    """Check that an archive is refused with this text, and leaves no trace."""

    def check(archive, text, most_bytes=100_000):
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        with pytest.raises(ValueError, match=text) as caught:
            unpack(archive, tmp_path / "new", most_bytes)
        assert str(caught.value).startswith(f"{archive}: ")
        assert "\n" not in str(caught.value)
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if not path.is_dir()}
        assert after == before
        assert not (tmp_path / "new").exists()

    return check


def contents(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_member_of_several_chunks_is_whole(make, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 1024)
    unpack(make(("set/a.bin", NOISE)), tmp_path / "out", 10_000)
    assert (tmp_path / "out/set/a.bin").read_bytes() == NOISE
    with pytest.raises(ValueError, match="more bytes than are allowed"):
        unpack(make(("set/a.bin", NOISE)), tmp_path / "less", len(NOISE) - 1)


def test_files_are_unpacked_with_their_folders(make, tmp_path):
    archive = make(*GOOD.items())
    unpack(archive, tmp_path / "new", most_bytes=5004)
    assert contents(tmp_path / "new") == GOOD
    assert sorted(os.listdir(tmp_path)) == sorted(["new", archive.name])


def test_entries_for_folders_may_come_late_and_twice(make, tmp_path):
    unpack(make(("set/a", b"1"), ("set/", b""), ("./set/", b""), ("no/", b"")), tmp_path / "new", 9)
    assert contents(tmp_path / "new") == {"set/a": b"1"}


def test_empty_folders_are_made_and_no_bits_are_taken_over(tmp_path):
    folder, file = folder_info("set/own"), tarfile.TarInfo("set/a")
    folder.mode, file.mode = 0, 0o6777
    unpack(tar_gz(tmp_path / "x.tar.gz", (folder, b""), (file, b"1")), tmp_path / "new", 9)
    assert (tmp_path / "new" / "set" / "own").is_dir()
    assert not (tmp_path / "new" / "set" / "a").stat().st_mode & 0o7111
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_refusal_is_one_line(refused, tmp_path):
    archive = zipped(tmp_path / "x.zip", ("a" * 5000, b"1"))
    refused(archive, r"member 'a{76}\.\.\.: want a name of at most")
    content = zipped(tmp_path / "x.zip", ("b" * 2000, b"1")).read_bytes()
    archive.write_bytes(content.replace(b"b" * 2000, b"c" * 2000, 1))  # before its content alone
    refused(archive, r"x\.zip: at its start: File name in directory 'b.{0,200}$")


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/out", "..", "a/..", "..\\out", "C:\\out", "c:out", "\\out"]
)
def test_paths_that_lead_out_are_refused(make, refused, name):
    refused(make(("ok", b"1"), (name, b"evil")), r"member '.*(out|\.\.)': it leads out")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.BLKTYPE, "a device"),
        (tarfile.FIFOTYPE, "a pipe"),
        (b"Z", "it is of no known kind"),
    ],
)
def test_members_that_are_no_files_are_refused(tmp_path, refused, kind, name):
    info = tarfile.TarInfo("set/odd")
    info.type, info.linkname = kind, "/etc/passwd"
    if kind == b"Z":  # tarfile writes no such member: the byte and the checksum are put there
        info.type = tarfile.CHRTYPE
    archive = tar_gz(tmp_path / "x.tar.gz", ("set/a", b"1"), (info, b""))
    if kind == b"Z":
        plain = bytearray(gzip.decompress(archive.read_bytes()))
        header = plain[1024:1536]
        header[156:157], header[148:156] = kind, b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        plain[1024:1536] = header
        archive.write_bytes(gzip.compress(plain))
    refused(archive, f"member 'set/odd': .*{name}")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_of_a_zip_are_refused(tmp_path, refused, kind):
    info = zipfile.ZipInfo("set/odd")
    info.external_attr = (kind | 0o777) << 16
    name = "a symbolic link" if kind == stat.S_IFLNK else "a device"
    refused(zipped(tmp_path / "x.zip", (info, b"/etc/passwd")), f"member 'set/odd': it is {name}")


def test_a_link_and_a_file_below_it_do_not_write_elsewhere(tmp_path, refused):
    link = tarfile.TarInfo("set")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
    refused(tar_gz(tmp_path / "x.tar.gz", (link, b""), ("set/evil", b"1")), "member 'set': it is a")


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("a", "a"), "member 'a': a file of this name came before"),
        (("a", "./a"), "member './a': a file of this name came before"),
        (("a/b", "a//b"), "member 'a//b': a file of this name came before"),
        (("a/b", "a\\b"), r"member 'a.*b': a file of this name came before"),
        (("a", "a/b"), "member 'a/b': a file of this name came before"),
        (("a", "a/"), "member 'a/?': a file of this name came before"),
        (("a/b", "a"), "member 'a': a folder of this name came before"),
        (("a/b/c", "a"), "member 'a': a folder of this name came before"),
        (("a/", "./a"), "member './a': a folder of this name came before"),
        ((".",), r"member '\.': a folder of this name came before"),
    ],
)
def test_names_that_come_twice_are_refused(tmp_path, refused, names, text):
    members = [(name, b"") for name in names]
    refused(zipped(tmp_path / "x.zip", *members), text)
    refused(tar_gz(tmp_path / "x.tar.gz", *members), text)


def test_an_archive_that_expands_beyond_the_limit_by_one_byte_is_refused(make, refused, tmp_path):
    archive = make(("a", bytes(60_000)), ("b", bytes(60_000)))
    refused(archive, "member 'b': here the files hold more bytes", most_bytes=119_999)
    unpack(archive, tmp_path / "new", 120_000)


def test_a_sparse_file_is_refused(tmp_path, refused):
    info = tarfile.TarInfo("a")
    info.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,1",
        "GNU.sparse.size": str(10**12),
    }
    refused(tar_gz(tmp_path / "x.tar.gz", (info, b"1")), "member 'a': it is a sparse file")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_headers_that_expand_endlessly_are_refused(tmp_path, refused, monkeypatch, kind):
    monkeypatch.setattr(module, "HEADERS", 1 << 20)
    header = tarfile.TarInfo("h")
    header.type, header.size = kind, 1 << 23
    archive = tar_gz(tmp_path / "x.tar.gz", (header, bytes(1 << 23)), ("a", b"1"))
    refused(archive, "at its start: here it expands to more bytes")


def test_endless_zeros_after_the_end_are_refused(tmp_path, refused, monkeypatch):
    monkeypatch.setattr(module, "HEADERS", 1 << 20)
    archive = tar_gz(tmp_path / "x.tar.gz", ("a", b"1"))
    archive.write_bytes(gzip.compress(gzip.decompress(archive.read_bytes()) + bytes(1 << 23)))
    refused(archive, "after member 'a': here it expands to more bytes")


def test_too_many_members_are_refused(make, refused, monkeypatch, tmp_path):
    archive = make(*((f"{k}", b"") for k in range(6)))
    monkeypatch.setattr(module, "MOST_MEMBERS", 5)
    refused(archive, "member '5': want at most 5 members")
    monkeypatch.setattr(module, "MOST_MEMBERS", 6)
    unpack(archive, tmp_path / "new", 1)


@pytest.mark.parametrize("name", ["a" * 256, "a/" * 127 + "bc", "ä" * 128])
def test_long_names_are_refused(make, refused, name, tmp_path):
    refused(make((name, b"1")), "want a name of at most 255 bytes")
    unpack(make((name[:-1].rstrip("/"), b"1")), tmp_path / "new", 9)


@pytest.mark.parametrize("step", [1, 97])
def test_a_truncated_archive_is_refused_at_any_length(make, refused, step):
    archive = make(*GOOD.items())
    whole = archive.read_bytes()
    lengths = range(len(whole) - 60, len(whole)) if step == 1 else range(0, len(whole), step)
    for length in lengths:
        archive.write_bytes(whole[:length])
        refused(archive, ": .")


def test_a_tar_file_cut_short_before_it_was_compressed_is_refused(tmp_path, refused):
    archive = tar_gz(tmp_path / "x.tar.gz", *GOOD.items())
    plain = gzip.decompress(archive.read_bytes())
    assert plain[7168:] == bytes(len(plain) - 7168)  # three headers, ten and one blocks, the end
    for length in (0, 1, 512, 600, 5512, 5632, 6144, 6148, 6656, 7168, 7680, 7780):
        archive.write_bytes(gzip.compress(plain[:length]))
        refused(archive, r"(at its start|member 'set/.*'): .")


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path, refused):
    archive = tar_gz(tmp_path / "x.tar.gz", ("a", b"1"), ("b", b"2"))
    plain = bytearray(gzip.decompress(archive.read_bytes()))
    plain[1024] ^= 1
    archive.write_bytes(gzip.compress(plain))
    refused(archive, "after member 'a': damaged")


def test_a_flipped_bit_is_refused(make, refused):
    archive = make(*GOOD.items())
    whole = archive.read_bytes()
    at = len(whole) // 2  # in the noise, which stays as it is
    archive.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
    refused(archive, ": .")


@pytest.mark.parametrize(
    ("field", "values", "text"),
    [
        (42, (2**31,), "at its start: ."),  # where the member starts
        (20, (10**6, 10**6), "member 'a': cut short|Overlapped"),  # its sizes
        (20, (9, 5000), "member 'a': ."),
    ],
)
def test_a_zip_whose_directory_lies_is_refused(tmp_path, refused, field, values, text):
    archive = zipped(tmp_path / "x.zip", (zipfile.ZipInfo("a"), NOISE))
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\1\2") + field
    content[at : at + 4 * len(values)] = struct.pack(f"<{len(values)}I", *values)
    archive.write_bytes(content)
    refused(archive, text)


def test_a_zip_whose_end_lies_about_the_directory_is_refused(tmp_path, refused):
    archive = zipped(tmp_path / "x.zip", ("a", NOISE))
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\5\6") + 16
    directory = struct.unpack_from("<I", content, at)[0]
    struct.pack_into("<I", content, at, directory + 10)
    archive.write_bytes(content)
    refused(archive, "at its start: .")


def test_an_error_of_the_disk_stays_an_oserror(make, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    archive = make(("a", b"1"))
    monkeypatch.setattr(module, "write", full)
    with pytest.raises(OSError, match="No space left"):
        unpack(archive, tmp_path / "new", 9)
    assert os.listdir(tmp_path) == [archive.name]


def test_a_file_that_exceeds_the_size_limit_is_named(make, tmp_path):
    archive = make(("a", NOISE))
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match=r"File too large: '\S+/whole/a'$"):
            unpack(archive, tmp_path / "new", 9000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.listdir(tmp_path) == [archive.name]


def test_a_pipe_is_no_archive(refused, tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(ValueError, match=r"x\.zip: at its start: is no regular file$"):
        unpack(tmp_path / "x.zip", tmp_path / "new", 9)


def test_an_encrypted_zip_is_refused(tmp_path, refused):
    archive = zipped(tmp_path / "x.zip", ("a", b"1"))
    content = bytearray(archive.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(content)
    refused(archive, "at its start: .*encrypted")


@pytest.mark.parametrize("content", [b"", b"\x1f", b"text of any kind", bytes(2000)])
def test_a_file_that_is_not_an_archive_is_refused(tmp_path, refused, content):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(content)
    refused(path, r"neither a \.tar\.gz nor a \.zip")


def test_control_characters_do_not_reach_the_terminal(make, refused):
    refused(make(("../\x1b[2J\n", b"1")), r"member '\.\./\\x1b\[2J\\n': it leads")


def test_an_existing_folder_is_not_touched(make, tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match=r"^folder: .*new is there already"):
        unpack(make(("a", b"1")), tmp_path / "new", 9)
    assert not os.listdir(tmp_path / "new")


def test_an_archive_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.zip"):
        unpack(tmp_path / "none.zip", tmp_path / "new", 9)
    assert not os.listdir(tmp_path)
