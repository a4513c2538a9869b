"""Safe unpacking of archives from any source."""

import errno
import gzip
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import IO, Any, NamedTuple, cast

from refsnn.files.reading import open_regular
from refsnn.files.unfinished import unfinished
from refsnn.files.writing import naming_path
from refsnn.ops import validate

MOST_MEMBERS = 100_000
LONGEST_NAME = 255  # bytes
HEADERS = 1 << 26  # most bytes of a tar file besides its members' content
CHUNK = 1 << 20
TAR_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}
ZIP_KINDS = {0: "file", stat.S_IFREG: "file", stat.S_IFLNK: "a symbolic link"}


class Member(NamedTuple):
    name: str
    kind: str  # "file", "folder", or the name of another kind, such as "a symbolic link"
    content: IO[bytes] | None  # None for what is no file


def unpack(archive: Path, folder: Path, most_bytes: int) -> None:
    """Unpack a .tar.gz or .zip into a new `folder`: all of its files and folders or nothing.

    Raises ValueError, which names the archive and the member, where a member leads out of the
    folder, is a link or a device, or has the name of another one; where the files hold more than
    `most_bytes` together; and where the archive is damaged or cut short.
    """
    if folder.exists():
        raise ValueError(f"folder: {folder} is there already, want a new one")
    with unfinished(folder.parent, folder.name) as temporary:
        whole = temporary / "whole"
        whole.mkdir()
        where = "at its start"
        files: set[Path] = set()
        folders = {Path()}
        left = most_bytes
        try:
            for count, member in enumerate(members(archive, most_bytes)):
                where = f"member {validate.shown(member.name)}"
                if count == MOST_MEMBERS:
                    raise ValueError(f"want at most {MOST_MEMBERS} members")
                path = whole / inner_path(member, files, folders)
                if member.content is None:
                    path.mkdir(parents=True, exist_ok=True)
                else:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    left -= write(path, member.content, left)
                where = f"after {where}"
        except Exception as error:  # tarfile, zipfile, gzip and zlib each have their own
            # an error of the disk; a seek to an impossible place (EINVAL) is one of the archive
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
                raise
            reason = str(error).removeprefix(f"{archive}: ")
            reason = " ".join(reason.split())[:200] or "cut short"
            raise ValueError(f"{archive}: {where}: {reason}") from None
        os.rename(whole, folder)


def inner_path(member: Member, files: set[Path], folders: set[Path]) -> Path:
    """Return a member's path inside the folder, and add it to the `files` or `folders` so far."""
    inside = PureWindowsPath(member.name)  # splits at / and \, and knows drives
    if inside.anchor or ".." in inside.parts:
        raise ValueError("it leads out of the folder")
    if len(os.fsencode(member.name)) > LONGEST_NAME:
        raise ValueError(f"want a name of at most {LONGEST_NAME} bytes")
    if member.kind not in ("file", "folder"):
        raise ValueError(f"it is {member.kind}, want only files and folders")
    path = Path(*inside.parts)
    if path in files or files.intersection(path.parents):
        raise ValueError("a file of this name came before")
    if member.kind == "file":
        if path in folders:
            raise ValueError("a folder of this name came before")
        files.add(path)
    else:
        folders.add(path)
    folders.update(path.parents)
    return path


def write(path: Path, content: IO[bytes], most: int) -> int:
    """Write the content to a file; return its size as counted, whatever the archive says."""
    size = 0
    with naming_path(path), open(path, "xb") as file:
        while chunk := content.read(CHUNK):
            size += len(chunk)
            if size > most:
                raise ValueError("here the files hold more bytes than are allowed")
            file.write(chunk)
    return size


def members(archive: Path, most_bytes: int) -> Iterator[Member]:
    with os.fdopen(open_regular(archive), "rb") as file:
        start = file.read(2)
        file.seek(0)
        if start == b"\x1f\x8b":
            yield from tar_members(file, most_bytes + HEADERS)
        elif start == b"PK":
            yield from zip_members(file)
        else:
            raise ValueError("neither a .tar.gz nor a .zip")


def zip_members(file: IO[bytes]) -> Iterator[Member]:
    with zipfile.ZipFile(file) as archive:
        for info in archive.infolist():
            kind = ZIP_KINDS.get(stat.S_IFMT(info.external_attr >> 16), "a device")
            if info.is_dir():
                yield Member(info.filename, "folder", None)
            else:
                with archive.open(info) as content:
                    yield Member(info.filename, kind, content)


class Limited:
    """A stream that refuses to give more than `most` bytes."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self.stream, self.left = stream, most

    def read(self, size: int) -> bytes:
        chunk = self.stream.read(size)
        self.left -= len(chunk)
        if self.left < 0:
            raise ValueError("here it expands to more bytes than are allowed")
        return chunk


def tar_members(file: IO[bytes], most: int) -> Iterator[Member]:
    stream = cast(Any, Limited(cast(Any, gzip.GzipFile(fileobj=file)), most))
    with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as archive:
        for info in archive:
            if info.isdir():
                yield Member(info.name, "folder", None)
            elif not info.isreg():
                yield Member(info.name, TAR_KINDS.get(info.type, "of no known kind"), None)
            elif info.issparse():
                yield Member(info.name, "a sparse file", None)
            else:
                yield Member(info.name, "file", archive.extractfile(info))
        # tarfile ends at any header that it can't read, but a true end is followed only by zeros
        rest = cast(Any, archive.fileobj)
        size = 0
        while chunk := rest.read(CHUNK):
            size += len(chunk)
            if chunk.strip(b"\0"):
                raise ValueError("damaged")
        if size < tarfile.BLOCKSIZE:
            raise ValueError("cut short")
