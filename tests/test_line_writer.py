"""The log's lines: written soon, whole and in order, to a file, a pipe and a terminal; nobody waits for a slow reader."""

from __future__ import annotations

import logging
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from referral import line_writer, log
from referral.line_writer import LineWriter
from referral.log import LineHandler, TextFormatter
from tests.support.servers import wait_until
from tests.support.service import ROOT

# The promise: no line lies in the buffer longer than this.
PROMISED = 0.2


def writer_to(descriptor: int) -> LineWriter[str]:
    return LineWriter(descriptor, lambda line: f"{line}\n", lambda count: f"{count} were dropped\n")


@pytest.fixture(params=["file", "pipe", "terminal"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[int, Callable[[int], str]]]:
    """A descriptor to write to, and what reads so many characters of what was written."""
    if request.param == "file":
        into, out = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), os.open(tmp_path / "log", os.O_RDONLY)
    elif request.param == "pipe":
        out, into = os.pipe()
    else:
        out, into = pty.openpty()

    def read(size: int) -> str:
        text = ""
        end = time.monotonic() + 10
        while len(text) < size:
            assert time.monotonic() < end, text
            if select.select([out], [], [], 0.05)[0]:
                # A terminal writes a line break as two characters.
                text += os.read(out, 65_536).decode().replace("\r\n", "\n")
            time.sleep(0.001)
        return text

    yield into, read
    for descriptor in (into, out):
        os.close(descriptor)


def test_lines_are_written_within_a_fifth_of_a_second_in_their_order(ends: tuple[int, Callable[[int], str]]) -> None:
    into, read = ends
    writer = writer_to(into)
    took = []
    for batch in range(3):
        lines = [f"{batch} {number}" for number in range(250)]
        for line in lines:
            writer.put(line)
        expected = "".join(f"{line}\n" for line in lines)
        began = time.monotonic()
        assert read(len(expected)) == expected
        took.append(time.monotonic() - began)
    # Twice that, for a machine that is busy with other tests and may stand still for one of them.
    assert min(took) < 2 * PROMISED + 0.5
    assert line_writer.LINGER < PROMISED
    writer.close(5)


