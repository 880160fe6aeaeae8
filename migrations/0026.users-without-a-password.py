"""A user may have neither an e-mail address nor a password, and texts are compared by their code points.

This is Python, because no statement changes a CHECK in both databases. PostgreSQL drops and adds it. In SQLite the rule's
text is edited in the schema's own table, which is the procedure of its manual (https://sqlite.org/lang_altertable.html,
section 7) for changes that leave the stored rows as they are: it copies no table, whatever refers to it.

PostgreSQL's databases have all sorts of collations, by which an index need not help to find what begins with a text. SQLite
compares bytes, which is the collation "C".
"""

from typing import Any

from yoyo import step

__depends__ = {"0025.users-of-a-product"}

BEFORE = "(erased_at IS NULL AND email IS NOT NULL AND email_key IS NOT NULL AND password_hash IS NOT NULL)"
AFTER = "(erased_at IS NULL AND (email IS NULL) = (email_key IS NULL) AND (email IS NOT NULL OR email_verified_at IS NULL))"
ERASED = (
    "(erased_at IS NOT NULL AND email IS NULL AND email_key IS NULL AND email_verified_at IS NULL "
    "AND username IS NULL AND password_hash IS NULL)"
)
# What the version before could not hold.
OF_NOW = "SELECT count(*) FROM users WHERE erased_at IS NULL AND (email IS NULL OR password_hash IS NULL)"
SEARCHED = ("email_key", "username_key", "external_id", "name_key")


def apply(conn: Any) -> None:
    replace_rule(conn, BEFORE, AFTER)
    collate(conn, 'COLLATE "C"')


def rollback(conn: Any) -> None:
    """Fails where there are users without an address or a password: no row is thrown away."""
    cursor = conn.cursor()
    cursor.execute(OF_NOW)
    (found,) = cursor.fetchone()
    if found:
        raise ValueError(f"{found} users have no e-mail address or no password, which the version before cannot hold")
    collate(conn, "")
    replace_rule(conn, AFTER, BEFORE)


def is_sqlite(conn: Any) -> bool:
    return type(conn).__module__.startswith("sqlite3")


def replace_rule(conn: Any, former: str, latter: str) -> None:
    cursor = conn.cursor()
    if not is_sqlite(conn):
        cursor.execute("ALTER TABLE users DROP CONSTRAINT users_personal_data")
        cursor.execute(f"ALTER TABLE users ADD CONSTRAINT users_personal_data CHECK ({latter} OR {ERASED})")
        return
    cursor.execute("PRAGMA schema_version")
    (version,) = cursor.fetchone()
    cursor.execute("PRAGMA writable_schema = ON")
    cursor.execute(
        "UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE type = 'table' AND name = 'users' AND instr(sql, ?) > 0",
        (former, latter, former),
    )
    assert cursor.rowcount == 1, "the table users has not the rule that this step replaces"
    # Other connections read the schema again.
    cursor.execute(f"PRAGMA schema_version = {version + 1}")
    # This connection reads it again, too, and takes no more edits.
    cursor.execute("PRAGMA writable_schema = RESET")


def collate(conn: Any, collation: str) -> None:
    if not is_sqlite(conn):
        changes = ", ".join(f"ALTER COLUMN {column} TYPE TEXT {collation}" for column in SEARCHED)
        conn.cursor().execute(f"ALTER TABLE users {changes}")


steps = [step(apply, rollback)]
