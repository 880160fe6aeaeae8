"""What processes are confined to: the permissions of their files, a full disk. Children are, by `preexec_fn`."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/prctl.h, linux/securebits.h, linux/capability.h
PR_SET_SECUREBITS = 28
SECBIT_NOROOT = 1
CAPABILITIES_VERSION_3 = 0x20080522


def bound_by_permissions() -> None:
    """Take root's leave to pass over the permissions of files, now and after execve (capabilities(7))."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        if libc.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) or libc.capset(header, nothing):
            raise OSError(ctypes.get_errno(), "the tests' user cannot give up its capabilities")


def files_limited_to(size: int) -> Callable[[], None]:
    """No file may grow beyond this many bytes: whoever tries is told so, as on a disk that is full."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return limit


@contextmanager
def full_disk(file: Path) -> Iterator[Callable[[], None]]:
    """From the call on until the block ends, the log of this SQLite file cannot grow: what fails is a commit itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = Path(f"{file}-wal").stat().st_size
    try:
        yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
