"""The keys that sign access tokens: given, or made once and kept in `var/`; two are accepted at a time, for rotation."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from referral.config import VAR, ConfigError
from referral.config.sections import Auth

SECRET_FILE = VAR / "secret"
KEY_FILE = VAR / "key.pem"
LEAST_SECRET = 32
RSA_BITS = 3072
# What a secret is asked to sign for its fingerprint. No token has this text.
FINGERPRINT_OF = b"the key that this database belongs to"


@dataclass(frozen=True, slots=True)
class Key:
    """`jwk` is the public key for other services; None for a shared secret. The `fingerprint` (64 hexadecimal digits) is
    kept in the database and tells nothing of a secret. Other keys are made from `secret`."""

    id: str
    algorithm: str
    private: Any
    public: Any
    jwk: dict[str, Any] | None
    fingerprint: str
    secret: bytes = field(repr=False)


def open_keys(config: Auth) -> list[Key]:
    """The current key and the one before it, if that is still accepted. If no key is given, the first one is made.

    Raises ConfigError.
    """
    if config.algorithm == "HS256":
        current = [_shared_key(config.secret)] if config.secret else [_shared_key(text) for text in _kept_secrets()]
        previous = [_shared_key(config.previous_secret)] if config.previous_secret else []
        keys = [*current, *previous]
    else:
        # If a key was given, making another in its place would be wrong: nobody else would know that one.
        make = None if config.key_file else lambda: _new_pem(config.algorithm)
        kept = _kept("auth.key_file", Path(config.key_file or KEY_FILE), make)
        keys = [_key_pair(text, config.algorithm, file) for file, text in kept]
    # A rotation that was killed half-way leaves one key in both places.
    return list({key.id: key for key in keys}.values())


def rotate_keys(config: Auth) -> Path:
    """Replace the kept key by a new one and return its file. The old key is accepted until the next rotation.

    A running service takes the new key up when it is restarted or, with several workers, at a SIGHUP. Raises ConfigError.
    """
    if config.algorithm == "HS256" and config.secret:
        raise ConfigError(
            "auth.secret", "is given: give another, and this one as auth.previous_secret, and restart", "the settings"
        )
    open_keys(config)
    setting, file, text = (
        ("auth.secret", SECRET_FILE, _new_secret())
        if config.algorithm == "HS256"
        else ("auth.key_file", Path(config.key_file or KEY_FILE), _new_pem(config.algorithm))
    )
    with _files_of(setting, file):
        fresh, aside = _write_aside(file, text), _name_aside(file)
        former = file.stat()
        if former.st_uid != os.geteuid():
            # Root rotates the key of a service that does not run as root.
            os.chown(fresh, former.st_uid, former.st_gid)
        # The old key moves to its second place before the new one takes the first: neither is ever missing.
        os.link(file, aside)
        aside.rename(_previous(file))
        fresh.rename(file)
    return file


def _kept_secrets() -> list[str]:
    return [text for _, text in _kept("auth.secret", SECRET_FILE, _new_secret)]


def _kept(setting: str, file: Path, make: Callable[[], str] | None) -> list[tuple[Path, str]]:
    """The file and the one before it, with what is in them; the file is made if there is none and it may be."""
    with _files_of(setting, file):
        if make and not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            # Linking is atomic: two first starts at once agree on one whole key.
            fresh = _write_aside(file, make())
            try:
                os.link(fresh, file)
            except FileExistsError:
                pass
            finally:
                fresh.unlink()
        previous = _previous(file)
        return [(kept, kept.read_text().strip()) for kept in ((file, previous) if previous.exists() else (file,))]


@contextmanager
def _files_of(setting: str, file: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise ConfigError(setting, "its file is not there", str(file)) from None
    except OSError as error:
        raise ConfigError(setting, f"cannot be kept in a file: {error.strerror}", str(file)) from None
    except UnicodeDecodeError:
        raise ConfigError(setting, "its file is no text", str(file)) from None


def _previous(file: Path) -> Path:
    return file.with_name(f"{file.name}.previous")


def _name_aside(file: Path) -> Path:
    # The process's id would not do: it is the same in two containers that share a folder.
    return file.with_name(f"{file.name}.{secrets.token_hex(8)}")


def _write_aside(file: Path, text: str) -> Path:
    fresh = _name_aside(file)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    return fresh


def _new_secret() -> str:
    return secrets.token_urlsafe(48)


def _shared_key(secret: str) -> Key:
    if len(secret.encode()) < LEAST_SECRET:
        raise ConfigError(
            "auth.secret", "is shorter than 32 characters; delete the file to have another made", str(SECRET_FILE)
        )
    # Names the key and tells nothing of it: the secret is random.
    name = hashlib.sha256(b"kid:" + secret.encode()).hexdigest()[:16]
    fingerprint = hmac.digest(secret.encode(), FINGERPRINT_OF, hashlib.sha256).hex()
    return Key(name, "HS256", secret, secret, None, fingerprint, secret.encode())


def _new_pem(algorithm: str) -> str:
    # Imported where they are needed: HS256, the default, does without.
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

    key: Any = ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65537, RSA_BITS)
    pem: bytes = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def _key_pair(pem: str, algorithm: str, file: Path) -> Key:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
    from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

    try:
        private = load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError("auth.key_file", "is not an unencrypted PEM private key", str(file)) from None
    public: Any = private.public_key()
    if algorithm == "EdDSA" and isinstance(private, ed25519.Ed25519PrivateKey):
        jwk: dict[str, Any] = OKPAlgorithm.to_jwk(public, as_dict=True)
    elif algorithm == "RS256" and isinstance(private, rsa.RSAPrivateKey) and private.key_size >= 2048:
        jwk = RSAAlgorithm.to_jwk(public, as_dict=True)
    else:
        wanted = "an Ed25519 key" if algorithm == "EdDSA" else "an RSA key of 2048 bits or more"
        raise ConfigError("auth.key_file", f"must be {wanted} for auth.algorithm = {algorithm}", str(file))
    # Any name will do that depends on nothing but the key; RFC 7638 describes another one.
    fingerprint = hashlib.sha256(repr(sorted(jwk.items())).encode()).hexdigest()
    name = fingerprint[:16]
    jwk = {key: value for key, value in jwk.items() if key != "key_ops"}
    secret = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public_jwk = {**jwk, "kid": name, "alg": algorithm, "use": "sig"}
    return Key(name, algorithm, private, public, public_jwk, fingerprint, secret)
