"""Pictures by their addresses: from the open internet alone, however an address is spelled or changes."""

import base64
import io
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from tests.api.conftest import png
from webui.api import fetching
from webui.api import schemas as wire
from webui.api.fetching import PictureFetcher, is_address, is_public
from webui.core.errors import BadRequest

PICTURE = base64.b64decode(png((24, 16)))
HIDDEN = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.5.5", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1"),
    *("198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255", "::1", "::", "fe80::1%eth0", "fc00::1", "ff02::1", "::ffff:127.0.0.1"),
    *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::1", "::127.0.0.1", "2001:db8::1", "no address", ""),
]
SPELLINGS = [
    *(
        "http://127.0.0.1/x.png",
        "http://localhost/x.png",
        "http://LOCALHOST:{port}/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.1/",
    ),
    *(
        "http://0177.0.0.1/",
        "http://0/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]:{port}/",
        "http://127.0.0.1.:1080/",
    ),
    *("http://169.254.169.254/latest/meta-data/", "http://192.168.0.1:8080/", "https://127.0.0.1/", "http://user:pw@127.0.0.1:{port}/"),
    *(
        "http://example.org@127.0.0.1:{port}/",
        "http://127.0.0.1:22/",
        "http://",
        "http:///x",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://a b/",
    ),
    *(
        "HTTP://127.0.0.1:{port}/",
        "http://①②⑦.⓪.⓪.①:{port}/",
        "http://127.0.0.1:{port}\\@example.org/",
        "http://127.0.0.1:{port}#@example.org/",
    ),
]


class Answers(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        kind = self.path.strip("/").partition("?")[0]
        if kind.startswith("to-"):
            self.send_response(302)
            self.send_header("Location", self.server.leads[kind])  # type: ignore[attr-defined]
            self.end_headers()
        elif kind == "missing":
            self.send_error(404)
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write({"text": b"<html>secret</html>", "large": b"x" * 5000}.get(kind, PICTURE))

    def log_message(self, *rest: Any) -> None:
        """Nothing."""


@pytest.fixture
def site() -> Iterator[Any]:
    """A web server on this machine, which a fetcher of these tests takes for the internet."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.asked, server.leads = [], {}  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def url(site: Any) -> str:
    return f"http://pictures.example:{site.server_port}"


def loose(**more: Any) -> PictureFetcher:
    """A fetcher for which this machine is the internet."""
    return PictureFetcher(**{"public": lambda address: True, "resolve": lambda host, port: ["127.0.0.1"], **more})


@pytest.mark.parametrize("address", HIDDEN)
def test_what_is_not_of_the_open_internet_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:2800:220:1::1", "::ffff:8.8.8.8"])
def test_addresses_of_the_open_internet_are(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_no_spelling_reaches_this_machine_or_its_network(site: Any, spelling: str) -> None:
    with pytest.raises(BadRequest) as caught:
        PictureFetcher().fetch("mask", spelling.format(port=site.server_port))
    assert str(caught.value).startswith("mask: ")
    assert site.asked == []


def test_a_picture_is_fetched(site: Any, url: str) -> None:
    assert loose().fetch("mask", f"{url}/x y.png?a=ä") == PICTURE
    assert site.asked == ["/x%20y.png?a=%C3%A4"]


def test_one_hidden_address_among_public_ones_is_enough(site: Any, url: str) -> None:
    fetcher = PictureFetcher(resolve=lambda host, port: ["93.184.216.34", "127.0.0.1"])
    with pytest.raises(BadRequest, match="open internet"):
        fetcher.fetch("mask", url)


def test_a_name_is_resolved_once_so_that_it_cannot_change(site: Any, url: str) -> None:
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    site.leads["to-x"] = "/x.png"
    assert loose(resolve=resolve).fetch("mask", f"{url}/to-x") == PICTURE
    assert asked == ["pictures.example"]


def test_the_other_end_of_the_connection_is_looked_at(site: Any, url: str) -> None:
    def elsewhere(address: str, port: int, timeout: float) -> socket.socket:
        return socket.create_connection(("127.0.0.1", port), timeout)

    fetcher = PictureFetcher(resolve=lambda host, port: ["93.184.216.34"], connect=elsewhere)
    with pytest.raises(BadRequest, match="open internet"):
        fetcher.fetch("mask", url)
    assert site.asked == []


@pytest.mark.parametrize(
    "leads", ["http://other.example/x.png", "http://127.0.0.1/", "https://pictures.example/", "ftp://x/", "http://a@pictures.example/"]
)
def test_redirects_to_other_hosts_are_not_followed(site: Any, url: str, leads: str) -> None:
    site.leads["to-x"] = leads
    with pytest.raises(BadRequest):
        loose().fetch("mask", f"{url}/to-x")
    assert site.asked == ["/to-x"]


def test_redirects_in_a_circle_end(site: Any, url: str) -> None:
    site.leads["to-x"] = "/to-x"
    with pytest.raises(BadRequest, match="too often"):
        loose().fetch("mask", f"{url}/to-x")
    assert len(site.asked) == fetching.MAX_REDIRECTS + 1


def test_what_is_no_picture_is_refused_and_not_shown(url: str) -> None:
    for path in ("text", "missing"):
        with pytest.raises(BadRequest) as caught:
            loose().fetch("mask", f"{url}/{path}")
        assert "secret" not in str(caught.value)


def test_pictures_that_are_too_large_are_not_read(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "MAX_BYTES", 4000)
    with pytest.raises(BadRequest, match="larger than"):
        loose().fetch("mask", f"{url}/large")


def test_a_sender_of_single_bytes_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.6)
    done = threading.Event()

    def dribble(listener: socket.socket) -> None:
        sock, _ = listener.accept()
        with sock:
            while not done.wait(0.1):
                try:
                    sock.sendall(b"H")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=dribble, args=[listener])
        thread.start()
        with pytest.raises(BadRequest, match="could not be fetched"):
            loose().fetch("mask", f"http://slow.example:{listener.getsockname()[1]}/")
        done.set()
        thread.join()


def test_a_body_gets_its_pictures_wherever_it_names_addresses(site: Any, url: str) -> None:
    own = png()
    body = wire.Img2Img(init_images=[f"{url}/a", own, f"{url}/a"], mask=f"{url}/b", prompt=f"{url}/prompt")
    filled = loose().filled(body)
    fetched = base64.b64encode(PICTURE).decode()
    assert (filled.init_images, filled.mask, filled.prompt) == ([fetched, own, fetched], fetched, body.prompt)
    assert site.asked == ["/a", "/b"]
    assert loose().filled(wire.PngInfo(image=f"{url}/c")).image == fetched


def test_one_request_names_a_bounded_number_of_addresses(url: str) -> None:
    with pytest.raises(BadRequest, match="as base64"):
        loose().filled(wire.Img2Img(init_images=[f"{url}/{i}" for i in range(fetching.MAX_ADDRESSES + 1)]))


def test_addresses_are_told_from_base64() -> None:
    assert all(map(is_address, ("http://x", "HTTPS://x")))
    assert not any(map(is_address, (png(), "data:image/png;base64,x", "httpx", "", None, 5)))
    assert Image.open(io.BytesIO(PICTURE)).size == (24, 16)