def test_a_flush_writes_everything_at_once(ends: tuple[int, Callable[[int], str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_writer, "LINGER", 60)
    into, read = ends
    writer = writer_to(into)
    assert writer.flush(5), "nothing is to be written"
    writer.put("one")
    assert writer.flush(5)
    assert read(4) == "one\n"
    writer.put("two")
    writer.close(5)
    assert read(4) == "two\n"


def test_long_lines_and_all_characters_arrive_whole(ends: tuple[int, Callable[[int], str]]) -> None:
    into, read = ends
    lines = ["x" * 200_000 if os.isatty(into) is False else "x" * 3_000, "é漢\N{GRINNING FACE}", "lone \ud800"]
    writer = writer_to(into)
    for line in lines:
        writer.put(line)
    expected = f"{lines[0]}\n{lines[1]}\nlone \\ud800\n"
    assert read(len(expected)) == expected
    writer.close(5)


# A reader who does not read


def drained(out: int, writer: LineWriter[Any]) -> list[str]:
    """Everything that the writer has for whoever reads at last."""
    text = b""
    reader = threading.Thread(target=lambda: writer.flush(20))
    reader.start()
    while reader.is_alive() or select.select([out], [], [], 0.05)[0]:
        if select.select([out], [], [], 0.05)[0]:
            text += os.read(out, 65_536)
    reader.join()
    return text.decode().splitlines()


def test_nobody_waits_for_a_reader_who_does_not_read_and_what_was_dropped_is_told(pipe: tuple[int, int]) -> None:
    out, into = pipe
    writer = writer_to(into)
    sent = [f"line {number} {'x' * 100}" for number in range(3 * line_writer.MOST_LINES)]
    for line in sent:
        writer.put(line)
    assert not writer.flush(0.05)
    assert writer.is_stuck
    waiting = len(writer._lines) + len(writer._put_last)
    assert waiting <= line_writer.MOST_LINES + line_writer.AT_ONCE
    lines = drained(out, writer)
    assert not writer.is_stuck
    told = [int(found[1]) for line in lines if (found := re.fullmatch(r"(\d+) were dropped", line))]
    kept = [line for line in lines if "dropped" not in line]
    assert len(kept) + sum(told) == len(sent)
    assert len(told) == 1
    assert kept == sent[: len(kept)], "those that came first, none of them torn"
    # From then on as before.
    writer.put("after")
    assert writer.flush(5)
    assert os.read(out, 100) == b"after\n"
    writer.close(5)


def test_once_the_reader_reads_again_an_end_waits_for_it_as_if_nothing_had_been(pipe: tuple[int, int]) -> None:
    out, into = pipe
    writer = writer_to(into)
    sent = [f"line {number} {'x' * 1_000}" for number in range(500)]
    for line in sent:
        writer.put(line)
    assert not writer.flush(0.3)
    assert writer.is_stuck
    text = os.read(out, 20_000)
    wait_until(lambda: not writer.is_stuck)
    closing = threading.Thread(target=writer.close, args=(20,))
    closing.start()
    while closing.is_alive():
        # Slowly, that the end has to wait.
        time.sleep(0.01)
        text += os.read(out, 65_536) if select.select([out], [], [], 0)[0] else b""
    text += os.read(out, 65_536) if select.select([out], [], [], 0)[0] else b""
    assert text.decode().splitlines() == sent


def test_if_nobody_reads_only_the_first_error_waits(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    out, into = pipe
    handler = LineHandler(into, TextFormatter())
    for number in range(2_000):
        handler.writer.put(f"{number} {'x' * 100}\n")
    waits: list[float] = []
    really = handler.writer.flush

    def flush(timeout: float) -> bool:
        waits.append(timeout)
        return really(timeout)

    monkeypatch.setattr(handler.writer, "flush", flush)
    facts = {"levelno": logging.ERROR, "exc_info": (ValueError, ValueError(), None)}
    for _ in range(3):
        handler.emit(logging.makeLogRecord(facts))
    assert waits == [log.ERROR_TIMEOUT]
    monkeypatch.undo()
    assert len([line for line in drained(out, handler.writer) if "x" * 100 in line]) == 2_000
    handler.close()


def test_a_descriptor_that_does_not_block_loses_nothing(pipe: tuple[int, int]) -> None:
    out, into = pipe
    os.set_blocking(into, False)
    writer = writer_to(into)
    sent = [f"line {number} {'x' * 1_000}" for number in range(500)]
    for line in sent:
        writer.put(line)
    time.sleep(0.3)
    assert drained(out, writer) == sent
    writer.close(5)


def test_what_a_full_disk_refuses_is_written_when_there_is_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(line_writer, "RETRY_PAUSE", 0.05)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    file = tmp_path / "log"
    into = os.open(file, os.O_WRONLY | os.O_CREAT)
    writer = writer_to(into)
    sent = [f"line {number}" for number in range(300)]
    try:
        # In the midst of a line.
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_003, hard))
        for line in sent:
            writer.put(line)
        assert not writer.flush(0.3)
        assert file.stat().st_size == 1_003
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert writer.flush(5)
    assert file.read_text().splitlines() == sent
    writer.close(5)
    os.close(into)


# Several processes and threads

FORKING = """
import os, resource, signal, sys, time
from referral import line_writer
from referral.line_writer import LineWriter
kind = sys.argv[2]
if kind == "no memfd":
    del os.memfd_create
if kind == "full disk":
    line_writer.RETRY_PAUSE = 0.01
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_003, unlimited[1]))
writer = LineWriter(int(sys.argv[1]), lambda line: f"{line}\\n", str)
writer.put("parent before")
children = []
for child in range(4):
    pid = os.fork()
    if pid == 0:
        for number in range(200):
            # From short ones to some that no pipe takes in one piece.
            writer.put(f"{child} {number} " + str(child) * (3 ** (number % 10)))
        assert writer.flush(30)
        os._exit(0)
    children.append(pid)
writer.put("parent after")
if kind == "full disk":
    end = time.monotonic() + 30
    while os.fstat(int(sys.argv[1])).st_size < 100_003:
        assert time.monotonic() < end
        time.sleep(0.02)
    for pid in (0, *children):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, unlimited)
assert writer.flush(30)
assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
"""


@pytest.mark.parametrize("kind", ["pipe", "no memfd", "file", "full disk"])
def test_lines_of_several_processes_are_not_torn_and_none_is_written_twice(kind: str, tmp_path: Path) -> None:
    is_pipe = kind in ("pipe", "no memfd")
    out, into = os.pipe() if is_pipe else (-1, os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    command = [sys.executable, "-c", FORKING, str(into), kind]
    process = subprocess.Popen(command, cwd=ROOT, pass_fds=[into], stderr=subprocess.PIPE)
    os.close(into)
    text = b""
    if is_pipe:
        # Slowly, that it is full again and again.
        while block := os.read(out, 9_000):
            text += block
            time.sleep(0.0005)
        os.close(out)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors.decode()
    lines = (text.decode() if is_pipe else (tmp_path / "log").read_text()).splitlines()
    expected = [f"{child} {number} " + str(child) * (3 ** (number % 10)) for child in range(4) for number in range(200)]
    assert sorted(lines) == sorted([*expected, "parent before", "parent after"])
    for child in "0123":
        own = [line for line in lines if line.startswith(f"{child} ")]
        assert own == [line for line in expected if line.startswith(f"{child} ")], "each process's in their order"


def test_a_line_may_be_put_and_a_flush_asked_for_while_lines_are_made(pipe: tuple[int, int]) -> None:
    """As by a finaliser that logs, when Python collects garbage in the midst of it."""
    out, into = pipe
    told: list[bool] = []

    def render(line: str) -> str:
        if line.isdigit():
            writer.put(f"of {line}")
            if threading.current_thread() is writer._thread:
                told.append(writer.flush(60))
        return f"{line}\n"

    writer = LineWriter(into, render, str)

    # Some lines are made where they are put, the rest in the writer's thread.
    def put() -> None:
        for number in range(250):
            writer.put(str(number))

    putting = threading.Thread(target=put, daemon=True)
    putting.start()
    putting.join(20)
    assert not putting.is_alive()
    flushing = threading.Thread(target=writer.flush, args=(20,))
    flushing.start()
    flushing.join(20)
    lines = os.read(out, 65_536).decode().splitlines()
    assert sorted(lines) == sorted([*map(str, range(250)), *(f"of {number}" for number in range(250))])
    assert told
    assert not any(told)
    writer.close(5)


def test_threads_that_put_the_first_lines_at_once_start_one_writer(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(threading.Thread):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            time.sleep(0.1)
            super().__init__(*arguments, **options)
            started.append(self)

    started: list[threading.Thread] = []
    writer = writer_to(pipe[1])
    together = threading.Barrier(8)

    def put() -> None:
        together.wait()
        # Each of them finds the writer asleep.
        writer._is_awake = False
        writer.put("x")

    putting = [threading.Thread(target=put) for _ in range(8)]
    monkeypatch.setattr(threading, "Thread", Slow)
    for thread in putting:
        thread.start()
    for thread in putting:
        thread.join()
    assert len(started) == 1
    assert writer.flush(5)
    assert os.read(pipe[0], 100) == b"x\n" * 8
    writer.close(5)


def test_no_line_of_several_threads_is_lost(pipe: tuple[int, int]) -> None:
    out, into = pipe
    writer = writer_to(into)
    text = b""

    def put(name: str) -> None:
        for number in range(2_000):
            writer.put(f"{name} {number}")

    threads = [threading.Thread(target=put, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    expected = sorted(f"{name} {number}" for name in "abcd" for number in range(2_000))
    while text.count(b"\n") < len(expected):
        assert select.select([out], [], [], 10)[0]
        text += os.read(out, 65_536)
    for thread in threads:
        thread.join()
    assert sorted(text.decode().splitlines()) == expected
    writer.close(5)
