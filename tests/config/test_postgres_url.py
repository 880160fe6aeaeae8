"""URLs of PostgreSQL: what libpq's say, as asyncpg and psycopg are told it; what asyncpg cannot do is named."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import psycopg.conninfo
import pytest

from referral.config.checks import database_url
from referral.config.postgres_url import PostgresURL, is_postgres_url, parse_postgres_url


def passed(url: PostgresURL) -> dict[str, str]:
    """What asyncpg finds in the URL that it is given."""
    return dict(parse_qsl(urlsplit(url.dsn).query, strict_parsing=True)) if "?" in url.dsn else {}


@pytest.mark.parametrize(
    ("url", "hosts", "rest"),
    [
        ("postgresql://", (), {}),
        ("postgres://localhost", (("localhost", None),), {}),
        ("postgres://u:p@h/n", (("h", None),), {"user": "u", "password": "p", "dbname": "n"}),
        ("postgresql://u@h:6432", (("h", 6432),), {"user": "u"}),
        ("postgresql://u@h:/n", (("h", None),), {"user": "u", "dbname": "n"}),
        (
            "postgresql://p%40ss:w%2Fo:rd@h/na%20me",
            (("h", None),),
            {"user": "p@ss", "password": "w/o:rd", "dbname": "na me"},
        ),
        ("postgresql://u:a+b@h?passfile=/c+d", (("h", None),), {"user": "u", "password": "a+b", "passfile": "/c+d"}),
        ("postgresql://a:1,b,[::1]:3/n", (("a", 1), ("b", None), ("::1", 3)), {"dbname": "n"}),
        ("postgresql:///n?host=a,b&port=1,2", (("a", 1), ("b", 2)), {"dbname": "n"}),
        ("postgresql:///n?host=a,::1&port=6432", (("a", 6432), ("::1", 6432)), {"dbname": "n"}),
        ("postgresql://a,b/n?port=6432", (("a", 6432), ("b", 6432)), {"dbname": "n"}),
        ("postgresql:///n?port=6432", (("", 6432),), {"dbname": "n"}),
        ("postgresql://%2Frun%2Fpostgresql/n", (("/run/postgresql", None),), {"dbname": "n"}),
        ("postgresql:///n?host=/run/postgresql&user=u", (("/run/postgresql", None),), {"dbname": "n", "user": "u"}),
        ("postgresql://u@h/n?user=v&dbname=m", (("h", None),), {"dbname": "m", "user": "v"}),
        (
            "postgresql://h?sslmode=verify-full&sslrootcert=/ca",
            (("h", None),),
            {"sslmode": "verify-full", "sslrootcert": "/ca"},
        ),
        ("postgresql://h?sslcert=/c&sslkey=/k&sslcrl=/l", (("h", None),), {"sslcert": "/c", "sslkey": "/k", "sslcrl": "/l"}),
        ("postgresql://h?ssl=true", (("h", None),), {"sslmode": "require"}),
        ("postgresql:///?service=mine", (), {"service": "mine"}),
    ],
)
def test_where_it_leads_is_what_libpq_takes_it_for(
    url: str, hosts: tuple[tuple[str, int | None], ...], rest: dict[str, str]
) -> None:
    found = parse_postgres_url(url)
    assert found.hosts == hosts
    assert passed(found) == rest
    theirs: dict[str, Any] = psycopg.conninfo.conninfo_to_dict(url)
    assert (theirs.get("host") or "") == ",".join(host for host, _ in hosts)
    ports = [port or "" for _, port in hosts]
    if any(ports):
        listed = str(theirs["port"]).split(",")
        assert listed * (len(ports) if len(listed) == 1 else 1) == [str(port) for port in ports]
    assert {name: value for name, value in theirs.items() if name not in ("host", "port")} == rest


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", {"target": "any", "connect_timeout": 5, "balanced": False, "server": {}, "sockets": ()}),
        ("connect_timeout=3", {"connect_timeout": 3}),
        ("connect_timeout=0", {"connect_timeout": 5}),
        ("connect_timeout=-1", {"connect_timeout": 5}),
        ("target_session_attrs=primary", {"target": "primary"}),
        ("load_balance_hosts=random", {"balanced": True}),
        ("load_balance_hosts=disable", {"balanced": False}),
        ("application_name=one&fallback_application_name=two", {"server": {"application_name": "one"}}),
        ("fallback_application_name=two", {"server": {"application_name": "two"}}),
        ("options=-c%20search_path%3Dapart", {"server": {"options": "-c search_path=apart"}}),
        (
            "keepalives=1&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=20000",
            {
                "sockets": (
                    ("SO_KEEPALIVE", 1),
                    ("TCP_KEEPIDLE", 30),
                    ("TCP_KEEPINTVL", 10),
                    ("TCP_KEEPCNT", 3),
                    ("TCP_USER_TIMEOUT", 20_000),
                )
            },
        ),
        *((f"{harmless}", {}) for harmless in ("channel_binding=prefer", "gssencmode=disable", "client_encoding=UTF8")),
        *(
            (f"{harmless}", {})
            for harmless in ("sslsni=1", "sslcompression=0", "sslcertmode=allow", "max_protocol_version=latest")
        ),
    ],
)
def test_what_a_parameter_means(query: str, expected: dict[str, Any]) -> None:
    url = f"postgresql://u@h/n?{query}" if query else "postgresql://u@h/n"
    assert database_url(url) is None
    found = parse_postgres_url(url)
    assert {name: getattr(found, name) for name in expected} == expected
    assert passed(found) == {"user": "u", "dbname": "n"}
    # libpq, too, takes it.
    psycopg.conninfo.make_conninfo(url, **found.libpq)


def test_of_several_hosts_the_one_that_takes_writes_is_meant_and_each_has_two_seconds() -> None:
    found = parse_postgres_url("postgresql://a,b/n")
    assert (found.target, found.connect_timeout) == ("read-write", 2)
    assert found.libpq == {"target_session_attrs": "read-write", "connect_timeout": 2}
    found = parse_postgres_url("postgresql://a,b/n?target_session_attrs=any&connect_timeout=7")
    assert (found.target, found.connect_timeout) == ("any", 7)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:hunter2@h/n?channel_binding=require", "has channel_binding=require, which the service's driver"),
        ("postgresql://h?gssencmode=require", "has gssencmode=require, which"),
        ("postgresql://h?sslsni=0", "has sslsni=0, which"),
        ("postgresql://h?sslcertmode=require", "has sslcertmode=require, which"),
        ("postgresql://h?client_encoding=latin1", "has client_encoding=latin1, which"),
        ("postgresql://h?min_protocol_version=3.2", "has min_protocol_version=3.2, which"),
        *(
            (f"postgresql://u:hunter2@h/n?{name}=hunter2", f"has {name}, which the service's driver, asyncpg, cannot do")
            for name in (
                "hostaddr",
                "require_auth",
                "replication",
                "requirepeer",
                "sslcrldir",
                "sslkeylogfile",
                "servicefile",
            )
        ),
        ("postgresql://h?colour=red", "has a parameter that PostgreSQL's URLs do not know: colour"),
        ("postgresql://u:hun?ter2@h/n", "has a parameter without a value"),
        ("postgresql://u:p@h?hunter2=x", "has a parameter that PostgreSQL's URLs do not know: one of its parameters"),
        ("postgresql://h?sslmode=on", "has a value of sslmode that it cannot have"),
        ("postgresql://h?target_session_attrs=writable", "has a value of target_session_attrs that it cannot have"),
        ("postgresql://h?load_balance_hosts=yes", "has a value of load_balance_hosts that it cannot have"),
        ("postgresql://h?connect_timeout=soon", "has a value of connect_timeout that it cannot have"),
        ("postgresql://h?keepalives_idle=x", "has a value of keepalives_idle that it cannot have"),
        (
            "postgresql://h?sslrootcert=system&sslmode=require",
            "has sslrootcert=system, for which sslmode must be verify-full",
        ),
        ("postgresql://h?sslmode", "has a parameter without a value"),
        ("postgresql://h?sslmode=require&sslmode=disable", "has a parameter twice"),
        ("postgresql://h:0/n", "has a port that is not between 1 and 65535"),
        ("postgresql://h:65536/n", "has a port that is not between 1 and 65535"),
        ("postgresql://h:port/n", "has a host that is none, or a port that is no number"),
        ("postgresql://[::1/n", "has a host that is none, or a port that is no number"),
        ("postgresql://a,,b/n", "has an empty one among its hosts"),
        ("postgresql://a,b/n?port=1,2,3", "has another number of ports than of hosts"),
        ("postgresql://u:hunter2%@h/n", "has a % that is no percent-encoding"),
        ("postgresql://u:hun@ter2@h/n", "special characters of the user and the password must be percent-encoded"),
        ("postgresql://u:hun/ter2@h/n", "special characters of the user and the password must be percent-encoded"),
        ("postgresql://u:hun#ter2@h/n", "special characters of the user and the password must be percent-encoded"),
        ("postgresql://h/a/b", "special characters of the user and the password must be percent-encoded"),
    ],
)
def test_what_cannot_be_done_is_named_and_nothing_else_of_the_url(url: str, said: str) -> None:
    problem = database_url(url)
    assert problem is not None
    assert said in problem
    assert "hunter2" not in problem


def test_the_systems_authorities_are_trusted_where_that_is_said() -> None:
    found = parse_postgres_url("postgresql://h/n?sslrootcert=system")
    assert "sslrootcert" not in passed(found)
    context = found.tls_context()
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert parse_postgres_url("postgresql://h/n?sslmode=require").tls_context() is None


def test_no_password_is_in_what_an_error_might_show() -> None:
    assert "hunter2" not in repr(parse_postgres_url("postgresql://u:hunter2@h/n?sslpassword=hunter2&sslrootcert=system"))


def test_both_schemes_are_postgresqls() -> None:
    assert is_postgres_url("postgres://h")
    assert is_postgres_url("postgresql://h")
    assert not is_postgres_url("postgresql+asyncpg://h")
