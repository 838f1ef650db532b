"""A small reverse proxy, as one stands before Easel in a network: takes a prefix off the paths, or leaves it; can be cut off and mended."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

LARGEST_HEAD = 2**16  # bytes


class Proxy:
    """Listens on `address`. Each connection carries one request, or one WebSocket."""

    def __init__(self, target: int, strip: str = "") -> None:
        """target: the port to speak with; strip: what is taken off the beginning of every path."""
        self._target, self._strip = target, strip
        self._cut = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._listen, daemon=True).start()

    def cut(self) -> None:
        """Break all connections and take no more."""
        self._cut = True
        for each in list(self._open):
            _end(each)

    def mend(self) -> None:
        self._cut = False

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self._cut:
                    _end(client)
                else:
                    threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            head, rest = _head_of(client)
            if not head:
                return _end(client)
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open |= {client, server}
            server.sendall(self._passed_on(head) + rest)
            threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
            self._pump(server, client)
        return None

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        for each in (source, sink):
            _end(each)
            self._open.discard(each)

    def _passed_on(self, head: bytes) -> bytes:
        """The head of a request as the server shall see it."""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, path, version = first.split(" ")
        if self._strip and urlsplit(path).path.startswith(self._strip):
            path = path[len(self._strip) :] or "/"
        upgrade = any(line.lower().startswith("upgrade:") for line in lines)
        if not upgrade:
            lines = [line for line in lines if not line.lower().startswith("connection:")] + ["Connection: close"]
        return "\r\n".join([f"{method} {path} {version}", *lines, "", ""]).encode("latin-1")


def _head_of(client: socket.socket) -> tuple[bytes, bytes]:
    """Request line and headers, and what came after them; empty where the client says nothing."""
    data = b""
    while b"\r\n\r\n" not in data and len(data) < LARGEST_HEAD:
        more = client.recv(2**16)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextmanager
def proxy_to(port: int, strip: str = "") -> Iterator[Proxy]:
    made = Proxy(port, strip)
    try:
        yield made
    finally:
        made.close()
