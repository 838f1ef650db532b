"""Who gets in: passwords, sessions of browsers, and how often one client may try or ask."""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
import secrets
import time
from collections import deque

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from webui.core.passwords import store
from webui.core.settings import Credentials

SESSION_SECONDS = 14 * 24 * 3600
WRONG_PASSWORDS = 20  # per client in WINDOW seconds
WINDOW = 60.0
MAX_CLIENTS = 10_000  # clients that are remembered
BURST = 10.0  # seconds' worth of requests that a client may send at once


class Door:
    """One set of users. Passwords are kept as slow sums; those that opened the door are known again by keyed ones of this process."""

    def __init__(self, credentials: Credentials) -> None:
        self._key = secrets.token_bytes(32)
        self._credentials = credentials
        self._nobody = store(secrets.token_hex(16)) if credentials else None  # so that unknown users take as long as known ones
        self._opened: set[bytes] = set()  # at most one for each user and password

    @property
    def locked(self) -> bool:
        """Whether anybody has to say who they are."""
        return bool(self._credentials)

    def remembers(self, user: str, password: str) -> bool:
        """Whether they have opened the door before; quick."""
        given = self._sum(user, password)
        return sum(hmac.compare_digest(given, known) for known in self._opened) > 0  # all are compared, whichever matches

    async def opens(self, user: str, password: str) -> bool:
        """Whether user and password are right; takes some 30 ms, in a thread, the first time."""
        return self.remembers(user, password) or await run_in_threadpool(self._try, user, password)

    def _try(self, user: str, password: str) -> bool:
        if self._nobody is None:
            return False
        name = user.encode("utf-8", "surrogatepass")
        stored = [one for known, one in self._credentials if hmac.compare_digest(known.encode("utf-8", "surrogatepass"), name)]
        if not sum([one.fits(password) for one in stored or [self._nobody]]) or not stored:
            return False
        self._opened.add(self._sum(user, password))
        return True

    def _sum(self, user: str, password: str) -> bytes:
        name = user.encode("utf-8", "surrogatepass")
        secret = password.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, b"%d:%b%b" % (len(name), name, secret), hashlib.sha256)


class Sessions:
    """Logins as signed cookies: end of validity (s of the process's clock, which nobody can set), role, and their signature."""

    def __init__(self, cookie: str) -> None:
        self.cookie = cookie  # holds the port: browsers share cookies between the ports of a host
        self._key = secrets.token_bytes(32)

    def start(self, answer: Response, role: str, secure: bool) -> None:
        """Give the browser a session of somebody with this role."""
        told = f"{int(time.monotonic()) + SESSION_SECONDS}.{role}"
        value = f"{told}.{self._sign(told)}"
        answer.set_cookie(self.cookie, value, max_age=SESSION_SECONDS, httponly=True, samesite="lax", secure=secure)

    def role(self, headers: Headers) -> str | None:
        """The role in the cookie of a valid session that came with the request."""
        for crumb in headers.get("cookie", "").split(";"):
            name, _, value = crumb.strip().partition("=")
            told, _, signature = value.rpartition(".")
            if name == self.cookie and hmac.compare_digest(signature.encode("utf-8", "replace"), self._sign(told).encode()):
                end, _, role = told.partition(".")
                return role if int(end) > time.monotonic() else None  # a number: we signed it
        return None

    def _sign(self, text: str) -> str:
        return hmac.new(self._key, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class WrongPasswords:
    """Counts wrong passwords by client over the last WINDOW seconds; further tries are not even looked at until one has aged."""

    def __init__(self) -> None:
        self._times: dict[str, deque[float]] = {}

    def too_many(self, client: str) -> bool:
        times = self._times.get(client)
        while times and times[0] <= time.monotonic() - WINDOW:
            times.popleft()
        return times is not None and len(times) >= WRONG_PASSWORDS

    def wait(self, client: str) -> int:
        """Seconds until the next try is looked at, at least 1."""
        times = self._times.get(client)
        return max(math.ceil(times[0] + WINDOW - time.monotonic()), 1) if times else 1

    def note(self, client: str) -> None:
        if len(self._times) >= MAX_CLIENTS and client not in self._times:
            del self._times[next(iter(self._times))]  # the one that has been here longest
        self._times.setdefault(client, deque()).append(time.monotonic())


class RateLimit:
    """How often one client may ask: `rate` times a second on average, and BURST seconds' worth at once. 0: as often as it likes."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._left: dict[str, tuple[float, float]] = {}  # client -> requests that it may still send, as of a time

    def allows(self, client: str) -> bool:
        """Whether one more request of the client is answered; counts it."""
        if not self._rate:
            return True
        now, most = time.monotonic(), self._rate * BURST
        left, since = self._left.pop(client, (most, now))
        left = min(left + (now - since) * self._rate, most)
        if len(self._left) >= MAX_CLIENTS:
            del self._left[next(iter(self._left))]  # the one that was silent longest
        self._left[client] = (max(left - 1, 0.0), now)
        return left >= 1


def basic_credentials(headers: Headers) -> tuple[str, str] | None:
    """User and password of HTTP Basic; None where there are none, or nothing that can be read."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(text.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def client_of(scope: Scope) -> str:
    """Who asks: an address, or the /64 network of an IPv6 one, since one user has all of that."""
    address = str((scope.get("client") or ("",))[0])
    return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False)) if ":" in address else address


def is_near(scope: Scope) -> bool:
    """Whether a program of this machine asks."""
    try:
        return ipaddress.ip_address(str((scope.get("client") or ("",))[0]).partition("%")[0]).is_loopback
    except ValueError:
        return False
