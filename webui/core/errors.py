"""The error tree: every error that a user may read. The text says what is wrong, what was expected, what to do.

EaselError
├── BadRequest          the request cannot be carried out as it is (HTTP 422)
│   ├── MissingModel    a model, picture or job that is named does not exist (HTTP 404)
│   └── BadModelFile    a model file is damaged, unsafe or of a kind that Easel cannot use (HTTP 422)
├── NotAllowed          the asker does not own what they ask for (HTTP 403)
├── TooLate             the job has gone on, so that this cannot be done to it any more (HTTP 409)
├── Busy                the queue is full (HTTP 503)
├── OutOfMemory         device or main memory ran out (HTTP 507)
├── StorageError        a file could not be written (HTTP 507)
└── EngineError         generation failed for a reason that is not the user's (HTTP 500)
"""


class EaselError(Exception):
    """Base of all errors whose text is meant for the user; `status` is the HTTP status that tells it."""

    status = 500


class BadRequest(EaselError):
    status = 422


class MissingModel(BadRequest):
    status = 404


class BadModelFile(BadRequest):
    pass


class NotAllowed(EaselError):
    status = 403


class TooLate(EaselError):
    status = 409


class Busy(EaselError):
    status = 503


class OutOfMemory(EaselError):
    status = 507


class StorageError(EaselError):
    status = 507


class EngineError(EaselError):
    pass


def error_of(name: str, sentence: str, status: int) -> EaselError:
    """An error that was told by its class's name and its HTTP status; EngineError where there is no such class."""
    kinds = (kind for kind in globals().values() if isinstance(kind, type) and issubclass(kind, EaselError) and kind.__name__ == name)
    error = next(kinds, EngineError)(sentence)
    error.status = status if 400 <= status < 600 else EngineError.status
    return error
