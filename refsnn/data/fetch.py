"""Download of the data sets that have a public archive."""

import hashlib
import os
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.error import HTTPError

from tqdm import tqdm

from refsnn.data.cache import cache_folder
from refsnn.data.unpack import unpack
from refsnn.files.unfinished import unfinished
from refsnn.files.writing import naming_path
from refsnn.ops import validate

TIMEOUT = 30.0  # seconds without a byte
CHUNK = 1 << 16
SMALL_FILES = 1 << 20  # most bytes of an archive's files other than `files`


class Source(NamedTuple):
    """An archive of `size` bytes, which holds `folder` with `files` (name -> bytes) in it."""

    url: str
    md5: str
    size: int
    folder: str
    files: dict[str, int]


CIFAR10_FILES = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
SOURCES = {
    "cifar10": Source(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "c32a1d4ab5d03f1284b67883e8d87530",
        170_052_171,
        "cifar-10-batches-bin",
        dict.fromkeys(CIFAR10_FILES, 30_730_000),
    ),
    "cifar100": Source(
        "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        "03b5dce01913d631647c71ecec9e9cb8",
        168_513_733,
        "cifar-100-binary",
        {"train.bin": 153_700_000, "test.bin": 30_740_000},
    ),
}


def default_data_dir() -> Path:
    """Return $REFSNN_DATA, or the folder data in the cache folder."""
    return Path(os.environ.get("REFSNN_DATA") or cache_folder() / "data")


def fetch(name: str, data_dir: Path, url: str | None = None, quiet: bool = False) -> Path:
    """Return the folder of a data set of `SOURCES` in `data_dir`; download it if it is missing.

    `url` is a mirror of the same archive. A download that breaks off is continued by the next call;
    a complete archive that was put in its place is used without a download. Raises ValueError where
    the archive can't be downloaded or its MD5 sum is not the published one.
    """
    validate.one_of("name", name, SOURCES)
    source = SOURCES[name]
    folder = data_dir / source.folder
    if folder.exists():
        if wrong := wrong_files(folder, source):
            raise ValueError(
                f"dataset: {folder} lacks {wrong}, or has another length; "
                "remove the folder to download it again"
            )
        return folder
    data_dir.mkdir(parents=True, exist_ok=True)
    part = data_dir / f"{name}.part"
    if part.exists() and not part.is_file():
        raise ValueError(f"fetch: {part}: is no regular file")
    if not (part.exists() and part.stat().st_size == source.size):
        download(url or source.url, part, source.size, quiet)
    check_sum(part, source.md5)
    with unfinished(data_dir, name) as temporary:
        unpacked = temporary / "unpacked"
        unpack(part, unpacked, sum(source.files.values()) + SMALL_FILES)
        if wrong := wrong_files(unpacked / source.folder, source):
            raise ValueError(f"fetch: {part} has no {source.folder} with a whole {wrong}")
        os.rename(unpacked / source.folder, folder)
    part.unlink()
    return folder


def wrong_files(folder: Path, source: Source) -> str:
    """Return the names of the files that are missing or of another length, as one text."""
    wrong = [
        name
        for name, size in source.files.items()
        if not (folder / name).is_file() or (folder / name).stat().st_size != size
    ]
    return ", ".join(wrong)


def check_sum(part: Path, md5: str) -> None:
    with open(part, "rb") as file:
        got = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != md5:
        part.unlink()
        raise ValueError(f"fetch: {part}: got MD5 sum {got}, want {md5}; the file is removed")


def other_ways(part: Path) -> str:
    return f"--url takes a mirror's address; an archive from elsewhere can be put at {part}"


def download(url: str, part: Path, size: int, quiet: bool) -> None:
    """Download an archive of `size` bytes into `part`, or the rest that `part` does not have."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Range": f"bytes={have}-"} if have else {}
    try:
        request = urllib.request.Request(url, headers=headers)
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except HTTPError as error:
        error.close()  # it is also the response, which holds the connection
        if error.code == 416:  # the server has nothing after the bytes that `part` has
            return
        raise ValueError(
            f"fetch: {url}: HTTP {error.code} {error.reason}; {other_ways(part)}"
        ) from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise ValueError(f"fetch: {url} can't be reached: {reason}; {other_ways(part)}") from None
    if response.status != 206:  # the server sends everything from the start
        have = 0
    # bytes of the archive after this response, if it is complete
    promised = min(size, have + int(response.headers["Content-Length"] or size))
    broken: Exception | None = None
    with (
        response,
        naming_path(part),
        open(part, "ab" if have else "wb") as file,
        tqdm(
            total=size, initial=have, unit="B", unit_scale=True, desc=part.stem, disable=quiet
        ) as bar,
    ):
        while have <= size:  # a longer archive has the wrong checksum anyway
            try:
                chunk = response.read(CHUNK)
            except (OSError, HTTPException) as error:
                broken = error
                break
            if not chunk:
                break
            file.write(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    if have < promised:
        raise ValueError(
            f"fetch: {url}: the connection broke off ({broken or 'closed early'}); "
            f"{part} keeps {have} of {size} bytes, and the next call continues from there"
        )
