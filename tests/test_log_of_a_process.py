"""The log as a process writes it: the line of a request, unforeseen errors, SIGTERM, a log that nobody reads."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from referral import log
from referral.log import JsonFormatter, LineHandler, TextFormatter
from tests.support.servers import free_port
from tests.support.service import ROOT, is_ready, run_py, started, status_of

# What a request's line is

SANE = st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="._:/+=@-"), min_size=1, max_size=128)
REQUESTS = st.tuples(
    st.sampled_from(["GET", "POST", "(other)"]),
    st.sampled_from(["/api/v1/codes/{code}", "/", "(none)"]),
    st.integers(100, 599),
    st.floats(0, 100_000),
    SANE,
    # A user, a service key, or nobody in particular.
    st.uuids().map(lambda found: (str(found), None))
    | st.uuids().map(lambda found: (None, str(found)))
    | st.just((None, None)),
    st.none() | st.uuids().map(str),
)


@given(REQUESTS, st.floats(0, 2**33), st.floats(-(2**20), 2**20))
@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()], ids=["text", "json"])
def test_the_quick_line_of_a_request_is_what_logging_makes_of_its_record(
    formatter: TextFormatter | JsonFormatter, request_facts: tuple[Any, ...], ended: float, offset: float
) -> None:
    method, route, status, seconds, request_id, caller, own_id = request_facts
    user_id, key_id = caller
    moment = max(ended + offset, 0.0)
    facts = {"method": method, "route": route, "status": status, "request_id": request_id, "user_id": user_id}
    facts |= {"key_id": key_id, "own_id": own_id}
    record = logging.makeLogRecord(
        {
            "name": log.REQUESTS,
            "levelname": "INFO",
            "levelno": logging.INFO,
            "created": moment,
            "msg": f"{method} {route} {status}",
            "milliseconds": float(f"{seconds * 1000:.1f}"),
            **facts,
        }
    )
    quick = formatter.format_request((moment, method, route, status, seconds, request_id, user_id, key_id, own_id), 0.0)
    slow = formatter.format(record)
    if isinstance(formatter, JsonFormatter):
        assert json.loads(quick) == json.loads(slow)
        assert list(json.loads(quick)) == list(json.loads(slow))
    else:
        # Python writes a large number in another way.
        assert re.sub(r"milliseconds=\S+", "", quick) == re.sub(r"milliseconds=\S+", "", slow)
        assert float(re.search(r"milliseconds=(\S+)", quick)[1]) == record.milliseconds  # type: ignore[index,attr-defined]


def test_a_request_is_stamped_with_the_time_at_which_it_was_answered(pipe: tuple[int, int]) -> None:
    out, into = pipe
    handler = LineHandler(into, JsonFormatter())
    before = time.time()
    answered = time.perf_counter()
    time.sleep(0.3)
    handler.writer.put((answered, "GET", "/", 200, 0.001, "request-1", None, None, None))
    handler.flush()
    document = json.loads(os.read(out, 1_000))
    assert abs(datetime.fromisoformat(document["time"]).timestamp() - before) < 0.2
    handler.close()


# The handler and the process

ERROR = """
import logging, os, signal, sys
from referral.config import load_config
from referral.log import configure_logging
configure_logging(load_config().log)
log = logging.getLogger("referral.test")
log.info("before it")
try:
    raise ZeroDivisionError
except ZeroDivisionError:
    log.exception("unforeseen")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_at_an_unforeseen_error_everything_is_written_before_the_process_goes_on() -> None:
    done = subprocess.run([sys.executable, "-c", ERROR], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    assert "INFO referral.test: before it\n" in done.stderr
    assert "ERROR referral.test: unforeseen\n    Traceback" in done.stderr
    assert done.stderr.endswith("ZeroDivisionError\n")


@contextmanager
def service(folder: Path, stderr: int, **environ: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The service, its log going to a descriptor of the test's."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    settings = {"REFERRAL_SERVER_PORT": str(port), "REFERRAL_LIMITS_ENABLED": "false", **environ}
    with started(folder, lambda: is_ready(address), settings, log=stderr) as process:
        yield process, address


@pytest.mark.parametrize(
    "environ",
    [{}, {"REFERRAL_LOG_FORMAT": "json", "REFERRAL_SERVER_WORKERS": "2", "REFERRAL_CACHE_URL": "none://"}],
    ids=["one worker", "two workers"],
)
def test_after_sigterm_every_request_that_was_answered_is_in_the_log(tmp_path: Path, environ: dict[str, str]) -> None:
    with (tmp_path / "log").open("wb") as file, service(tmp_path, file.fileno(), **environ) as (process, address):
        for _ in range(250):
            assert status_of(f"{address}/nowhere") == 404
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    lines = (tmp_path / "log").read_text().splitlines()
    assert sum("(none) 404" in line for line in lines) == 250
    assert all(json.loads(line) if environ else re.match(r"\d{4}-\d\d-\d\dT", line) for line in lines)


async def test_requests_are_answered_and_the_service_stops_though_nobody_reads_its_log(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    out, into = pipe

    def ask() -> None:
        with service(tmp_path, into, REFERRAL_LOG_LEVEL="debug") as (process, address):
            # A pipe takes 64 KiB: the lines of some four hundred requests.
            for _ in range(1_500):
                assert status_of(f"{address}/nowhere") == 404
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
            # What is left has a bounded time to find a reader.
            assert time.monotonic() - began < 15

    await asyncio.to_thread(ask)
    assert b"(none) 404" in os.read(out, 65_536)


@pytest.mark.parametrize("closed", ["2>&-", "2>/dev/full"])
def test_without_a_place_for_the_log_commands_work_all_the_same(closed: str) -> None:
    # Debugging, that there is something to be logged.
    command = f"REFERRAL_LOG_LEVEL=debug {shlex.join(run_py())} openapi {closed}"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, check=False, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["openapi"].startswith("3.1")
