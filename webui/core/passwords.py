"""Passwords as Easel keeps them: salted scrypt sums (RFC 7914), never the words themselves."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

COST = 2**14  # N: 16 MB and some 30 ms for one try
BLOCK = 8  # r


@dataclass(frozen=True)
class StoredPassword:
    """By which a password is recognised."""

    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)

    def fits(self, password: str) -> bool:
        """Whether it is this one, in constant time; takes as long for every password."""
        return hmac.compare_digest(_digest(password, self.salt), self.digest)


def store(password: str) -> StoredPassword:
    """What is kept of a password; another one each time."""
    salt = secrets.token_bytes(16)
    return StoredPassword(salt, _digest(password, salt))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode("utf-8", "surrogatepass"), salt=salt, n=COST, r=BLOCK, p=1, maxmem=2**26)
