"""Whether the service of these settings is ready, for the health checks of containers."""

import argparse
import ipaddress
import sys
from contextlib import closing
from http.client import HTTPConnection, HTTPException

from referral.commands import Stop
from referral.config import Config

# Seconds for the answer. The service itself gives the database two.
TIMEOUT = 4.0


def check_health(config: Config, arguments: argparse.Namespace) -> None:
    """Ask the service that runs on this machine with these settings, and print what it says of itself.

    Ends the process with status 1 when it is not ready or does not answer, which is all that health checks know. Raises Stop
    when the settings do not say where it listens.
    """
    server = config.server
    if not server.port:
        raise Stop("server.port: is 0, so that nobody knows which port the service has")
    try:
        # Not by urllib, which would ask the proxy that HTTP_PROXY names.
        with closing(HTTPConnection(_reachable(server.host), server.port, timeout=TIMEOUT)) as connection:
            connection.request("GET", "/health/ready")
            answer = connection.getresponse()
            text = answer.read(1000).decode(errors="replace")
    except (OSError, HTTPException) as error:
        sys.exit(f"{server.host} port {server.port} does not answer: {error}")
    if answer.status != 200:
        sys.exit(text)
    print(text)


def _reachable(host: str) -> str:
    """An address by which a service that listens on this one is reached from here."""
    try:
        # A service that listens on all addresses, of IPv6 too, is reached by IPv4: containers often have no ::1.
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host
    except ValueError:
        return host
