#!/usr/bin/env python3
"""Runs the referral service and its commands: `python run.py --help`."""

import argparse
import asyncio
import getpass
import logging
import os
import re
import resource
import socket
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

from referral.config import Config, ConfigError, load_config
from referral.database import DatabaseUnavailable
from referral.database.migrate import MigrationError, break_lock, migrate
from referral.log import configure_logging
from referral.queries.audit import EventName


class Stop(Exception):
    """The command cannot go on; the message is one line for the person who called it."""


def serve(config: Config, arguments: argparse.Namespace) -> None:
    """migrate, then serve until SIGINT or SIGTERM"""
    from referral.auth.tokens import open_signer

    applied = migrate(config.database.url)
    if applied:
        logging.getLogger("referral").info("migrated: %s", ", ".join(applied))
    # Made here, that a secret which cannot be kept is known before anything listens, and that workers agree on one.
    open_signer(config)
    _allow_many_connections()
    listener = _listen(config)
    port = listener.getsockname()[1]
    host = config.server.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    banner = f"Serving on {address} - documentation: {address}/docs (Ctrl+C stops)"
    if config.server.workers > 1:
        from referral.workers import serve_workers

        serve_workers(config, listener, lambda: load_config(arguments.config), lambda: print(banner, flush=True))
        return
    # Imported here: workers import them themselves.
    import uvloop

    from referral.app import create_app
    from referral.web.server import serve_until_stopped

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve_until_stopped(create_app(config), listener, lambda: print(banner, flush=True)))


def _allow_many_connections() -> None:
    # Each is an open file; many systems begin with 1,024 and allow far more to whoever asks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        # Without what create_server adds: the address is in the line already.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise Stop(f"server.host, server.port: cannot listen on {host} port {port}: {reason}") from None


def migrate_command(config: Config, arguments: argparse.Namespace) -> None:
    """bring the database to this version's schema"""
    if arguments.break_lock:
        break_lock(config.database.url)
        print("The migration lock is taken away.")
    applied = migrate(config.database.url)
    print("\n".join(f"applied {name}" for name in applied) or "Nothing to apply.")


def create_superuser(config: Config, arguments: argparse.Namespace) -> None:
    """make an account with the role admin; the password is asked for, or read from standard input"""
    from referral.commands.accounts import create_admin

    try:
        if sys.stdin is None:
            raise EOFError
        if sys.stdin.isatty():
            password = getpass.getpass("Password: ")
            if password != getpass.getpass("Again: "):
                raise Stop("The passwords are not the same.")
        else:
            line = sys.stdin.buffer.readline()
            if not line:
                raise EOFError
            password = line.decode().rstrip("\r\n")
    except EOFError:
        raise Stop("No password was given.") from None
    except UnicodeDecodeError:
        raise Stop("The password is not UTF-8.") from None
    migrate(config.database.url)
    email = asyncio.run(create_admin(config, arguments.email, arguments.username, password))
    print(f"{email} is an admin now.")


def rotate_signing_keys(config: Config, arguments: argparse.Namespace) -> None:
    """make a new key that signs access tokens; the one before is accepted until the next time"""
    from referral.auth.signing_keys import rotate_keys

    file = rotate_keys(config.auth)
    print(
        f"{file} is a new key. Restart the service or, with several workers, send it SIGHUP to take it up. "
        "Tokens of the key before stay valid until the next rotation."
    )


def list_outbox(config: Config, arguments: argparse.Namespace) -> None:
    """list the mail that waits and the mail that failed, and why"""
    from referral.clock import rfc_3339
    from referral.commands.accounts import list_mail
    from referral.mail.compose import mask

    mails = asyncio.run(list_mail(config))
    if not mails:
        print("Nothing waits, nothing failed.")
        return
    line = "{:36}  {:14}  {:26}  {:>8}  {:20}  {}"
    print(line.format("ID", "KIND", "RECIPIENT", "ATTEMPTS", "NEXT ATTEMPT", "LAST ERROR"))
    for mail in mails:
        due = "failed" if mail.failed_at else rfc_3339(mail.next_attempt_at)
        print(line.format(mail.id, mail.kind, mask(mail.recipient), mail.attempts, due, mail.last_error or "").rstrip())


def retry_outbox(config: Config, arguments: argparse.Namespace) -> None:
    """make all failed mail due again, or the mails that are named"""
    from referral.commands.accounts import retry_mail

    count = asyncio.run(retry_mail(config, arguments.ids))
    print(f"{count} {'mail is' if count == 1 else 'mails are'} due now.")


