"""The claim of a database by a signing key: services that share a database must share the key of access tokens.

Else each would refuse the tokens of the others. The first service that starts claims the database for its key. A later one
has to know that key: as its own or, after a rotation, as the one before, and then the claim goes over to its own. A service
that still has the key before the latest rotation may start, too: during a rotation some are restarted later than others.
"""

from referral.auth.signing_keys import KEY_FILE, SECRET_FILE, Key
from referral.clock import now
from referral.config import ConfigError
from referral.config.sections import Auth
from referral.database import Connection, Database
from referral.queries import signing_keys


async def claim_database(database: Database, keys: list[Key], config: Auth) -> None:
    """Claim the database for the first of the keys. Raises ConfigError when it belongs to a key that is not among them."""
    algorithm, fingerprints = keys[0].algorithm, [key.fingerprint for key in keys]
    async with database.reader() as conn:
        claiming = await signing_keys.find_signing_key(conn)
    if claiming is None or not _is_settled(claiming, fingerprints):
        async with database.transaction() as conn:
            claiming = await _claim(conn, algorithm, fingerprints)
    if not _is_settled(claiming, fingerprints):
        is_secret = algorithm == "HS256"
        setting = "auth.secret" if is_secret else "auth.key_file"
        source = (
            "the settings" if (config.secret if is_secret else config.key_file) else SECRET_FILE if is_secret else KEY_FILE
        )
        raise ConfigError(
            setting,
            "the database belongs to another one, whose access tokens this service would refuse; give all services the "
            "same, or let this one take its place by `python run.py keys accept`",
            str(source),
        )


def _is_settled(claiming: signing_keys.ClaimingKey, fingerprints: list[str]) -> bool:
    return fingerprints[0] in (claiming.fingerprint, claiming.previous)


async def _claim(conn: Connection, algorithm: str, fingerprints: list[str]) -> signing_keys.ClaimingKey:
    await signing_keys.claim_signing_key(conn, algorithm, fingerprints[0], now())
    for previous in fingerprints[1:]:
        await signing_keys.rotate_signing_key(conn, fingerprints[0], previous, now())
    claiming = await signing_keys.find_signing_key(conn)
    assert claiming is not None
    return claiming


async def accept_key(database: Database, keys: list[Key]) -> None:
    """Let the database belong to the first of the keys, whichever it belonged to."""
    async with database.transaction() as conn:
        await signing_keys.accept_signing_key(conn, keys[0].algorithm, keys[0].fingerprint, now())
