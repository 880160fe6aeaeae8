"""What befalls the parts of the set, one after the other, in an order that a seed decides."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from tests.soak.surroundings import Service, Surroundings
from tests.support.servers import PostgresServer

Fault = Callable[[Surroundings], None]

# Seconds that something hangs: longer than it takes anybody to notice.
HUNG = 3.0


def _kill_service(number: int) -> Fault:
    def fault(these: Surroundings) -> None:
        these.services[number].kill()
        these.services[number].start()

    return fault


def _restart(service: Service) -> None:
    service.end()
    service.start()


def _hang_service(these: Surroundings) -> None:
    these.services[0].hang()
    time.sleep(HUNG)
    these.services[0].hang(signal.SIGCONT)


def _restart_primary(these: Surroundings) -> None:
    these.primary.stop()
    # One that was a standby has nobody to follow any more.
    PostgresServer.start(these.primary)


def _hang_primary(these: Surroundings) -> None:
    these.primary.hang()
    time.sleep(HUNG)
    these.primary.resume()


def _hang_standby(these: Surroundings) -> None:
    these.standby.hang()
    time.sleep(HUNG)
    these.standby.resume()


def _kill_standby(these: Surroundings) -> None:
    these.standby.kill()
    time.sleep(1)
    these.standby.start()


def _kill_pooler(these: Surroundings) -> None:
    these.pooler.kill()
    these.pooler.start()


def _pause_pooler(these: Surroundings) -> None:
    these.pooler.admin("PAUSE")
    time.sleep(1)
    these.pooler.admin("RESUME")


def _hang_pooler(these: Surroundings) -> None:
    these.pooler.hang()
    time.sleep(HUNG)
    these.pooler.resume()


def _kill_redis(these: Surroundings) -> None:
    former = these.redis.master()
    former.kill()
    these.redis.replaced(former)
    former.start()


def _hang_redis(these: Surroundings) -> None:
    """The former master comes back with all it had, and its run id, before it is told that it is none."""
    former = these.redis.master()
    former.hang()
    these.redis.replaced(former)
    former.resume()


def _hang_redis_shortly(these: Surroundings) -> None:
    server = these.redis.master()
    server.hang()
    time.sleep(0.4)
    server.resume()


def _fail_over_redis(these: Surroundings) -> None:
    these.redis.fail_over()


def _kill_sentinel(these: Surroundings) -> None:
    these.redis.sentinels[0].kill()
    time.sleep(1)
    these.redis.sentinels[0].start()


def _kill_nginx(these: Surroundings) -> None:
    these.nginx.kill()
    these.nginx.start()


FAULTS: dict[str, Fault] = {
    "kill -9 of a service": _kill_service(0),
    "kill -9 of a service with workers": _kill_service(1),
    "kill -9 of a worker": lambda these: these.services[1].kill_worker(),
    "a service hangs": _hang_service,
    "PostgreSQL fails over": lambda these: these.fail_over_postgres(),
    "PostgreSQL is restarted": _restart_primary,
    "PostgreSQL hangs": _hang_primary,
    "the standby hangs": _hang_standby,
    "kill -9 of the standby": _kill_standby,
    "kill -9 of PgBouncer": _kill_pooler,
    "PgBouncer pauses": _pause_pooler,
    "PgBouncer hangs": _hang_pooler,
    "kill -9 of Redis, and a fail-over": _kill_redis,
    "Redis hangs, is replaced and comes back": _hang_redis,
    "Redis hangs shortly": _hang_redis_shortly,
    "Redis fails over by an administrator": _fail_over_redis,
    "kill -9 of a Sentinel": _kill_sentinel,
    "kill -9 of nginx": _kill_nginx,
}
# What no client may notice.
RESTARTS: dict[str, Fault] = {
    "a rolling restart of a service": lambda these: _restart(these.services[0]),
    "a rolling restart of a service with workers": lambda these: _restart(these.services[1]),
}
