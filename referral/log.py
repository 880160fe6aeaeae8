"""The log: text for people or one JSON object a line, on standard error, written behind (`line_writer.py`).

No message and no traceback keeps an e-mail address. Nobody can forge a line by what they send. In text, control characters
are escaped and tracebacks are indented; in JSON, everything but printable ASCII is escaped.
"""

import json
import logging
import os
import re
import sys
import time
from collections.abc import Callable
from functools import lru_cache

from aiohttp import web

from referral.config.sections import Log
from referral.line_writer import LineWriter
from referral.texts import without_addresses

# Facts of a record beside its message. The first three are in the message of a request, and in JSON they are members, too.
REQUEST = ("method", "route", "status")
FACTS = ("request_id", "milliseconds", "user_id", "key_id", "own_id")

# Line breaks of any kind, control characters, marks that turn the direction of writing, and lone surrogates.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")

# Seconds that the log's reader has to take everything after an unforeseen error, and at the end.
ERROR_TIMEOUT = 0.5
END_TIMEOUT = 2.0

REQUESTS = "referral.requests"
# An answered request: when (time.perf_counter()), method, route, status, seconds, request id, who is signed in, which
# service key calls, and the service's own id of the request if the request id is the client's. Each value is the service's
# own or was checked (`web/middlewares.py`): none needs an escape.
Answered = tuple[float, str, str, int, float, str, str | None, str | None, str | None]
LogRequest = Callable[[Answered], None]


def escape(text: str) -> str:
    r"""The text on one line: `\n`, `\x1b` or `\u2028` for each character that is not to be printed."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@lru_cache(maxsize=2)  # Of a second there are many.
def _to_the_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


class TextFormatter(logging.Formatter):
    """A line for people: time (UTC), level, logger, message, then the facts as name=value; a traceback indented below."""

    def format(self, record: logging.LogRecord) -> str:
        message = without_addresses(record.getMessage())
        words = [
            f"{_to_the_second(int(record.created))}Z {record.levelname} {record.name}: {message}",
            *(f"{name}={value}" for name in FACTS if (value := getattr(record, name, None)) is not None),
        ]
        lines = [" ".join(words)]
        if record.exc_info:
            lines += without_addresses(self.formatException(record.exc_info)).split("\n")
        return "\n    ".join(map(escape, lines))

    def format_request(self, answered: Answered, offset: float) -> str:
        """The line of an answered request, the same that `format` makes of its record, in a tenth of the time. `offset` is
        time.time() less time.perf_counter()."""
        ended, method, route, status, seconds, request_id, user_id, key_id, own_id = answered
        user = f" user_id={user_id}" if user_id else f" key_id={key_id}" if key_id else ""
        own = f" own_id={own_id}" if own_id else ""
        return (
            f"{_to_the_second(int(ended + offset))}Z INFO {REQUESTS}: {method} {route} {status} request_id={request_id} "
            f"milliseconds={seconds * 1000:.1f}{user}{own}"
        )


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the facts, and a traceback as a text."""

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": f"{_to_the_second(int(record.created))}.{int(record.created % 1 * 1000):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_addresses(record.getMessage()),
            **{name: value for name in (*REQUEST, *FACTS) if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            document["traceback"] = without_addresses(self.formatException(record.exc_info))
        return json.dumps(document, default=str)

    def format_request(self, answered: Answered, offset: float) -> str:
        """As TextFormatter's."""
        ended, method, route, status, seconds, request_id, user_id, key_id, own_id = answered
        moment = ended + offset
        user = f', "user_id": "{user_id}"' if user_id else f', "key_id": "{key_id}"' if key_id else ""
        own = f', "own_id": "{own_id}"' if own_id else ""
        return (
            f'{{"time": "{_to_the_second(int(moment))}.{int(moment % 1 * 1000):03}Z", "level": "info", '
            f'"logger": "{REQUESTS}", "message": "{method} {route} {status}", "method": "{method}", "route": "{route}", '
            f'"status": {status}, "request_id": "{request_id}", "milliseconds": {seconds * 1000:.1f}{user}{own}}}'
        )


class LineHandler(logging.Handler):
    """Hands each record's line to a writer. After an unforeseen error, everything is written at once."""

    def __init__(self, descriptor: int, formatter: TextFormatter | JsonFormatter) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._format_request = formatter.format_request
        self.writer = LineWriter[str | Answered](descriptor, self._line, self._dropped_line)

    def _line(self, item: str | Answered) -> str:
        if isinstance(item, str):
            return item
        return f"{self._format_request(item, time.time() - time.perf_counter())}\n"

    def _dropped_line(self, count: int) -> str:
        text = f"{count} lines were dropped: whoever reads the log is too slow"
        facts = {"name": __name__, "levelname": "WARNING", "levelno": logging.WARNING, "msg": text}
        return f"{self.format(logging.makeLogRecord(facts))}\n"

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.writer.put(f"{self.format(record)}\n")
        except Exception:
            self.handleError(record)
        # If nobody reads, only the first error waits.
        if record.exc_info and record.levelno >= logging.ERROR and not self.writer.is_stuck:
            self.writer.flush(ERROR_TIMEOUT)

    def flush(self) -> None:
        self.writer.flush(END_TIMEOUT)

    def close(self) -> None:
        self.writer.close(END_TIMEOUT)
        super().close()


def configure_logging(config: Log) -> None:
    """Send everything that is logged from now on to standard error, as configured. Python flushes it when the process
    ends."""
    # If standard error was closed (`2>&-`), its number may by now belong to another file.
    descriptor = sys.stderr.fileno() if sys.stderr else os.open(os.devnull, os.O_WRONLY)
    handler = LineHandler(descriptor, JsonFormatter() if config.format == "json" else TextFormatter())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # These log about themselves at INFO, and every value of every statement at DEBUG.
    for name in ("yoyo", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)


def flush_log() -> None:
    """Have everything written that was logged so far: call this before writing something else, or before a process ends
    without Python's help."""
    for handler in logging.getLogger().handlers:
        handler.flush()


def open_request_log() -> LogRequest | None:
    """The function that logs answered requests, as logging is configured now; None when they are not logged."""
    logger = logging.getLogger(REQUESTS)
    if not logger.isEnabledFor(logging.INFO):
        return None
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            # This bypasses the machinery of `logging`, which takes a fifth of a look-up's time.
            return handler.writer.put

    def log_request(answered: Answered) -> None:
        _, method, route, status, seconds, request_id, user_id, key_id, own_id = answered
        facts = {"method": method, "route": route, "status": status, "request_id": request_id}
        more = {"milliseconds": round(seconds * 1000, 1), "user_id": user_id, "key_id": key_id, "own_id": own_id}
        logger.info("%s %s %d", method, route, status, extra={**facts, **more})

    return log_request


LOG_REQUEST: web.AppKey[LogRequest | None] = web.AppKey("log_request")
