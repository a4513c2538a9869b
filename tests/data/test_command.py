"""`refsnn data` from the command line."""

import functools
import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from refsnn.cli import main
from refsnn.data import DATASETS, fetch
from refsnn.data.command import ABOUT


def test_every_data_set_is_listed_with_the_files_that_it_needs(tmp_path, capsys):
    assert set(ABOUT) == set(DATASETS)
    assert main(["data", "list", "--data-dir", str(tmp_path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*DATASETS, "FILE.npz"]
    fetched = [line.split()[0] for line in lines if "(refsnn data fetch" in line]
    assert fetched == list(fetch.SOURCES)
    assert last.endswith(str(tmp_path))


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Serve a small archive in place of CIFAR-10's, and return its URL."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        info = tarfile.TarInfo("small/test_batch.bin")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"12345"))
    packed = content.getvalue()
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "small.tar.gz").write_bytes(packed)
    source = fetch.Source(
        "http://127.0.0.1:9/",
        hashlib.md5(packed).hexdigest(),
        len(packed),
        "small",
        {"test_batch.bin": 5},
    )
    monkeypatch.setitem(fetch.SOURCES, "cifar10", source)
    quiet = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = functools.partial(quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/small.tar.gz"
        server.shutdown()


def test_fetch_prints_the_folder_of_the_data(archive, tmp_path, capsys):
    data = tmp_path / "data"
    arguments = ["data", "fetch", "cifar10", "--url", archive, "--data-dir", str(data), "--quiet"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{data / 'small'}\n"
    assert not shown.err
    assert (data / "small" / "test_batch.bin").read_bytes() == b"12345"
    assert main(["data", "fetch", "cifar10", "--data-dir", str(data)]) == 0  # nothing to do


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar10", "http://127.0.0.1:9/ can't be reached"),
        ("digits", "name: got 'digits', want one of"),
    ],
)
@pytest.mark.usefixtures("archive")
def test_a_failed_fetch_is_one_line(name, words, tmp_path, capsys):
    assert main(["data", "fetch", name, "--data-dir", str(tmp_path / "data")]) == 2
    shown = capsys.readouterr()
    assert words in shown.err
    assert len(shown.err.splitlines()) == 1
