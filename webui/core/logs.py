"""Lines of the log: whatever a message quotes, it can neither begin a line of its own nor steer a terminal."""

import logging
import re

UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")  # controls, line ends, changes of direction


class PlainFormatter(logging.Formatter):
    """Shows control characters in messages as escapes, and those in tracebacks but for their line ends."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = shown(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: "logging._SysExcInfoType") -> str:
        return "\n".join(shown(line) for line in super().formatException(ei).split("\n"))


def shown(text: str) -> str:
    """`text` with what cannot be seen as escapes."""
    return UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def start_log(level: str, form: str) -> None:
    """Log to the standard error, in lines of this form."""
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
