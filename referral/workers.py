"""Several worker processes under gunicorn, with aiohttp's uvloop worker.

The master migrates, holds the listening socket and restarts workers that die. On SIGTERM it lets the service leave, then
tells the workers to drain (`web/drain.py`), and ends with 0. On SIGHUP it reads the settings again, all but `server.host`
and `server.port`, and replaces the workers, each of which drains while the others serve: the socket stays open.
"""

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

from aiohttp import GunicornUVLoopWebWorker, web
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger

from referral.auth.tokens import open_signer
from referral.cache import refuse_wrong_server
from referral.commands.signing_keys import claim
from referral.config import Config, ConfigError
from referral.database import DatabaseUnavailable
from referral.database.migrate import MigrationError
from referral.log import configure_logging
from referral.web.drain import Leaving

log = logging.getLogger(__name__)

# Seconds after which gunicorn kills a worker that was told to stop: longer than the worker lets itself take.
GRACEFUL_TIMEOUT = 30
# Seconds without a sign of life after which a worker is replaced.
DEAD_AFTER = 60
# Signals that tell a process to stop.
STOPPING = {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
# Seconds before a worker that could not start for want of the database is replaced.
RESTART_PAUSE = 1.0


class Workers(BaseApplication):  # type: ignore[misc]
    """gunicorn, told what it must know."""

    def __init__(
        self, config: Config, listener: socket.socket, read_config: Callable[[], Config], announce: Callable[[], None]
    ) -> None:
        self._announce = announce
        self._config = config
        self._listener = listener
        self._read_config = read_config
        # Made before any worker is forked, who all read it.
        self.leaving = Leaving()
        super().__init__()

    @property
    def leaving_time(self) -> int:
        """Seconds between SIGTERM and the drain of the workers."""
        return self._config.server.drain

    def run(self) -> None:
        Master(self).run()

    def load_config(self) -> None:
        settings: dict[str, Any] = {
            "bind": f"fd://{self._listener.fileno()}",
            "workers": self._config.server.workers,
            "worker_class": "referral.workers.Worker",
            "graceful_timeout": GRACEFUL_TIMEOUT,
            "timeout": DEAD_AFTER,
            # gunicorn would put a socket for remote control into the working directory.
            "control_socket_disable": True,
            "pre_fork": _hold_signals,
            "child_exit": _forget_metrics,
            "when_ready": lambda arbiter: self._announce(),
            "logger_class": "referral.workers.Log",
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def reload(self) -> None:
        # The master reads the settings before any worker goes: a slip in them must not stop what runs.
        try:
            config = self._read_config()
            if config.cache.url.startswith("memory:"):
                # The lock that such a cache needs is taken at the start; workers that go share nothing with it.
                raise ConfigError("cache.url", "can become memory:// by a restart only", "the settings")
            refuse_wrong_server(config.cache)
            # The keys are read, too: a worker that cannot read them would take the whole service down.
            open_signer(config)
            asyncio.run(claim(config))
            self._config = config
        except (ConfigError, DatabaseUnavailable, MigrationError) as error:
            log.error("the settings stay as they were: %s", error)
        configure_logging(self._config.log)
        super().reload()

    def load(self) -> Callable[[], Any]:
        # This runs in the worker: processes share neither an event loop nor a connection.
        from referral.app import create_app
        from referral.web.server import Runner

        async def make() -> web.AppRunner:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
            return Runner(create_app(self._config, self.leaving))

        return make


class Master(Arbiter):  # type: ignore[misc]
    """gunicorn's master, which lets the service leave before it stops it: from SIGTERM on, workers go on for `server.drain`
    seconds, also while they are being replaced."""

    def __init__(self, workers: Workers) -> None:
        self._service = workers
        # When the workers are to be told, by time.monotonic().
        self._leaves_at = float("inf")
        self._is_reloading = False
        super().__init__(workers)

    def signal(self, number: int, frame: FrameType | None) -> None:
        if number != signal.SIGTERM:
            super().signal(number, frame)
        elif not self._service.leaving.has_begun:
            self._service.leaving.begin()
            self._leaves_at = time.monotonic() + self._service.leaving_time
            self.wakeup()

    def wait_for_signals(self, timeout: float = 1.0) -> list[int]:
        left = max(self._leaves_at - time.monotonic(), 0.01)
        found: list[int] = super().wait_for_signals(min(timeout, left))
        self._leave_if_due()
        return found

    def reload(self) -> None:
        self._is_reloading = True
        super().reload()
        self._is_reloading = False

    def reap_workers(self) -> None:
        super().reap_workers()
        # A reload waits for the workers that go, and looks here again and again.
        if self._is_reloading:
            self._leave_if_due()

    def _leave_if_due(self) -> None:
        if time.monotonic() >= self._leaves_at:
            # gunicorn's way to the end, from wherever it is.
            self._is_reloading = False
            self.handle_term()

    def stop(self, graceful: bool = True) -> None:
        # Ctrl+C comes here, too.
        self._service.leaving.begin()
        super().stop(graceful)

    def kill_worker(self, pid: int, number: int) -> None:
        # Workers stop as gracefully by this signal, and do not hear the other one.
        super().kill_worker(pid, signal.SIGQUIT if number == signal.SIGTERM else number)


class Worker(GunicornUVLoopWebWorker):
    """A worker that leaves its end to the master: systemd sends SIGTERM to each process of a service. One that finds the
    database out when it starts is replaced; gunicorn would stop the whole service."""

    def handle_exit(self, number: int, frame: FrameType | None) -> None:
        return None

    def run(self) -> None:
        try:
            super().run()
        except DatabaseUnavailable as error:
            log.error("worker %d cannot start: %s", os.getpid(), error)
            time.sleep(RESTART_PAUSE)
            sys.exit(1)


class Log(Logger):  # type: ignore[misc]
    """gunicorn's messages through the service's own log, one format for all; requests are logged by the middleware."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        self.error_log = self.access_log = logging.getLogger("gunicorn")

    def access(self, *arguments: Any) -> None:
        return None

    def reopen_files(self) -> None:
        return None

    def close_on_exec(self) -> None:
        return None


def _hold_signals(arbiter: Arbiter, worker: Any) -> None:
    # Before its event loop runs, a worker would lose these signals, and the master would wait in vain for its end.
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def _forget_metrics(arbiter: Arbiter, worker: Any) -> None:
    from prometheus_client import multiprocess

    multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def serve_workers(
    config: Config, listener: socket.socket, read_config: Callable[[], Config], announce: Callable[[], None]
) -> None:
    """Serve on the listening socket until SIGINT or SIGTERM, and end by SystemExit; `announce` is called when it listens."""
    # prometheus_client looks for this when it is imported: the workers' metrics are summed by way of files.
    folder = tempfile.mkdtemp(prefix="referral-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    listener.set_inheritable(True)
    master = os.getpid()
    # This ends what _hold_signals begins. Workers end it themselves, once their event loop runs.
    os.register_at_fork(after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING))
    try:
        Workers(config, listener, read_config, announce).run()
    finally:
        # Workers come through here, too, when they end.
        if os.getpid() == master:
            # A second one, when all is done, must not make it end as if it had been killed.
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            shutil.rmtree(folder, ignore_errors=True)