def print_audit(config: Config, arguments: argparse.Namespace) -> None:
    """print the security events, newest first: who did what to whose account, when and from where"""
    import orjson

    from referral.commands.accounts import list_events

    found = asyncio.run(list_events(config, arguments.event, arguments.user, arguments.since, arguments.limit))
    for event in found:
        at = datetime.fromtimestamp(event.at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if arguments.json:
            print(orjson.dumps({**asdict(event), "at": at, "detail": orjson.loads(event.detail)}).decode())
            continue
        by = None if event.actor_id == event.user_id else event.actor_id
        facts = {
            "user": event.user_id,
            "by": by,
            "email": event.email,
            "address": event.address,
            "request": event.request_id,
        }
        words = [f"{name}={value}" for name, value in {**facts, **orjson.loads(event.detail)}.items() if value is not None]
        print(f"{at}  {event.event:23}", *words)
    if not found and not arguments.json:
        print("Nothing such was recorded.")


def moment(text: str) -> int:
    """Milliseconds since 1970 of an ISO 8601 date or time, in UTC unless it says otherwise."""
    try:
        given = datetime.fromisoformat(text)
        return int((given if given.tzinfo else given.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError("must be a date or a time such as 2027-01-31 or 2027-01-31T12:00:00Z") from None


def count(text: str) -> int:
    """A number of lines."""
    if not re.fullmatch(r"[1-9]\d{0,8}", text):
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)


def copy_command(config: Config, arguments: argparse.Namespace) -> None:
    """copy the SQLite database of these settings to PostgreSQL; stop the service first"""
    from referral.config.checks import database_url
    from referral.database.copy import CopyRefused, copy

    problem = database_url(arguments.to)
    if problem:
        raise Stop(f"--to: {problem}")
    try:
        rows = asyncio.run(copy(config.database.url, arguments.to))
    except CopyRefused as refusal:
        raise Stop(str(refusal)) from None
    print(f"{rows} rows are copied and counted. Set database.url to the new address and start the service.")


def back_up_command(config: Config, arguments: argparse.Namespace) -> None:
    """write a backup of the SQLite database to a file, also while the service runs"""
    from referral.database.backup import BackupRefused, back_up

    try:
        rows = back_up(config.database.url, arguments.file, force=arguments.force)
    except BackupRefused as refusal:
        raise Stop(str(refusal)) from None
    print(f"{rows} rows are in {arguments.file}, verified.")


def restore_command(config: Config, arguments: argparse.Namespace) -> None:
    """make a backup the SQLite database of these settings; stop the service first"""
    from referral.database.backup import BackupRefused, restore

    try:
        rows, before = restore(config.database.url, arguments.file)
    except BackupRefused as refusal:
        raise Stop(str(refusal)) from None
    kept = f" What was there before is {before}." if before else ""
    print(f"{rows} rows are restored from {arguments.file}.{kept} Start the service.")


def print_openapi(config: Config, arguments: argparse.Namespace) -> None:
    """print the OpenAPI document"""
    import orjson

    from referral.app import create_app
    from referral.contract.openapi import build_openapi

    print(orjson.dumps(build_openapi(create_app(config), config), option=orjson.OPT_INDENT_2).decode())


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(description="The referral service. Settings: config.toml, REFERRAL_<SECTION>_<KEY>.")
    top.add_argument("--config", type=Path, metavar="FILE", help="settings laid over config.toml")
    top.set_defaults(command=serve, break_lock=False)
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, function: object) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=function.__doc__, description=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    command("serve", serve)
    migration = command("migrate", migrate_command)
    migration.add_argument("--break-lock", action="store_true", help="first take away the lock of a killed migration")
    superuser = command("createsuperuser", create_superuser)
    superuser.add_argument("email", help="the admin's e-mail address")
    superuser.add_argument("--username", help="the admin's username")
    command("rotate-keys", rotate_signing_keys)
    queue = command("outbox", list_outbox).add_subparsers(title="commands", metavar="COMMAND")
    retry = queue.add_parser("retry", help=retry_outbox.__doc__, description=retry_outbox.__doc__)
    retry.add_argument("ids", nargs="*", metavar="ID", help="mails that `outbox` lists; without any, all that failed")
    retry.set_defaults(command=retry_outbox)
    events = command("audit", print_audit)
    events.add_argument(
        "--event", choices=get_args(EventName), metavar="EVENT", help=f"only {', '.join(get_args(EventName))}"
    )
    events.add_argument(
        "--user", metavar="ID|EMAIL", help="what the user did, and what befell their account or was tried with their address"
    )
    events.add_argument(
        "--since", type=moment, default=0, metavar="TIME", help="a date or a time, in UTC: 2027-01-31T12:00:00Z"
    )
    events.add_argument("--limit", type=count, default=100, metavar="N", help="so many at most (100)")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    copying = command("copy", copy_command)
    copying.description = (
        "Copy the SQLite database of these settings to PostgreSQL, in one transaction: all of it or nothing arrives. "
        "Stop the service first: what it writes while it is copied stays behind. The source is only read."
    )
    copying.add_argument(
        "--to", required=True, metavar="URL", help="postgresql://user@host/name; the password can come by PGPASSWORD, too"
    )
    backup = command("backup", back_up_command)
    backup.description = "Write one moment of the SQLite database to a file, also while the service runs; it is verified."
    backup.add_argument("file", type=Path, metavar="FILE", help="the file to write; only its owner may read it")
    backup.add_argument("--force", action="store_true", help="replace the file if it exists")
    restoring = command("restore", restore_command)
    restoring.description = (
        "Make a backup the SQLite database of these settings. It is verified first and migrated if it is older. What it "
        "replaces is kept beside it as .before-restore. Sessions and mail are restored, too: who signed out since the "
        "backup is signed in again, and mail that waited then is sent again."
    )
    restoring.add_argument("file", type=Path, metavar="FILE", help="the file that `backup` wrote")
    command("openapi", print_openapi)
    return top


def _drop_output() -> None:
    # Python's own last flush must not fail.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> int:
    arguments = parser().parse_args()
    try:
        config = load_config(arguments.config)
        configure_logging(config.log)
        arguments.command(config, arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # As in `run.py openapi | head`: whoever read the output has enough of it.
        _drop_output()
    except (ConfigError, MigrationError, DatabaseUnavailable, Stop, OSError) as error:
        if isinstance(error, OSError):
            # A full disk behind standard output, for one.
            _drop_output()
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
