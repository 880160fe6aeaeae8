"""Logging to standard error: text for people, or one JSON object a line.

Nobody forges a line by what they send: in text, control characters are written as escapes and a traceback
is indented; in JSON, everything but printable ASCII is.
"""

import json
import logging
import re
import sys
import time

from referral.config.sections import Log

# Facts of a record beside its message. A request's message has the first three already; in JSON they are members, too.
REQUEST = ("method", "route", "status")
FACTS = ("request_id", "milliseconds", "user_id")

# Line breaks of any kind, what steers a terminal, what turns the direction of writing, and what no encoding can hold.
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def escape(text: str) -> str:
    r"""The text on one line: `\n`, `\x1b` or `\u2028` for each character that is not to be printed."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class TextFormatter(logging.Formatter):
    """A line for people: time (UTC), level, logger, message, then the facts as name=value; a traceback indented below."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        words = [
            f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}Z {record.levelname} {record.name}: {record.getMessage()}",
            *(f"{name}={value}" for name in FACTS if (value := getattr(record, name, None)) is not None),
        ]
        lines = [" ".join(words)]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n    ".join(map(escape, lines))


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the facts, and a traceback as a text."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        document = {
            "time": f"{self.formatTime(record, '%Y-%m-%dT%H:%M:%S')}.{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name in (*REQUEST, *FACTS) if (value := getattr(record, name, None)) is not None},
        }
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, default=str)


def configure_logging(config: Log) -> None:
    """Send everything that is logged from now on to standard error, as configured."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if config.format == "json" else TextFormatter())
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # What these say at INFO is about themselves, and at DEBUG it is every value of every statement.
    for name in ("yoyo", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
