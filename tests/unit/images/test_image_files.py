"""Reading an image by reference: what is refused, and in which words."""

import io
import socket
import struct
import threading
import time
import zlib
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network

import pytest
from PIL import Image

from rlsd.errors import ConfigError, ServiceError
from rlsd.images import decoding, fetching
from rlsd.images.decoding import decode
from rlsd.images.files import ImageFiles
from rlsd.images.references import resolved

HERE = (ip_network("127.0.0.0/8"),)


def png(size=(4, 4), colour=(200, 10, 10), mode="RGB", **save) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, colour).save(file, save.pop("format", "PNG"), **save)
    return file.getvalue()


def claiming(width, height) -> bytes:
    """A few bytes that say they are a picture of this size."""

    def chunk(name, content):
        crc = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.fixture
def files(tmp_path):
    return ImageFiles(tmp_path / "kept", allowed=HERE, max_bytes=2**20, timeout_s=5.0)


@contextmanager
def serving(answer):
    """`answer(handler)` on 127.0.0.1; its URL and the paths that were asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            answer(self)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def sends(content, *, status=200, **headers):
    def answer(handler):
        handler.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            handler.send_header(name, str(value))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def test_a_file_is_read_and_what_cannot_be_is_refused_by_name(files, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    assert files.read(str(path)) == png()
    with pytest.raises(ConfigError, match=r"image .*gone\.png: cannot be read \(No such file"):
        files.read(str(tmp_path / "gone.png"))
    path.write_bytes(bytes(2**20 + 1))
    with pytest.raises(ConfigError, match=r"image .*a\.png: larger than 1 MiB"):
        files.read(str(path))


def test_a_url_is_fetched_once_for_the_run_and_kept(files, tmp_path):
    with serving(sends(png())) as (url, asked):
        assert files.read(f"{url}/a.png?x=1") == files.read(f"{url}/a.png?x=1") == png()
        again = ImageFiles(tmp_path / "kept", allowed=HERE)
        assert again.read(f"{url}/a.png?x=1") == png()
    assert asked == ["/a.png?x=1"]


def test_redirects_are_followed_and_bounded(files):
    def answer(handler):
        left = int(handler.path[1:])
        sends(b"", status=302, Location=f"/{left - 1}")(handler) if left else sends(png())(handler)

    with serving(answer) as (url, asked):
        assert files.read(f"{url}/3") == png()
        with pytest.raises(ConfigError, match="more than 3 redirects"):
            files.read(f"{url}/4")
    assert asked == ["/3", "/2", "/1", "/0", "/4", "/3", "/2", "/1"]


def test_no_address_of_this_network_is_reached_unless_it_is_listed(tmp_path):
    with serving(sends(png())) as (url, asked):
        strict = ImageFiles(tmp_path / "kept")
        with pytest.raises(ConfigError, match=r"127\.0\.0\.1 is not a public .* data\.image_cidrs"):
            strict.read(url)
        with pytest.raises(ConfigError, match="is not a public address"):
            strict.read("http://169.254.169.254/latest/meta-data")
    assert asked == []


def test_a_redirect_is_checked_like_the_first_address(tmp_path):
    with serving(sends(png())) as (inner, asked):
        to_inner = inner.replace("127.0.0.1", "127.0.0.2")
        with serving(sends(b"", status=302, Location=to_inner)) as (url, _):
            files = ImageFiles(tmp_path / "kept", allowed=(ip_network("127.0.0.1/32"),))
            with pytest.raises(ConfigError, match=r"127\.0\.0\.2 is not a public address"):
                files.read(url)
        file_url = sends(b"", status=302, Location="file:///etc/passwd")
        with serving(file_url) as (url, _), pytest.raises(ConfigError, match="write it as https"):
            files.read(url)
    assert asked == []


def test_the_address_that_was_checked_is_the_one_connected_to(monkeypatch):
    """A name whose second look-up says another address gains nothing by it."""
    looked_up = []

    def resolve(host, port, **_):
        looked_up.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    connected = []

    def connect(address, timeout):
        connected.append(address)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(fetching.socket, "getaddrinfo", resolve)
    monkeypatch.setattr(fetching.socket, "create_connection", connect)
    with pytest.raises(ServiceError, match="cannot be fetched"):
        fetching.fetch("http://pictures.test:81/a", allowed=HERE, max_bytes=9, timeout_s=1.0)
    assert (looked_up, connected) == (["pictures.test"], [("127.0.0.1", 81)])


@pytest.mark.parametrize("status", [404, 410])
def test_a_url_without_an_image_is_the_users_affair(files, status):
    with (
        serving(sends(b"", status=status)) as (url, _),
        pytest.raises(ConfigError, match=f"answers {status}; correct the URL"),
    ):
        files.read(url)


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_in_trouble_is_an_error_that_may_pass(files, status):
    with (
        serving(sends(b"", status=status)) as (url, _),
        pytest.raises(ServiceError, match=f"answers {status}"),
    ):
        files.read(url)


def test_an_answer_over_the_limit_is_not_read_to_its_end(files):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(2**40))
        handler.end_headers()
        try:
            for _ in range(2**10):
                handler.wfile.write(bytes(2**16))
        except OSError:
            pass

    with serving(answer) as (url, _), pytest.raises(ConfigError, match="larger than 1 MiB"):
        files.read(url)


def test_an_answer_that_ends_early_is_an_error(files):
    with (
        serving(sends(png(), **{"Content-Length": len(png()) + 1})) as (url, _),
        pytest.raises(ServiceError, match="ends early"),
    ):
        files.read(url)


@pytest.mark.parametrize("silent", [True, False])
def test_a_server_that_is_silent_or_trickles_is_left_at_the_deadline(tmp_path, silent):
    stop = threading.Event()

    def answer(handler):
        handler.send_response(200)
        while not stop.wait(0.05):
            if not silent:
                try:
                    handler.wfile.write(b"x")
                    handler.wfile.flush()
                except OSError:
                    return

    files = ImageFiles(tmp_path / "kept", allowed=HERE, timeout_s=0.3)
    with serving(answer) as (url, _):
        started = time.monotonic()
        with pytest.raises(ServiceError, match=r"not complete within 0\.3 s"):
            files.read(url)
        assert time.monotonic() - started < 2
        stop.set()


def test_pixels_are_upright_in_rgb_and_on_white():
    upright = Image.new("RGB", (4, 2), (1, 2, 3))
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    upright.save(turned, "PNG", exif=exif)
    assert decode(turned.getvalue(), reference="a").size == (2, 4)
    clear = decode(png(mode="RGBA", colour=(9, 9, 9, 0)), reference="a")
    assert (clear.mode, clear.getpixel((0, 0))) == ("RGB", (255, 255, 255))
    assert decode(png(mode="L", colour=7), reference="a").getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<svg></svg>", "image a.png: not an image; give one of PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "not an image"),
        (b"", "not an image"),
        (png((64, 64))[:-30], "image a.png: damaged"),
        (claiming(8000, 8000), r"image a.png: 8000x8000 pixels, allowed 50000000"),
        (claiming(2**30, 2**30), "pixels, allowed"),
    ],
)
@pytest.mark.filterwarnings("default::PIL.Image.DecompressionBombWarning")
def test_what_is_no_usable_image_is_refused_with_its_name(content, words):
    with pytest.raises(ConfigError, match=words):
        decode(content, reference="a.png")


def test_the_limit_of_pixels_is_one_of_the_stored_picture(monkeypatch):
    monkeypatch.setattr(decoding, "MAX_PIXELS", 16)
    assert decode(png((4, 4)), reference="a").size == (4, 4)
    with pytest.raises(ConfigError, match="17x1 pixels"):
        decode(png((17, 1)), reference="a")


def test_a_relative_path_is_relative_to_the_folder_of_its_data(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_bytes(png())
    assert resolved("a.png", tmp_path) == str(tmp_path / "a.png")
    assert resolved(str(tmp_path / "a.png"), None) == str(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    assert resolved("a.png", tmp_path.relative_to(tmp_path)) == str(tmp_path / "a.png")
    assert resolved("HTTPS://a.test/b.png", None) == "HTTPS://a.test/b.png"


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("gone.png", r"image .*gone\.png: there is no such file"),
        ("file:///etc/passwd", "give a path, or a URL of http or https"),
        ("data:image/png;base64,AAAA", "give a path, or a URL of http or https"),
        ("https:///a.png", "write it as https://host/path"),
        ("http://2130706433/a.png", "four decimal numbers"),
    ],
)
def test_a_reference_that_cannot_be_one_is_refused_when_it_is_read(tmp_path, reference, words):
    with pytest.raises(ConfigError, match=words):
        resolved(reference, tmp_path)


def test_without_a_folder_a_relative_path_is_refused():
    with pytest.raises(ConfigError, match="give a whole path"):
        resolved("a.png", None)
