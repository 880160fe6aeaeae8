#!/usr/bin/env python3
"""Runs the referral service and its commands: `python run.py --help`."""

import argparse
import asyncio
import importlib
import logging
import os
import re
import resource
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from referral.cache import refuse_wrong_server
from referral.commands import Failed, Stop
from referral.config import Config, ConfigError, load_config
from referral.database import DatabaseUnavailable
from referral.database.migrate import MigrationError, migrate, refuse_unmigrated
from referral.database.service_lock import ServiceRunning, service_lock
from referral.log import configure_logging, flush_log
from referral.queries.audit import EventName
from referral.queries.service_keys import SCOPES

Command = Callable[[Config, argparse.Namespace], None]


def serve(config: Config, arguments: argparse.Namespace) -> None:
    """Migrate, unless somebody else does, then serve until SIGINT or SIGTERM. Raises Stop when nobody can listen on the
    address, ServiceRunning when another service has the database, ConfigError when the cache can never serve."""
    # Before anything is migrated: a start that is refused must leave the database as the running service knows it.
    refuse_wrong_server(config.cache)
    with service_lock(config.database.url, alone=config.cache.url.startswith("memory:")):
        _serve(config, arguments)


def _serve(config: Config, arguments: argparse.Namespace) -> None:
    from referral.auth.tokens import open_signer
    from referral.commands.signing_keys import claim

    # Made here, that a secret which cannot be kept is known before anything is changed, and that workers agree on one.
    open_signer(config)
    if arguments.migrate:
        applied = migrate(config.database.url)
        if applied:
            logging.getLogger("referral").info("migrated: %s", ", ".join(applied))
    else:
        refuse_unmigrated(config.database.url)
    asyncio.run(claim(config))
    _allow_many_connections()
    listener = _listen(config)
    port = listener.getsockname()[1]
    host = config.server.host
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def announce() -> None:
        # What was logged before comes before.
        flush_log()
        print(f"Serving on {address} - documentation: {address}/docs (Ctrl+C stops)", flush=True)

    if config.server.workers > 1:
        from referral.workers import serve_workers

        serve_workers(config, listener, lambda: load_config(arguments.config), announce)
        return
    # Imported here: workers import them themselves.
    import uvloop

    from referral.app import create_app
    from referral.web.server import serve_until_stopped

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(serve_until_stopped(create_app(config), listener, announce))


def _allow_many_connections() -> None:
    # Each is an open file; many systems begin with 1,024 and allow far more to whoever asks.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _listen(config: Config) -> socket.socket:
    host, port = config.server.host, config.server.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # "::" is every address, those of IPv4 too; on any other one this changes nothing.
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        return socket.create_server((host, port), family=family, backlog=1024, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        # Without what create_server adds: the address is in the line already.
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]
        raise Stop(f"server.host, server.port: cannot listen on {host} port {port}: {reason}") from None


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


def in_module(name: str) -> Command:
    """The command MODULE.FUNCTION of `referral/commands/`, imported when it is called: a start of the service needs none."""
    module, _, function = name.partition(".")

    def command(config: Config, arguments: argparse.Namespace) -> None:
        getattr(importlib.import_module(f"referral.commands.{module}"), function)(config, arguments)

    return command


