"""A writer of lines that nobody has to wait for (write-behind): lines go to a buffer, and a thread writes many at once.

The buffer is bounded. When whoever reads the lines is too slow, new lines are dropped and counted. Several processes may
share what they write to: they write under a lock between processes, so that no line is torn.

`put` is reentrant. Python may collect garbage wherever an object is made, and a finaliser may log: it then calls `put` in
the midst of another `put` of the same thread.
"""

import contextlib
import fcntl
import functools
import os
import queue
import select
import stat
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")

# Seconds that the thread waits for more once something was put.
LINGER = 0.1
# Lines that wait to be written at most: half a second of the busiest process, some 2 MB.
MOST_LINES = 10_000
# Lines that are made together, in less than a tenth of a millisecond.
AT_ONCE = 100
# Seconds after a write that failed before it is tried again.
RETRY_PAUSE = 1.0


@functools.cache
def _lock_between_processes() -> int:
    """A descriptor to lock, the same in every process that is forked from this one. The lock belongs to a process and ends
    with it (fcntl(2))."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("lines")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


_writers: "weakref.WeakSet[LineWriter[Any]]" = weakref.WeakSet()


class LineWriter(Generic[T]):
    """Writes lines to a file descriptor.

    `render` makes a line of what is put, for many at once: made one by one between other things, the line of a request took
    an eighth of a look-up's time. `dropped_line` makes the line that tells how many were dropped.
    """

    def __init__(self, descriptor: int, render: Callable[[T], str], dropped_line: Callable[[int], str]) -> None:
        self._descriptor = descriptor
        self._render = render
        self._dropped_line = dropped_line
        self._is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._between_processes = _lock_between_processes()
        self._start()
        _writers.add(self)

    def _start(self) -> None:
        """Begin with an empty buffer. A forked process has neither its parent's thread nor its parent's lines."""
        self._put_last: list[T] = []
        self._lines: list[str] = []
        self._making_lines = threading.Lock()
        self._dropped = 0
        self._is_stuck = False
        self._thread: threading.Thread | None = None
        # Whoever locks this starts the thread; it is never unlocked.
        self._starting = threading.Lock()
        # Wakes the thread, and once more if it should not linger. An Event could not be set in the midst of being set.
        self._wake: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_awake = False
        self._closing = threading.Event()
        # Whether everything that was put has been written.
        self._written = threading.Condition()
        self._is_writing = False

    def put(self, item: T) -> None:
        """Have a line written within a fifth of a second. This never waits."""
        self._put_last.append(item)
        # If the lock is taken, lines are being made, perhaps by this very thread.
        if len(self._put_last) >= AT_ONCE and self._making_lines.acquire(blocking=False):
            try:
                self._make_lines()
            finally:
                self._making_lines.release()
        if not self._is_awake:
            self._is_awake = True
            if self._starting.acquire(blocking=False):
                self._thread = threading.Thread(target=self._run, name="lines", daemon=True)
                self._thread.start()
            self._wake.put(None)

    def _make_lines(self) -> None:
        """Make lines of what was put; the caller has locked `_making_lines`."""
        # Others put more at its end meanwhile.
        items = self._put_last[:]
        del self._put_last[: len(items)]
        if len(self._lines) + len(items) > MOST_LINES:
            self._dropped += len(items)
        else:
            self._lines += map(self._render, items)

    @property
    def is_stuck(self) -> bool:
        """Whether the last flush was in vain, and nothing could be written since."""
        return self._is_stuck

    def flush(self, timeout: float) -> bool:
        """Have everything written now. False when that takes longer than so many seconds."""
        if threading.current_thread() is self._thread:
            # A finaliser logs an error in the thread itself.
            return False
        with self._written:
            self._wake.put(None)
            done = self._written.wait_for(
                lambda: not (self._put_last or self._lines or self._dropped or self._is_writing), timeout
            )
            self._is_stuck = not done
            return done

    def close(self, timeout: float) -> None:
        """Flush, unless that has just been in vain, and end the thread."""
        if not self._is_stuck:
            self.flush(timeout)
        self._closing.set()
        self._wake.put(None)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.get()
            # More lines come meanwhile.
            with contextlib.suppress(queue.Empty):
                self._wake.get(timeout=LINGER)
            # First this: what is put after it has the thread come back.
            self._is_awake = False
            self._is_writing = True
            try:
                self._write_out()
            finally:
                with self._written:
                    self._is_writing = self._is_stuck = False
                    self._written.notify_all()

    def _write_out(self) -> None:
        while self._put_last or self._lines or self._dropped:
            with self._making_lines:
                self._make_lines()
                lines, self._lines = self._lines, []
                dropped, self._dropped = self._dropped, 0
            if dropped:
                lines.append(self._dropped_line(dropped))
            self._write(lines)

    def _write(self, lines: list[str]) -> None:
        fcntl.lockf(self._between_processes, fcntl.LOCK_EX)
        try:
            for chunk in self._chunks(lines):
                self._write_whole(chunk)
        finally:
            fcntl.lockf(self._between_processes, fcntl.LOCK_UN)

    def _chunks(self, lines: list[str]) -> Iterator[bytes]:
        """What is written at once. A pipe takes no more than PIPE_BUF bytes as a whole (POSIX, write(2))."""
        if self._is_file:
            yield "".join(lines).encode("utf-8", "backslashreplace")
            return
        chunk = b""
        for line in lines:
            encoded = line.encode("utf-8", "backslashreplace")
            if chunk and len(chunk) + len(encoded) > select.PIPE_BUF:
                yield chunk
                chunk = b""
            chunk += encoded
        yield chunk

    def _write_whole(self, content: bytes) -> None:
        """Write the content to its last byte, however long that takes. A full disk, or a descriptor that would block, is
        tried again."""
        rest = memoryview(content)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
                self._is_stuck = False
            except BlockingIOError:
                select.select([], [self._descriptor], [])
            except OSError:
                if self._closing.wait(RETRY_PAUSE):
                    return


def _restart_in_child() -> None:
    for writer in list(_writers):
        writer._start()


os.register_at_fork(after_in_child=_restart_in_child)
