"""Pictures that requests name by their addresses, fetched so that nobody can make Easel look into the network around it.

Only with --api-enable-requests. A name is resolved once, and all that it resolves to must be public; the connection goes to just that
address, and its other end is looked at again; redirects stay on the host; no proxy, no cookies, no credentials.
"""

import base64
import http.client
import ipaddress
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pydantic import BaseModel

from webui import __version__
from webui.core.errors import BadRequest
from webui.core.image_metadata import open_image

MAX_BYTES = 20 * 2**20
SECONDS = 10.0  # for one picture, redirects included
MAX_REDIRECTS = 3
MAX_ADDRESSES = 16  # in one request
REDIRECTS = (301, 302, 303, 307, 308)
FIRST_FREE_PORT = 1024  # below it only those of the web
EMBEDDING = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")))  # IPv4 within IPv6
FIELDS = ("image", "init_images", "mask", "latent_mask", "firstpass_image", "imageList")  # that hold pictures
Resolve = Callable[[str, int], list[str]]
Connect = Callable[[str, int, float], socket.socket]
Body = TypeVar("Body", bound=BaseModel)


def is_address(text: object) -> bool:
    """Whether a picture is named by its address in the web."""
    return isinstance(text, str) and text[:8].lower().startswith(("http://", "https://"))


def is_public(address: str) -> bool:
    """Whether an IP address is one of the open internet, whatever is wrapped into it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in EMBEDDING):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolved(host: str, port: int) -> list[str]:
    """The addresses of a name. Raises OSError."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def connected(address: str, port: int, timeout: float) -> socket.socket:
    """A connection to an address. Raises OSError."""
    return socket.create_connection((address, port), timeout)


class PictureFetcher:
    """Fetches pictures from the web. The arguments are there for tests, which have no internet."""

    def __init__(self, public: Callable[[str], bool] = is_public, resolve: Resolve = resolved, connect: Connect = connected) -> None:
        self._public, self._resolve, self._connect = public, resolve, connect

    def filled(self, body: Body) -> Body:
        """The body with pictures as base64 where it named addresses. Raises BadRequest."""
        known: dict[str, str] = {}
        changes = {name: self._without_addresses(getattr(body, name), name, known) for name in FIELDS if name in body.model_fields_set}
        return body.model_copy(update=changes) if known else body

    def _without_addresses(self, value: Any, name: str, known: dict[str, str]) -> Any:
        if isinstance(value, list):
            return [self._without_addresses(each, name, known) for each in value]
        if isinstance(value, BaseModel) and hasattr(value, "data"):  # a picture with its name
            return value.model_copy(update={"data": self._without_addresses(value.data, name, known)})
        if isinstance(value, dict):
            return {key: self._without_addresses(each, name, known) if key == "data" else each for key, each in value.items()}
        if not is_address(value):
            return value
        if value not in known:
            if len(known) >= MAX_ADDRESSES:
                raise BadRequest(f"{name}: one request may name {MAX_ADDRESSES} pictures by their addresses; send the others as base64")
            known[value] = base64.b64encode(self.fetch(name, value)).decode("ascii")
        return known[value]

    def fetch(self, name: str, url: str) -> bytes:
        """The bytes of the picture at `url`; `name` is the field that names it. Raises BadRequest, which tells nothing of what is there."""
        try:
            data = self._fetch(name, url)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise BadRequest(f"{name}: the picture could not be fetched ({type(error).__name__}); send it as base64") from None
        open_image(data)
        return data

    def _fetch(self, name: str, url: str) -> bytes:
        parts = urlsplit(url)
        host, port = _place(name, parts)
        addresses = self._resolve(host, port)
        if not addresses or not all(map(self._public, addresses)):
            raise BadRequest(f"{name}: {host[:100]} is not in the open internet; Easel fetches pictures only from there")
        for _ in range(MAX_REDIRECTS + 1):
            status, answer = self._ask(name, parts, host, port, addresses[0])
            if status not in REDIRECTS:
                return answer
            parts = urlsplit(urljoin(parts.geturl(), answer.decode("latin-1")))
            if _place(name, parts) != (host, port):
                raise BadRequest(f"{name}: the address leads to another host; name the picture's own address")
        raise BadRequest(f"{name}: the address leads from one to another too often; name the picture's own")

    def _ask(self, name: str, parts: SplitResult, host: str, port: int, address: str) -> tuple[int, bytes]:
        """The status and the picture, or where a redirect leads."""
        plain = self._connect(address, port, SECONDS)
        timer = threading.Timer(SECONDS, _cut, [plain])  # a slow sender gains nothing by single bytes
        timer.start()
        with closing(plain):
            try:
                peer = str(plain.getpeername()[0])
                if not self._public(peer) or (peer == str(plain.getsockname()[0]) and is_public(peer)):
                    raise BadRequest(f"{name}: {host[:100]} is not in the open internet; Easel fetches pictures only from there")
                secure = parts.scheme.lower() == "https"
                with ssl.create_default_context().wrap_socket(plain, server_hostname=host) if secure else plain as sock:
                    return _exchange(name, parts, host, port, sock)
            finally:
                timer.cancel()


def _cut(sock: socket.socket) -> None:
    """End whatever waits for this connection."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


def _place(name: str, parts: SplitResult) -> tuple[str, int]:
    """Host and port of an address. Raises BadRequest."""
    secure = parts.scheme.lower() == "https"
    try:
        port = parts.port or (443 if secure else 80)
        host = (parts.hostname or "").encode("idna").decode("ascii")
    except (ValueError, UnicodeError):
        host, port = "", 0
    wrong = not host or parts.username is not None or parts.password is not None or parts.scheme.lower() not in ("http", "https")
    if wrong or (port < FIRST_FREE_PORT and port not in (80, 443)):
        raise BadRequest(
            f"{name}: this is no address from which Easel fetches pictures; use http(s)://host/path, without user and password"
        )
    return host, port


def _exchange(name: str, parts: SplitResult, host: str, port: int, sock: socket.socket) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(host, port, timeout=SECONDS)
    connection.sock = sock
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(parts.query, safe='/?%:@!$&()*+,;=~-._')}" if parts.query else ""
    )
    headers = {"User-Agent": f"Easel/{__version__}", "Accept": "image/*", "Accept-Encoding": "identity", "Connection": "close"}
    connection.request("GET", target, headers=headers)
    with closing(connection.getresponse()) as answer:
        if answer.status in REDIRECTS:
            return answer.status, answer.headers.get("Location", "").encode("latin-1", "replace")
        if answer.status != 200:
            raise BadRequest(f"{name}: there is no picture at this address (status {answer.status})")
        data = answer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadRequest(f"{name}: the picture is larger than {MAX_BYTES // 2**20} MiB")
    return 200, data
