"""Downloads from a server in this process: complete, resumed, broken off, wrong."""

import gzip
import hashlib
import io
import os
import tarfile
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest

from refsnn.data import fetch as module
from refsnn.data.cache import cache_folder
from refsnn.data.fetch import SOURCES, Source, default_data_dir, fetch

FILES = {"train.bin": 200_000, "test.bin": 50_000}


def archive_of(files):
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return gzip.compress(plain.getvalue(), mtime=0)


NOISE = np.random.default_rng(0)
CONTENT = {f"made-set/{name}": NOISE.bytes(size) for name, size in FILES.items()}
ARCHIVE = archive_of(CONTENT)
HALF = len(ARCHIVE) // 2


class Handler(BaseHTTPRequestHandler):
    """Orders to the server: to serve ranges or not, to break off, to be silent."""

    def do_GET(self):
        server = self.server
        wanted = self.headers["Range"]
        server.asked.append(wanted)
        if server.mode == "silent":
            server.done.wait(10)
            return
        if server.mode == "missing":
            self.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        if server.mode == "no ranges":
            start = 0
        elif start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/*")
        if server.mode == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = b"".join(b"%x\r\n%s\r\n" % (len(c), c) for c in (body[:1000], body[1000:], b""))
        elif server.mode != "no length":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(ConnectionError):  # the client has enough
            self.wfile.write(body[: server.send])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.mode, server.send, server.asked = ARCHIVE, "ranges", None, []
    server.done = threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/made.tar.gz"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.done.set()
    server.shutdown()
    server.server_close()
    thread.join()


def publish(server, monkeypatch, archive):
    source = Source(server.url, hashlib.md5(archive).hexdigest(), len(archive), "made-set", FILES)
    monkeypatch.setitem(SOURCES, "made", source)
    server.content = archive


@pytest.fixture
def get(server, monkeypatch, tmp_path):
    publish(server, monkeypatch, ARCHIVE)
    return lambda **options: fetch("made", tmp_path / "data", quiet=True, **options)


@pytest.fixture
def part(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data" / "made.part"


def check(folder, tmp_path):
    assert folder == tmp_path / "data" / "made-set"
    for name, content in CONTENT.items():
        assert (folder.parent / name).read_bytes() == content
    assert os.listdir(folder.parent) == ["made-set"]


@pytest.mark.parametrize("mode", ["ranges", "no ranges", "chunked", "no length"])
def test_an_archive_is_downloaded_checked_and_unpacked(get, server, tmp_path, mode):
    server.mode = mode
    check(get(), tmp_path)
    assert server.asked == [None]


def test_a_complete_data_set_is_not_downloaded_again(get, server, tmp_path):
    get()
    server.mode = "missing"
    check(get(), tmp_path)
    assert len(server.asked) == 1


@pytest.mark.parametrize("size", [None, 49_999])
def test_an_incomplete_folder_is_reported_and_kept(get, server, tmp_path, size):
    path = get() / "test.bin"
    if size is None:
        path.unlink()
    else:
        os.truncate(path, size)
    with pytest.raises(ValueError, match=r"^dataset: .*/made-set lacks test\.bin, .*remove"):
        get()
    assert (path.parent / "train.bin").exists()
    assert len(server.asked) == 1


def test_a_part_is_resumed(get, server, part, tmp_path):
    part.write_bytes(ARCHIVE[:HALF])
    check(get(), tmp_path)
    assert server.asked == [f"bytes={HALF}-"]


def test_a_server_without_ranges_starts_again(get, server, part, tmp_path):
    part.write_bytes(b"other" * 1000)
    server.mode = "no ranges"
    check(get(), tmp_path)


def test_a_complete_part_is_not_downloaded_again(get, server, part, tmp_path):
    part.write_bytes(ARCHIVE)
    check(get(), tmp_path)
    assert not server.asked


@pytest.mark.parametrize("mode", ["ranges", "no length", "chunked"])
def test_a_connection_that_breaks_keeps_what_came_and_the_next_call_goes_on(
    get, server, tmp_path, mode
):
    server.mode, server.send = mode, HALF
    with pytest.raises(ValueError, match=r"made\.tar\.gz: the connection broke off \(") as caught:
        get()
    part = tmp_path / "data" / "made.part"
    kept = part.stat().st_size
    assert f"{part} keeps {kept} of {len(ARCHIVE)} bytes" in str(caught.value)
    assert HALF - module.CHUNK <= kept <= HALF
    assert part.read_bytes() == ARCHIVE[:kept]
    server.mode, server.send = "ranges", None
    check(get(), tmp_path)
    assert server.asked[-1] == f"bytes={kept}-"


def test_a_connection_may_break_again_and_again(get, server, tmp_path):
    server.send = len(ARCHIVE) // 5
    for _ in range(5):
        with pytest.raises(ValueError, match="broke off"):
            get()
    check(get(), tmp_path)
    assert len(server.asked) == 6


@pytest.mark.parametrize(
    "content",
    [
        ARCHIVE[:-1] + bytes([ARCHIVE[-1] ^ 1]),
        b"<html>Please log in</html>",
        ARCHIVE + bytes(10**7),
    ],
)
def test_an_archive_with_another_checksum_is_removed(get, server, tmp_path, content):
    server.content = content
    wanted = hashlib.md5(ARCHIVE).hexdigest()
    with pytest.raises(ValueError, match=rf"got MD5 sum \w{{32}}, want {wanted}; the file is rem"):
        get()
    assert not os.listdir(tmp_path / "data")
    server.content = ARCHIVE
    check(get(), tmp_path)


