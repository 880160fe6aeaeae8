"""What processes are confined to: the permissions of their files, a full disk, a container's file system and its user.
Children are, by `preexec_fn` or by what is put before their command."""

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

# Any user of the range that OpenShift gives to projects; no system knows its name.
UNKNOWN_USER = 1_000_770_000
# Before a command: it runs as that user, with root's group, where whoever tests is root, and otherwise as who tests. Reading
# is not what is asked here: the tests' Python may be root's own.
AS_UNKNOWN_USER = (
    [
        "setpriv",
        *(f"--reuid={UNKNOWN_USER}", "--regid=0", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    ]
    if os.geteuid() == 0
    else []
)
# Arguments are folders to write to, "--" and a command. Devices are left alone, as they are in a container.
READ_ONLY_BUT = """
while read -r _ point _; do
    case "$point" in
        /proc* | /sys* | /dev*) ;;
        *) mount -o remount,bind,ro "$point" ;;
    esac
done < /proc/self/mounts
while [ "$1" != -- ]; do
    mount -t tmpfs -o mode=1777 none "$1"
    shift
done
shift
exec "$@"
"""


def bound_by_permissions() -> None:
    """Take root's leave to pass over the permissions of files, now and after execve (capabilities(7))."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        header, nothing = (ctypes.c_uint32 * 2)(CAPABILITIES_VERSION_3, 0), (ctypes.c_uint32 * 6)()
        if libc.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) or libc.capset(header, nothing):
            raise OSError(ctypes.get_errno(), "the tests' user cannot give up its capabilities")


def read_only_but(*folders: Path) -> list[str]:
    """Before a command: every file system is read-only for it (mount_namespaces(7)) but these folders, which are empty."""
    as_root = [] if os.geteuid() == 0 else ["--map-root-user"]
    return ["unshare", "--mount", *as_root, "sh", "-ec", READ_ONLY_BUT, "sh", *map(str, folders), "--"]


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
