"""A real Redis Sentinel: a master, a replica and the Sentinels that watch them, on free ports, by `deploy/sentinel.conf`."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis as redis_py

from tests.support.servers import RedisServer, Server, program, wait_until
from tests.support.service import ROOT
from tests.support.smtp_server import Certificate

MASTER = "referral"
MEMORY = Path("/dev/shm")
# Milliseconds in the place of the deployed file's: a test does not wait for longer than it has to.
DOWN_AFTER = 1_000
FAILOVER_TIMEOUT = 5_000

CACHING = (ROOT / "docs" / "caching.md").read_text()
REDIS_RIGHTS = CACHING.partition("ACL SETUSER referral on >PASSWORD ")[2].partition("\n")[0]
SENTINEL_RIGHTS = "resetchannels -@all " + CACHING.partition("and need `")[2].partition("`")[0]


@dataclass(frozen=True)
class Access:
    """What servers and Sentinels want of who connects."""

    certificate: Certificate | None
    password: str

    def settings(self, port: int, user: str, rights: str) -> list[str]:
        """Lines that both kinds of servers read; the user may do what `docs/caching.md` says and nothing else."""
        lines = [f"port {port}", "bind 127.0.0.1"]
        if self.certificate:
            files = (f"tls-cert-file {self.certificate.file}", f"tls-key-file {self.certificate.key}")
            authority = f"tls-ca-cert-file {self.certificate.file}"
            lines = [f"tls-port {port}", "port 0", "bind 127.0.0.1", "tls-replication yes", *files, authority]
        if self.password:
            lines.append(f'user {user} on ">{self.password}" {rights}')
            # By the same password as the default user, which Redis and its Sentinels use among themselves.
            lines += [f'requirepass "{self.password}"']
        return lines

    def client(self, port: int) -> Any:
        options: dict[str, Any] = {"password": self.password or None, "protocol": 2}
        if self.certificate:
            file, key = str(self.certificate.file), str(self.certificate.key)
            options |= {"ssl": True, "ssl_ca_certs": file, "ssl_certfile": file, "ssl_keyfile": key}
        return redis_py.Redis(host="127.0.0.1", port=port, socket_timeout=0.5, decode_responses=True, **options)


class Watched(RedisServer):
    """A Redis whose file of settings Sentinels rewrite, so that it is after a restart what it was before."""

    def __init__(self, folder: Path, access: Access, master: Watched | None = None) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.access = access
        lines = [
            *access.settings(self.port, "referral", REDIS_RIGHTS),
            'save ""',
            f"dir {folder}",
            "repl-diskless-sync-delay 0",
        ]
        if access.password:
            lines.append(f'masterauth "{access.password}"')
        if master:
            lines.append(f"replicaof 127.0.0.1 {master.port}")
        self.file = folder / "redis.conf"
        self.file.write_text("\n".join([*lines, ""]))

    def command(self) -> list[str]:
        return [program("redis-server", "redis-server"), str(self.file)]

    def role(self) -> str | None:
        """`master` or `slave`; None while it does not answer."""
        return self._replication().get("role")

    def is_following(self) -> bool:
        facts = self._replication()
        return facts.get("role") == "slave" and facts["master_link_status"] == "up"

    def run_id(self) -> str:
        with self.access.client(self.port) as client:
            return str(client.info("server")["run_id"])

    def _replication(self) -> dict[str, Any]:
        with contextlib.suppress(redis_py.RedisError), self.access.client(self.port) as client:
            return dict(client.info("replication"))
        return {}


class Sentinel(Server):
    """One Sentinel, with the deployed settings but for addresses and times."""

    def __init__(self, folder: Path, access: Access, master: Watched, quorum: int) -> None:
        folder.mkdir()
        super().__init__(folder)
        self.access = access
        text = (ROOT / "deploy" / "sentinel.conf").read_text()
        for deployed, tested in {
            "port 26379": "\n".join([*access.settings(self.port, "watcher", SENTINEL_RIGHTS), f"dir {folder}"]),
            "redis-1 6379 2": f"127.0.0.1 {master.port} {quorum}",
            f"down-after-milliseconds {MASTER} 5000": f"down-after-milliseconds {MASTER} {DOWN_AFTER}",
            f"failover-timeout {MASTER} 30000": f"failover-timeout {MASTER} {FAILOVER_TIMEOUT}",
        }.items():
            assert text.count(f"{deployed}\n") == 1, deployed
            text = text.replace(f"{deployed}\n", f"{tested}\n")
        self.file = folder / "sentinel.conf"
        self.file.write_text(text + (f'sentinel auth-pass {MASTER} "{access.password}"\n' if access.password else ""))

    def command(self) -> list[str]:
        return [program("redis-sentinel", "redis-sentinel"), str(self.file)]

    def ask(self, *command: str) -> Any:
        """What this Sentinel answers; None while it does not."""
        with contextlib.suppress(redis_py.RedisError), self.access.client(self.port) as client:
            return client.execute_command(f"SENTINEL {command[0]}", *command[1:])
        return None

    def master_port(self) -> int | None:
        address = self.ask("GET-MASTER-ADDR-BY-NAME", MASTER)
        return address and int(address[1])


class RedisSentinel:
    """`with RedisSentinel() as redis`: two servers, of which one is the master, and the Sentinels, once all of them
    know each other. Each may be killed, hung and started by itself.

    With a `certificate`, all of them speak TLS, and let in who has this certificate, too. With a `password`, each of them
    wants it, as that of the user `referral` where Redis asks, and of `watcher` where a Sentinel does.
    """

    def __init__(self, sentinels: int = 3, *, certificate: Certificate | None = None, password: str = "") -> None:
        self.access = access = Access(certificate, password)
        # In memory: a Sentinel that waits for a busy disk takes a healthy master for dead.
        self._folder = folder = Path(tempfile.mkdtemp(prefix="referral-sentinel-", dir=MEMORY if MEMORY.is_dir() else None))
        first = Watched(folder / "first", access)
        self.servers = (first, Watched(folder / "second", access, first))
        quorum = sentinels // 2 + 1
        self.sentinels = [Sentinel(folder / f"sentinel-{number}", access, first, quorum) for number in range(sentinels)]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        scheme, options, user = "redis+sentinel", [], ""
        if self.access.certificate:
            scheme = "rediss+sentinel"
            file, key = self.access.certificate.file, self.access.certificate.key
            options += [f"ca={file}", f"cert={file}", f"key={key}"]
        if self.access.password:
            user = f"referral:{quote(self.access.password, safe='')}@"
            options += ["sentinel_user=watcher", f"sentinel_password={quote(self.access.password, safe='')}"]
        return f"{scheme}://{user}{hosts}/{MASTER}/0{'?' if options else ''}{'&'.join(options)}"

    def __enter__(self) -> Self:
        try:
            for server in (*self.servers, *self.sentinels):
                server.start()
            # Half a minute is what a Sentinel pauses for after its process stood still for two seconds.
            wait_until(self.is_settled, 60)
        except BaseException:
            print(self.logs())
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for server in (*self.sentinels, *self.servers):
            server.kill()
        shutil.rmtree(self._folder)

    def logs(self) -> str:
        """What the Sentinels have said lately: which master they meant when can be told by nothing else."""
        return "\n".join(file.read_text()[-3000:] for file in sorted(self._folder.glob("sentinel-*/server.log")))

    def master(self) -> Watched:
        """The server that the latest fail-over made the master. Raises when no Sentinel answers."""
        known = [(state["config-epoch"], state["port"]) for sentinel in self.sentinels if (state := _state(sentinel))]
        _, port = max(known)
        return next(server for server in self.servers if server.port == port)

    def replica(self) -> Watched:
        """The server that is not the master."""
        master = self.master()
        return next(server for server in self.servers if server is not master)

    def is_settled(self) -> bool:
        """Whether one server follows the other, and all Sentinels know of all and agree on which is the master: only then
        can they replace it."""
        states = [_state(sentinel) for sentinel in self.sentinels]
        return (
            all(
                state
                and state["flags"] == "master"
                and state["num-other-sentinels"] == len(self.sentinels) - 1
                and state["num-slaves"] == 1
                for state in states
            )
            and len({state["port"] for state in states if state}) == 1
            and self.master().role() == "master"
            and self.replica().is_following()
            and all(_replica_is_well(sentinel) for sentinel in self.sentinels)
        )

    def settle(self, seconds: float = 60.0) -> None:
        """Wait until everything is as after a start; a former master takes about ten seconds to become the replica."""
        wait_until(self.is_settled, seconds)

    def fail_over(self) -> Watched:
        """Have the Sentinels make the replica the master, as an administrator does, and return it once they agree."""
        former = self.master()
        wait_until(lambda: any(sentinel.ask("FAILOVER", MASTER) for sentinel in self.sentinels))
        return self.replaced(former)

    def replaced(self, former: Watched) -> Watched:
        """The new master, once all Sentinels that answer name another one than the former."""

        def is_replaced() -> bool:
            ports = {port for sentinel in self.sentinels if (port := sentinel.master_port())}
            return len(ports) == 1 and former.port not in ports

        wait_until(is_replaced, 30)
        return next(server for server in self.servers if server is not former)


def _state(sentinel: Sentinel) -> dict[str, Any] | None:
    state = sentinel.ask("MASTER", MASTER)
    return state if isinstance(state, dict) else None


def _replica_is_well(sentinel: Sentinel) -> bool:
    replicas = sentinel.ask("SLAVES", MASTER)
    return bool(replicas) and all(replica["flags"] == "slave" for replica in replicas)
