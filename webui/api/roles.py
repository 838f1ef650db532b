"""Who asks, as the guard notes it in the ASGI scope: a guest may make pictures and see their own, and change nothing."""

from starlette.requests import HTTPConnection

GUEST = "easel.guest"  # key in the scope


def is_guest(connection: HTTPConnection) -> bool:
    """Whether the guard let this one in as a guest."""
    return bool(connection.scope.get(GUEST))
