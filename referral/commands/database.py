"""The database as a whole: migrated, copied, backed up and restored."""

import argparse
import asyncio
import sys

from referral.commands import Failed, Stop
from referral.config import Config
from referral.config.checks import database_url
from referral.database.backup import BackupRefused, back_up, restore
from referral.database.copy import CopyRefused, copy
from referral.database.migrate import break_lock, contracts, migrate, pending_migrations
from referral.database.rolling_back import losses, roll_back, rollback_plan
from referral.database.service_lock import ServiceRunning, service_lock


def migrate_database(config: Config, arguments: argparse.Namespace) -> None:
    """Bring the database to this version's schema, or only say what that would apply. Raises MigrationError,
    DatabaseUnavailable, or Failed when something is pending that is only asked for."""
    if arguments.check:
        _check_migrations(config.database.url)
        return
    if arguments.break_lock:
        break_lock(config.database.url)
        print("The migration lock is taken away.")
    applied = migrate(config.database.url)
    print("\n".join(f"applied {name}" for name in applied) or "Nothing to apply.")


def _check_migrations(url: str) -> None:
    pending = pending_migrations(url)
    if not pending:
        print("Nothing to apply.")
        return
    print("\n".join(migration.id for migration in pending))
    counted = "1 migration is pending" if len(pending) == 1 else f"{len(pending)} migrations are pending"
    breaking = [migration.id for migration in pending if contracts(migration)]
    raise Failed(f"{counted}{f'; stop older versions before {breaking[0]} is applied' if breaking else ''}")


def roll_back_database(config: Config, arguments: argparse.Namespace) -> None:
    """Take migrations back, once somebody has agreed to what is lost. Raises Stop, MigrationError or DatabaseUnavailable."""
    url = config.database.url
    names = rollback_plan(url, arguments.to)
    if not names:
        print("Nothing to take back.")
        return
    try:
        # Held to the end: no service starts on a schema that is on its way.
        with service_lock(url, alone=True):
            lost = losses(url, names)
            lines = [*(f"takes back {name}" for name in names), *(f"  loses the {line}" for line in lost)]
            print("\n".join(lines), flush=True)
            if not arguments.yes:
                _agree()
            roll_back(url, names)
    except ServiceRunning as running:
        raise Stop(f"{running.subject}: a service runs on it ({running.holder}): stop it first") from None
    print("Taken back. A start of this version, or `migrate`, applies it again: start the older one.")


def _agree() -> None:
    if not sys.stdin.isatty():
        raise Stop("rollback: without a terminal to ask on, it needs --yes")
    try:
        answer = input("Go on? [y/N] ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"y", "yes"}:
        raise Stop("Nothing was taken back.")


def copy_database(config: Config, arguments: argparse.Namespace) -> None:
    """Copy the SQLite database of these settings to PostgreSQL. Raises Stop or DatabaseUnavailable."""
    problem = database_url(arguments.to)
    if problem:
        raise Stop(f"--to: {problem}")
    try:
        rows = asyncio.run(copy(config.database.url, arguments.to))
    except CopyRefused as refusal:
        raise Stop(str(refusal)) from None
    print(f"{rows} rows are copied and counted. Set database.url to the new address and start the service.")


def back_up_database(config: Config, arguments: argparse.Namespace) -> None:
    """Write a backup of the SQLite database to a file, also while the service runs. Raises Stop."""
    try:
        rows = back_up(config.database.url, arguments.file, force=arguments.force)
    except BackupRefused as refusal:
        raise Stop(str(refusal)) from None
    print(f"{rows} rows are in {arguments.file}, verified.")


def restore_database(config: Config, arguments: argparse.Namespace) -> None:
    """Make a backup the SQLite database of these settings. Raises Stop."""
    try:
        rows, before = restore(config.database.url, arguments.file)
    except BackupRefused as refusal:
        raise Stop(str(refusal)) from None
    kept = f" What was there before is {before}." if before else ""
    print(f"{rows} rows are restored from {arguments.file}.{kept} Start the service.")