def test_a_part_of_something_else_is_removed_and_the_next_call_starts_again(
    get, server, part, tmp_path
):
    part.write_bytes(bytes(1000))
    with pytest.raises(ValueError, match=r"made\.part: got MD5 sum"):
        get()
    check(get(), tmp_path)
    assert server.asked == ["bytes=1000-", None]


def test_no_more_bytes_are_read_than_the_archive_has(get, server, monkeypatch):
    def check_sum(part, md5):
        raise ValueError(f"{part.stat().st_size}")

    server.content = ARCHIVE + bytes(10**8)
    monkeypatch.setattr(module, "check_sum", check_sum)
    with pytest.raises(ValueError, match=r"^\d+$") as caught:
        get()
    assert len(ARCHIVE) < int(str(caught.value)) <= len(ARCHIVE) + module.CHUNK


def test_the_connection_of_an_error_is_closed(get, server, monkeypatch):
    server.mode = "missing"
    real, answers = module.urllib.request.urlopen, []

    def urlopen(*arguments, **options):
        try:
            return real(*arguments, **options)
        except HTTPError as error:
            answers.append(error)
            raise

    monkeypatch.setattr(module.urllib.request, "urlopen", urlopen)
    with pytest.raises(ValueError, match="HTTP 404"):
        get()
    assert answers[0].fp.closed


def test_a_missing_page_is_reported_and_the_part_is_kept(get, server, part):
    part.write_bytes(ARCHIVE[:HALF])
    server.mode = "missing"
    with pytest.raises(ValueError, match=rf"^fetch: {server.url}: HTTP 404 Not Found; ") as caught:
        get()
    assert f"--url takes a mirror's address; an archive from elsewhere can be put at {part}" in str(
        caught.value
    )
    assert part.read_bytes() == ARCHIVE[:HALF]


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://127.0.0.1:1/x", "Connection refused"),
        ("http://no-such-host.invalid/x", "."),
        ("no-url", "unknown url type"),
        ("http://127.0.0.1:port/x", "nonnumeric port"),
        ("file:///no/such/file", "No such file"),
    ],
)
def test_an_unreachable_server_is_reported_and_the_part_is_kept(get, part, url, text):
    part.write_bytes(ARCHIVE[:HALF])
    with pytest.raises(ValueError, match=rf"^fetch: {url} can't be reached: .*{text}") as caught:
        get(url=url)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(f"; an archive from elsewhere can be put at {part}")
    assert part.read_bytes() == ARCHIVE[:HALF]


def test_a_silent_server_times_out(get, server, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    server.mode = "silent"
    with pytest.raises(ValueError, match="can't be reached: timed out"):
        get()


def test_a_mirror_may_be_a_file(get, server, tmp_path):
    mirror = tmp_path / "mirror.tar.gz"
    mirror.write_bytes(ARCHIVE)
    check(get(url=mirror.as_uri()), tmp_path)
    assert not server.asked


@pytest.mark.parametrize(
    ("files", "text"),
    [
        (
            {"other/train.bin": bytes(200_000)},
            r"has no made-set with a whole train\.bin, test\.bin",
        ),
        (CONTENT | {"made-set/test.bin": bytes(9)}, r"has no made-set with a whole test\.bin"),
        (CONTENT | {"../out": b"1"}, r"made\.part: member '\.\./out': it leads out"),
        (CONTENT | {"bomb": bytes((1 << 20) + 1)}, "member 'bomb': here the files hold more bytes"),
    ],
)
def test_an_archive_with_something_else_in_it_is_refused(
    get, server, monkeypatch, tmp_path, files, text
):
    publish(server, monkeypatch, archive_of(files))
    with pytest.raises(ValueError, match=text):
        get()
    assert os.listdir(tmp_path / "data") == ["made.part"]


@pytest.fixture
def few_bytes():
    """A limit on the size of files."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("server", "few_bytes")
def test_a_file_that_exceeds_the_size_limit_is_named(get, part):
    with pytest.raises(OSError, match=rf"File too large: '{part}'$"):
        get()


@pytest.mark.usefixtures("server")
def test_a_pipe_in_the_archives_place_is_refused(get, part):
    os.mkfifo(part)
    with pytest.raises(ValueError, match=rf"^fetch: {part}: is no regular file$"):
        get()


def test_progress_is_shown_unless_quiet(get, server, tmp_path, capsys):
    fetch("made", tmp_path / "loud")
    shown = capsys.readouterr().err
    assert "made: 100%" in shown
    get()
    assert capsys.readouterr() == ("", "")


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"^name: got 'cifar', want one of cifar10, cifar100"):
        fetch("cifar", tmp_path)


def test_sources_are_those_the_authors_publish():
    for name, classes in (("cifar10", "10"), ("cifar100", "100")):
        source = SOURCES[name]
        assert source.url == f"https://www.cs.toronto.edu/~kriz/cifar-{classes}-binary.tar.gz"
        labels = 1 if name == "cifar10" else 2
        assert sum(source.files.values()) == 60_000 * (labels + 3072)
    assert SOURCES["cifar10"].md5 == "c32a1d4ab5d03f1284b67883e8d87530"
    assert SOURCES["cifar100"].md5 == "03b5dce01913d631647c71ecec9e9cb8"


def test_the_environment_determines_the_data_folder(monkeypatch):
    monkeypatch.setenv("REFSNN_DATA", "/a/b")
    assert default_data_dir() == Path("/a/b")
    for unset in (
        lambda: monkeypatch.setenv("REFSNN_DATA", ""),
        lambda: monkeypatch.delenv("REFSNN_DATA"),
    ):
        unset()
        assert default_data_dir() == cache_folder() / "data"
