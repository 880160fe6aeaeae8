"""A later version of the service: these sources, with migrations that a test writes."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from referral.database import migrate
from tests.support.service import ROOT

LAST = max(file.stem for file in migrate.MIGRATIONS.glob("[0-9]*") if ".rollback" not in file.name)

EXPANDING = {
    "8001.things.sql": f"""-- depends: {LAST}
-- Users are called something, and have things.
ALTER TABLE users ADD COLUMN nickname TEXT;

CREATE TABLE things (
    id BIGINT NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id)
);
""",
    "8001.things.rollback.sql": "ALTER TABLE users DROP COLUMN nickname;\n\nDROP TABLE things;\n",
}
CONTRACTING = {
    "9001.nameless.sql": f"""-- depends: {LAST}
-- contracts: true
-- Users no longer have names.
ALTER TABLE users RENAME COLUMN username TO former_username;
""",
    "9001.nameless.rollback.sql": "ALTER TABLE users RENAME COLUMN former_username TO username;\n",
}
CONTRACTING_IN_PYTHON = {
    "9001.nameless.py": f"""
from yoyo import step

__depends__ = {{"{LAST}"}}
__contracts__ = True

RENAMED = "ALTER TABLE users RENAME COLUMN {{}} TO {{}}"

steps = [step(RENAMED.format("username", "former_username"), RENAMED.format("former_username", "username"))]
"""
}


def later_version(folder: Path, *added: dict[str, str]) -> list[str]:
    """The command line of a later version, whose sources are in the folder; these files are added to its migrations."""
    for name in ("referral", "sql"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("config.toml", "run.py"):
        shutil.copy(ROOT / name, folder)
    later_migrations(folder / "migrations", *added)
    return [sys.executable, str(folder / "run.py")]


def later_migrations(folder: Path, *added: dict[str, str]) -> Path:
    """The folder, in which are the migrations of now and these files."""
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    for files in added:
        for name, text in files.items():
            (folder / name).write_text(text)
    return folder