def parser() -> argparse.ArgumentParser:
    """The command line: `command` of what it parses is to be called with the settings and the arguments."""
    top = argparse.ArgumentParser(description="The referral service. Settings: config.toml, REFERRAL_<SECTION>_<KEY>.")
    top.add_argument("--config", type=Path, metavar="FILE", help="settings laid over config.toml")
    top.set_defaults(command=serve, migrate=True)
    commands = top.add_subparsers(title="commands", metavar="COMMAND")

    def command(name: str, function: Command, text: str, description: str | None = None) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=description or text)
        sub.set_defaults(command=function)
        return sub

    def group(name: str, text: str) -> Any:
        sub = commands.add_parser(name, help=text, description=text)
        return sub.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def member(group: Any, name: str, function: str, text: str) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = group.add_parser(name, help=text, description=text)
        sub.set_defaults(command=in_module(function))
        return sub

    serving = command("serve", serve, "migrate, then serve until SIGINT or SIGTERM")
    serving.add_argument(
        "--no-migrate",
        dest="migrate",
        action="store_false",
        help="leave migrating to `migrate`, and do not start where something is pending that this version needs",
    )
    migration = command("migrate", in_module("database.migrate_database"), "bring the database to this version's schema")
    how = migration.add_mutually_exclusive_group()
    how.add_argument("--break-lock", action="store_true", help="first take away the lock of a killed migration")
    how.add_argument(
        "--check",
        action="store_true",
        help="change nothing: name what is pending and end with 1, or with 0 if nothing is, or 2 if that cannot be told",
    )
    rolling_back = command(
        "rollback",
        in_module("database.roll_back_database"),
        "take the last migration back, or several, by their rollbacks; stop the service first",
        "Take the last migration back, or all after another one, by their rollbacks. What their tables and columns hold is "
        "lost: it is shown first, and asked for. Refused while a service runs.",
    )
    which = rolling_back.add_mutually_exclusive_group()
    which.add_argument("--last", dest="to", action="store_const", const=None, help="only the last one; that is the default")
    which.add_argument(
        "--to", metavar="NAME", help="all that were applied after this one, such as 0043.contracting-migrations"
    )
    rolling_back.add_argument("--yes", action="store_true", help="do not ask")
    superuser = command(
        "createsuperuser",
        in_module("accounts.create_superuser"),
        "make an account with the role admin; the password is asked for, or read from standard input",
        "Make an account with the role admin, or give this role to an account that exists. The password is asked for, or "
        "read from standard input; an account that exists keeps its own if none is given.",
    )
    superuser.add_argument("email", help="the admin's e-mail address")
    superuser.add_argument("--username", help="the admin's username")
    admins = group("admins", "list the admins, demote one, or switch a lost second factor off")
    member(admins, "list", "accounts.list_admins", "list the accounts with the role admin")
    demotion = member(
        admins, "demote", "accounts.demote_admin", "take the role admin from an account, also while it is used"
    )
    demotion.add_argument("email", metavar="EMAIL", help="the account's e-mail address")
    resetting = member(
        admins, "reset-totp", "accounts.reset_second_factor", "switch the second factor of an account off, which was lost"
    )
    resetting.add_argument("email", metavar="EMAIL", help="the account's e-mail address")
    signed_in = group("sessions", "end somebody's sessions")
    ending = member(signed_in, "end", "accounts.end_sessions", "end all sessions of an account, also while they are used")
    named = "the user's e-mail address, id, or ext: and external id"
    ending.add_argument("user", metavar="USER", help=named)
    accounts = group("users", "suspend an account, or end its suspension")
    suspension = member(
        accounts,
        "suspend",
        "accounts.suspend_user",
        "end an account's sessions and links; until it is unsuspended it signs in nowhere, and its code is not active",
    )
    suspension.add_argument("user", metavar="USER", help=named)
    suspension.add_argument("--reason", required=True, help="why, in a line; it is kept in the record of events, too")
    return_text = "let a suspended account sign in again; its code is what it was"
    member(accounts, "unsuspend", "accounts.unsuspend_user", return_text).add_argument("user", metavar="USER", help=named)
    command(
        "rotate-keys",
        in_module("signing_keys.rotate_signing_keys"),
        "make a new key that signs access tokens; the one before is accepted until the next time",
    )
    keys = group("keys", "make, list or revoke service keys; or say which signing key the database belongs to")
    creation = member(
        keys, "create", "service_keys.create_key", "make a key for a back end's calls, and print it: it is shown this once"
    )
    creation.add_argument("name", metavar="NAME", help="what uses it, for people")
    creation.add_argument("--scope", choices=SCOPES, required=True, help="what it may; each comprises the ones before it")
    member(keys, "list", "service_keys.list_keys", "list the service keys, when they were last used, and what they may")
    revocation = member(keys, "revoke", "service_keys.revoke_key", "revoke a service key, also while it is used")
    revocation.add_argument("id", metavar="ID", help="the id that `keys list` shows")
    member(
        keys,
        "accept",
        "signing_keys.accept_signing_key",
        "let the database belong to the key of these settings, in the place of another one",
    )
    webhooks = group("webhooks", "try webhooks on a developer's machine")
    listening = member(
        webhooks,
        "listen",
        "webhooks.listen",
        "post each change from now on to an address of your own, signed as webhooks are; it reads the service's database",
    )
    listening.add_argument("--to", required=True, metavar="URL", help="such as http://127.0.0.1:3000/hooks")
    listening.add_argument("--types", default="*", metavar="TYPES", help="only these: reward.*,user.created")
    outbox = command("outbox", in_module("outbox.list_outbox"), "list the mail that waits and the mail that failed, and why")
    retry_text = "make all failed mail due again, or the mails that are named"
    retry = outbox.add_subparsers(title="commands", metavar="COMMAND").add_parser(
        "retry", help=retry_text, description=retry_text
    )
    retry.add_argument("ids", nargs="*", metavar="ID", help="mails that `outbox` lists; without any, all that failed")
    retry.set_defaults(command=in_module("outbox.retry_outbox"))
    events = command(
        "audit",
        in_module("audit.print_audit"),
        "print the security events, newest first: who did what to whose account, when and from where",
    )
    events.add_argument(
        "--event", choices=get_args(EventName), metavar="EVENT", help=f"only {', '.join(get_args(EventName))}"
    )
    events.add_argument(
        "--user",
        metavar="USER",
        help=f"what the user did, and what befell their account or was tried with their address; {named}",
    )
    events.add_argument(
        "--since", type=moment, default=0, metavar="TIME", help="a date or a time, in UTC: 2027-01-31T12:00:00Z"
    )
    events.add_argument("--limit", type=count, default=100, metavar="N", help="so many at most (100)")
    events.add_argument("--json", action="store_true", help="one JSON object a line")
    command(
        "verify",
        in_module("verify.verify_programme"),
        "recompute balances, limits, counts and states from their rows, also while the service runs; name each difference",
        "Recompute balances, limits, counts and states of the programme from their rows, as they are at one moment, also "
        "while the service runs. Each difference is named, and makes the command end with 1.",
    )
    copying = command(
        "copy",
        in_module("database.copy_database"),
        "copy the SQLite database of these settings to PostgreSQL; stop the service first",
        "Copy the SQLite database of these settings to PostgreSQL, in one transaction: all of it or nothing arrives. "
        "Stop the service first: what it writes while it is copied stays behind. The source is only read.",
    )
    copying.add_argument(
        "--to", required=True, metavar="URL", help="postgresql://user@host/name; the password can come by PGPASSWORD, too"
    )
    backup = command(
        "backup",
        in_module("database.back_up_database"),
        "write a backup of the SQLite database to a file, also while the service runs",
        "Write one moment of the SQLite database to a file, also while the service runs; it is verified.",
    )
    backup.add_argument("file", type=Path, metavar="FILE", help="the file to write; only its owner may read it")
    backup.add_argument("--force", action="store_true", help="replace the file if it exists")
    restoring = command(
        "restore",
        in_module("database.restore_database"),
        "make a backup the SQLite database of these settings; stop the service first",
        "Make a backup the SQLite database of these settings. It is verified first and migrated if it is older. What it "
        "replaces is kept beside it as .before-restore. Sessions and mail are restored, too: who signed out since the "
        "backup is signed in again, and mail that waited then is sent again.",
    )
    restoring.add_argument("file", type=Path, metavar="FILE", help="the file that `backup` wrote")
    command(
        "health", in_module("health.check_health"), "ask the service of these settings whether it is ready; if not, fail"
    )
    command("openapi", in_module("openapi.print_openapi"), "print the OpenAPI document")
    command(
        "demo",
        in_module("demo.make_demo"),
        "fill an empty database with a believable programme to look at, and print how to sign in to it",
    )
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
    except Failed as failure:
        sys.stdout.flush()
        print(f"{Path(sys.argv[0]).name}: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # As in `run.py openapi | head`: whoever read the output has enough of it.
        _drop_output()
    except (ConfigError, MigrationError, DatabaseUnavailable, ServiceRunning, Stop, OSError) as error:
        if isinstance(error, OSError):
            # A full disk behind standard output, for one.
            _drop_output()
        flush_log()
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
