"""`run.py` as an operator meets it: processes, their output, signals, kills and what is left in the folder."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

import run
from referral.commands import Stop
from referral.config import ConfigError
from tests.conftest import Command, Given
from tests.support.commands import ENVIRON, Service, refusal, run_command, serve
from tests.support.people import API, PASSWORD, read_mails, token_in
from tests.support.servers import listens, wait_until
from tests.support.service import run_py


def test_help_is_there_for_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    commands = ["serve", "migrate", "createsuperuser", "audit", "openapi"]
    for arguments in ([], *([name] for name in commands)):
        with pytest.raises(SystemExit) as ended:
            run.parser().parse_args([*arguments, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert text.startswith("usage: ")
        if not arguments:
            for name in commands:
                assert re.search(rf"^ +{name}\s+\w", text, re.MULTILINE), f"{name} says nothing of itself"
    assert run_command("--help").returncode == 0


def test_serve_answers_and_a_second_start_keeps_secret_and_data(tmp_path: Path) -> None:
    with serve() as first:
        assert first.call("/health/ready") == (200, {"status": "ok", "checks": {"database": "ok", "cache": "ok"}})
        status, alice = first.register("alice")
        assert status == 201
        secret = tmp_path / "var" / "secret"
        # The database's log beside it, too.
        for name in ("secret", "referral.db", "referral.db-wal"):
            assert (tmp_path / "var" / name).stat().st_mode & 0o777 == 0o600
        kept = secret.read_text()
        assert len(kept) >= 32
        assert first.end() == 0
        assert "migrated: 0001.users" in first.errors.read_text()
    with serve() as second:
        assert "migrated" not in second.errors.read_text()
        assert secret.read_text() == kept
        status, me = second.call(f"{API}/users/me", token=alice["access_token"])
        assert (status, me["username"]) == (200, "alice")
        assert second.end(signal.SIGINT) == 0
    assert {path.name for path in (tmp_path / "var").iterdir()} <= {"secret", "referral.db", "referral.db.lock", "mail"}


def test_sigterm_waits_for_the_request_that_was_accepted() -> None:
    # The password takes long enough for the signal to come in the middle.
    with serve(REFERRAL_AUTH_BCRYPT_ROUNDS="13") as service:
        answers: list[tuple[int, Any]] = []
        request = threading.Thread(target=lambda: answers.append(service.register("alice")))
        request.start()
        wait_until(lambda: "referral_requests_in_progress 2.0" in metrics(service))
        # Twice: make passes on the one that it gets, beside the one that its whole process group got.
        service.process.send_signal(signal.SIGTERM)
        assert service.end() == 0
        request.join()
    assert answers[0][0] == 201


def test_a_second_ctrl_c_ends_what_the_first_one_waits_for() -> None:
    with serve() as service, socket.create_connection(address_of(service)) as stalled:
        stalled.sendall(b"POST /api/v1/auth/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n")
        wait_until(lambda: "referral_requests_in_progress 2.0" in metrics(service))
        service.process.send_signal(signal.SIGINT)
        wait_until(lambda: not listens(address_of(service)[1]))
        assert service.end(signal.SIGINT) == 130


def address_of(service: Service) -> tuple[str, int]:
    host, _, port = service.address.removeprefix("http://").rpartition(":")
    return host, int(port)


def metrics(service: Service) -> str:
    with urlopen(f"{service.address}/metrics", timeout=10) as response:
        return str(response.read().decode())


def test_a_port_that_is_taken_is_told_in_one_line_and_another_one_serves_beside_it() -> None:
    with serve() as first:
        port = first.address.rpartition(":")[2]
        # In a folder of its own: in one folder they would be one service.
        line = refusal(run_command(REFERRAL_SERVER_PORT=port, REFERRAL_DATABASE_URL="sqlite:///other/referral.db"))
        assert line == f"server.host, server.port: cannot listen on 127.0.0.1 port {port}: Address already in use"
        with serve(REFERRAL_DATABASE_URL="sqlite:///other/referral.db") as second:
            assert second.address != first.address
            assert first.call("/health/ready")[0] == second.call("/health/ready")[0] == 200


def test_mail_of_a_registration_outlives_a_kill_9(tmp_path: Path) -> None:
    # Nothing can be written below a file: the mail has to wait.
    (tmp_path / "blocked").touch()
    with serve(REFERRAL_MAIL_URL="file:blocked/mail") as service:
        assert service.register("alice")[0] == 201
        assert service.end(signal.SIGKILL) == -signal.SIGKILL
    (tmp_path / "blocked").unlink()
    # The time until the next attempt passes.
    connection = sqlite3.connect("var/referral.db")
    assert connection.execute("UPDATE outbox SET next_attempt_at = 0").rowcount == 1
    connection.commit()
    connection.close()
    with serve(REFERRAL_MAIL_URL="file:mail") as service:
        wait_until(lambda: len(read_mails(tmp_path / "mail")) == 1)
        [mail] = read_mails(tmp_path / "mail", "alice@example.com")
        with urlopen(
            Request(
                f"{service.address}{API}/auth/email/verify",
                data=json.dumps({"token": token_in(mail)}).encode(),
                headers={"Content-Type": "application/json"},
            )
        ) as response:
            assert response.status == 204


def test_createsuperuser_takes_the_password_from_standard_input_and_the_admin_signs_in() -> None:
    made = run_command("createsuperuser", "Root@Example.com", "--username", "root", stdin=f"{PASSWORD}\r\nmore\n".encode())
    assert (made.returncode, made.stdout) == (0, "Root@example.com is an admin now.\n")
    taken = run_command("createsuperuser", "other@example.com", "--username", "ROOT", stdin=PASSWORD.encode())
    assert refusal(taken) == "createsuperuser: the username is taken (read from the command line)"
    with serve() as service:
        status, tokens = service.sign_in("root")
        assert status == 200
        status, me = service.call(f"{API}/users/me", token=tokens["access_token"])
        assert (status, me["role"], me["email"]) == (200, "admin", "Root@example.com")
        assert service.sign_in("root", f"{PASSWORD}\r")[0] == 400


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["no address"], PASSWORD.encode(), " @-sign. (read from the command line)"),
        (["a@example.com", "--username", "x y"], PASSWORD.encode(), "after the first. (read from the command line)"),
        (["a@example.com"], b"short", "password: Must have at least 8 characters. (read from standard input)"),
        (["a@example.com"], b"", "No password was given."),
        (["a@example.com"], b"\n", "password: Must have at least 8 characters. (read from standard input)"),
        (["a@example.com"], b"x" * 2000, "password: Must have at most 1024 characters. (read from standard input)"),
        (["a@example.com"], b"not UTF-8: \xff\xfe", "The password is not UTF-8."),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite"])
async def test_createsuperuser_refuses_wrong_input_in_one_line(
    command: Command, given: Given, arguments: list[str], stdin: bytes, expected: str
) -> None:
    given(stdin)
    with pytest.raises((ConfigError, Stop)) as refused:
        await command("createsuperuser", *arguments)
    # `main` writes the error as it is, which other tests of this file see as a process.
    assert str(refused.value).endswith(expected)
    assert "\n" not in str(refused.value)


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(self, *arguments: str) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [*run_py(), *arguments], env=ENVIRON, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.shown = ""

    def answer(self, prompt: str, text: bytes) -> None:
        while not self.shown.endswith(prompt):
            self.shown += os.read(self.master, 1000).decode()
        # getpass drops what was typed before it switched the echo off.
        time.sleep(0.05)
        os.write(self.master, text)

    def end(self) -> int:
        returned = self.process.wait(20)
        try:
            while rest := os.read(self.master, 1000):
                self.shown += rest.decode()
        except OSError:
            os.close(self.master)
        return returned


def test_createsuperuser_asks_twice_on_a_terminal_and_shows_nothing() -> None:
    terminal = Terminal("createsuperuser", "root@example.com")
    terminal.answer("Password: ", f"{PASSWORD}\n".encode())
    terminal.answer("Again: ", f"{PASSWORD}\n".encode())
    assert terminal.end() == 0, terminal.shown
    assert "root@example.com is an admin now." in terminal.shown
    assert PASSWORD not in terminal.shown


def test_createsuperuser_stops_on_a_terminal_when_the_passwords_differ_or_none_is_given() -> None:
    assert run_command("migrate").returncode == 0
    differing = Terminal("createsuperuser", "root@example.com")
    leaving = Terminal("createsuperuser", "root@example.com")
    differing.answer("Password: ", f"{PASSWORD}\n".encode())
    differing.answer("Again: ", b"something else\n")
    leaving.answer("Password: ", b"\x04")
    assert (differing.end(), leaving.end()) == (2, 2)
    assert "run.py: The passwords are not the same." in differing.shown
    assert "run.py: No password was given." in leaving.shown
    assert "Traceback" not in differing.shown + leaving.shown


def test_openapi_prints_the_document() -> None:
    printed = run_command("openapi")
    document = json.loads(printed.stdout)
    assert document["openapi"] == "3.1.0"
    assert f"{API}/auth/register" in document["paths"]
    assert printed.stderr == ""


def test_a_reader_that_has_enough_is_no_error() -> None:
    program = subprocess.Popen([*run_py(), "openapi"], env=ENVIRON, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout
    assert program.stderr
    program.stdout.close()
    assert program.wait(20) == 0
    assert program.stderr.read() == b""
    program.stderr.close()


def test_an_output_that_cannot_be_written_is_told_in_one_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*run_py(), "openapi"], env=ENVIRON, stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "run.py: [Errno 28] No space left on device\n"


def test_whatever_is_wrong_at_a_start_is_told_in_one_line_and_never_by_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("[server")
    (tmp_path / "corrupt.db").write_bytes(b"this is no database" * 100)
    (tmp_path / "file").touch()
    (tmp_path / "empty.db").touch()
    (tmp_path / "short").mkdir()
    (tmp_path / "short" / "var").mkdir()
    (tmp_path / "short" / "var" / "secret").write_text("short")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "var").touch()
    situations: list[tuple[str, list[str], dict[str, str], str]] = [
        (".", ["--config", "missing.toml"], {}, "--config: cannot be read: No such file or directory"),
        (".", ["--config", "broken.toml", "migrate"], {}, "--config: is not TOML: "),
        (".", [], {"REFERRAL_DATABASE_URL": "sqlite:///corrupt.db"}, "file is not a database"),
        (".", ["migrate", "--break-lock"], {"REFERRAL_DATABASE_URL": "sqlite:///corrupt.db"}, "file is not a database"),
        (".", [], {"REFERRAL_DATABASE_URL": "sqlite:///file/referral.db"}, "file/referral.db: "),
        (".", [], {"REFERRAL_DATABASE_URL": "postgresql://u:a-password@127.0.0.1:1/n"}, "cannot connect to PostgreSQL: "),
        ("short", [], {}, "auth.secret: is shorter than 32 characters"),
        ("blocked", [], {}, "blocked/var/referral.db: "),
        ("blocked", [], {"REFERRAL_DATABASE_URL": "sqlite:///referral.db"}, "auth.secret: cannot be kept in a file: "),
        ("blocked", ["openapi"], {}, "auth.secret: cannot be kept in a file: "),
        (
            ".",
            [],
            {"REFERRAL_SERVER_HOST": "192.0.2.1", "REFERRAL_DATABASE_URL": "sqlite:///0.db"},
            "cannot listen on 192.0.2.1 port 0: ",
        ),
        (
            ".",
            [],
            {"REFERRAL_SERVER_HOST": "a..b", "REFERRAL_DATABASE_URL": "sqlite:///1.db"},
            "cannot listen on a..b port 0: ",
        ),
        (".", [], {"REFERRAL_SERVER_HOST": 70 * "é", "REFERRAL_DATABASE_URL": "sqlite:///2.db"}, "cannot listen on éé"),
        (".", [], {"REFERRAL_SERVRE_PORT": "1"}, "REFERRAL_SERVRE_PORT: is no setting of this service"),
        *(
            (".", arguments, {"REFERRAL_DATABASE_URL": "sqlite:///corrupt.db"}, "file is not a database")
            for arguments in (["admins", "list"], ["outbox"], ["audit"], ["sessions", "end", "x@example.com"])
        ),
        (
            ".",
            [],
            {
                "REFERRAL_AUTH_ALGORITHM": "EdDSA",
                "REFERRAL_AUTH_KEY_FILE": "none.pem",
                "REFERRAL_DATABASE_URL": "sqlite:///3.db",
            },
            "auth.key_file: its file is not there",
        ),
        (".", ["outbox"], {"REFERRAL_DATABASE_URL": "sqlite:///empty.db"}, "lacks what this version needs (0001.users"),
        (".", ["audit"], {"REFERRAL_DATABASE_URL": "sqlite:///empty.db"}, "lacks what this version needs (0001.users"),
        (".", ["createsuperuser", "root@example.com"], {}, "No password was given."),
    ]
    started = [
        subprocess.Popen(
            [*run_py(tmp_path / folder), *arguments],
            env={**ENVIRON, **environ},
            cwd=tmp_path / folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for folder, arguments, environ, _ in situations
    ]
    for process, (_, _, _, expected) in zip(started, situations, strict=True):
        stdout, stderr = process.communicate(timeout=60)
        line = refusal(subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr))
        assert expected in line
        assert "a-password" not in line
    assert not (tmp_path / "3.db").exists(), "a key that cannot be read is known before anything is changed"


def test_an_ipv6_host_is_shown_as_a_url() -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
    with serve(REFERRAL_SERVER_HOST="::1") as service:
        assert service.address.startswith("http://[::1]:")
        assert service.call("/health/live")[0] == 200


@pytest.mark.parametrize("settings", [{}, {"REFERRAL_SERVER_WORKERS": "2", "REFERRAL_CACHE_URL": "none://"}])
def test_every_address_of_both_families_is_the_host_with_two_colons(settings: dict[str, str]) -> None:
    with serve(REFERRAL_SERVER_HOST="::", **settings) as service:
        assert service.address.startswith("http://[::]:")
        port = service.address.rpartition(":")[2]
        for number, host in enumerate(("127.0.0.1", "[::1]", "localhost")):
            service.address = f"http://{host}:{port}"
            assert service.register(f"person{number}")[0] == 201
        # An IPv4 client is known by its own address, for limits and the audit, not by one that is mapped into IPv6.
        registered = [line for line in run_command("audit").stdout.splitlines() if " registered " in line]
        assert {re.findall(r" address=(\S+)", line)[0] for line in registered} >= {"127.0.0.1", "::/64"}
        assert not [line for line in registered if "ffff" in line]


def test_a_host_is_another_s_where_ipv4_has_the_port_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = run_command(REFERRAL_SERVER_HOST="::", REFERRAL_SERVER_PORT=port)
    assert refusal(done) == f"server.host, server.port: cannot listen on :: port {port}: Address already in use"


def test_health_says_what_the_service_says_of_itself_and_fails_when_it_is_not_there() -> None:
    assert refusal(run_command("health")).startswith("server.port: is 0, ")
    with serve() as service:
        port = service.address.rpartition(":")[2]
        done = run_command("health", REFERRAL_SERVER_PORT=port)
        assert (done.returncode, json.loads(done.stdout)["status"]) == (0, "ok")
        assert service.end() == 0
    done = run_command("health", REFERRAL_SERVER_PORT=port)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"127.0.0.1 port {port} does not answer: [Errno 111] Connection refused\n"
    done = run_command("health", REFERRAL_SERVER_PORT=port, REFERRAL_SERVER_HOST="no host")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith(f"no host port {port} does not answer: ")
