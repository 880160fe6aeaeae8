"""nginx and HAProxy in front of two services, by the files that are shipped in `deploy/`: only addresses are those of the
test."""

from __future__ import annotations

from pathlib import Path

from tests.support.servers import NginxServer, Server, program
from tests.support.service import ROOT

DEPLOY = ROOT / "deploy"


def with_addresses(name: str, addresses: dict[str, str]) -> str:
    """The text of a shipped file with addresses in the place of its own. Raises ValueError for one that it does not have."""
    text = (DEPLOY / name).read_text()
    for shipped, address in addresses.items():
        if shipped not in text:
            raise ValueError(f"deploy/{name} does not say {shipped}")
        text = text.replace(shipped, address)
    return text


def _services(ports: tuple[int, int]) -> dict[str, str]:
    return {f" referral-{number}:8000": f" 127.0.0.1:{port}" for number, port in enumerate(ports, 1)}


class NginxBefore(NginxServer):
    """`deploy/nginx.conf`, before services on two ports."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        super().__init__(folder)
        listen = {"listen 8000;": f"listen 127.0.0.1:{self.port};"}
        self.servers = with_addresses("nginx.conf", {**_services(ports), **listen})


class HaproxyBefore(Server):
    """`deploy/haproxy.cfg`, before services on two ports."""

    def __init__(self, folder: Path, ports: tuple[int, int]) -> None:
        super().__init__(folder)
        bind = {"bind :8000": f"bind 127.0.0.1:{self.port}"}
        (folder / "haproxy.cfg").write_text(with_addresses("haproxy.cfg", {**_services(ports), **bind}))

    def command(self) -> list[str]:
        return [program("haproxy", "haproxy", Path("/usr/sbin")), "-db", "-f", "haproxy.cfg"]
