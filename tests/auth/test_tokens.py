"""Access tokens after RFC 8725: every algorithm, every forgery, the published keys, the files keys are kept in, rotation."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

import run
from referral.auth import signing_keys
from referral.auth.signing_keys import open_keys, rotate_keys
from referral.auth.tokens import LEEWAY, SIGNER, InvalidToken, Signer, open_signer
from referral.clock import SECOND, now
from referral.config import ConfigError, load_config
from referral.config.sections import Auth
from tests.conftest import Client, MakeClient
from tests.support.people import API, PASSWORD, Person
from tests.support.servers import free_port, wait_until
from tests.support.service import is_ready, run_py, started

ALGORITHMS = ["HS256", "EdDSA", "RS256"]
ISSUER = "http://127.0.0.1:8000"


@pytest.fixture
def engine() -> str:
    """A token is looked at before any database is."""
    return "sqlite"


@pytest.fixture(scope="session")
def rsa_key() -> rsa.RSAPrivateKey:
    """Making one takes longer than most tests."""
    return rsa.generate_private_key(65537, 2048)


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pem(key: Any, encryption: Any = None) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    encoded: bytes = key.private_bytes(encoding, form, encryption or serialization.NoEncryption())
    return encoded


def settings(algorithm: str, **others: Any) -> Auth:
    """The [auth] settings of an installation that keeps its own key."""
    return replace(load_config(environ={}).auth, algorithm=algorithm, **others)


def kept_in(algorithm: str) -> Path:
    return signing_keys.SECRET_FILE if algorithm == "HS256" else signing_keys.KEY_FILE


def place_key(algorithm: str, rsa_key: rsa.RSAPrivateKey) -> None:
    """Spare a test the making of an RSA key."""
    if algorithm == "RS256":
        signing_keys.KEY_FILE.parent.mkdir()
        signing_keys.KEY_FILE.write_bytes(pem(rsa_key))
        signing_keys.KEY_FILE.chmod(0o600)


@pytest.fixture
async def keyed(algorithm: str, make_client: MakeClient, rsa_key: rsa.RSAPrivateKey) -> Client:
    """A client of a service that signs by the algorithm."""
    place_key(algorithm, rsa_key)
    return await make_client(auth_algorithm=algorithm, auth_secret="")


def signer_of(client: Client) -> Signer:
    assert client.app
    return client.app[SIGNER]


def claims_of(token: str) -> dict[str, Any]:
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


async def accepts(client: Client, token: str) -> bool:
    """Whether the service takes the token; when not, that it refuses it as RFC 6750 says and tells nothing of the reason."""
    answer = await Person(client, "").get("/users/me", headers={"Authorization": f"Bearer {token}"})
    if answer.status == 200:
        return True
    assert (answer.status, answer.problem) == (401, "unauthorized")
    assert answer.headers["WWW-Authenticate"] == (
        'Bearer realm="referral", error="invalid_token", error_description="The access token is malformed or has expired"'
    )
    return False


# What a token is


async def test_a_token_says_what_it_is_for_whom_and_by_which_key(keyed: Client, algorithm: str) -> None:
    alice = await Person.register(keyed, "alice")
    token = alice.tokens["access_token"]
    signer = signer_of(keyed)
    assert jwt.get_unverified_header(token) == {"alg": algorithm, "typ": "at+jwt", "kid": signer.keys[0].id}
    claims = claims_of(token)
    assert claims.keys() == {"iss", "aud", "client_id", "sub", "gen", "rth", "sid", "role", "jti", "iat", "exp"}
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, "referral", alice.id)
    assert claims["client_id"] == "public"
    assert claims["exp"] - claims["iat"] == 900
    assert await accepts(keyed, token)
    other = (await alice.refresh()).body["access_token"]
    assert claims_of(other)["jti"] != claims["jti"]


async def test_a_neighbour_verifies_tokens_by_the_published_keys(keyed: Client, algorithm: str) -> None:
    alice = await Person.register(keyed, "alice")
    token = alice.tokens["access_token"]
    discovered = (await alice.get("/.well-known/oauth-authorization-server")).body
    assert discovered["jwks_uri"].endswith("/.well-known/jwks.json")
    answer = await alice.get("/.well-known/jwks.json", headers={"Authorization": ""})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    if algorithm == "HS256":
        assert answer.body == {"keys": []}
        return
    (published,) = answer.body["keys"]
    public = {"kty", "kid", "alg", "use"} | ({"crv", "x"} if algorithm == "EdDSA" else {"n", "e"})
    assert published.keys() == public, "and nothing of the private key"
    assert (published["alg"], published["use"]) == (algorithm, "sig")

    def verify(token: str) -> dict[str, Any]:
        key = jwt.PyJWKSet.from_dict(answer.body)[jwt.get_unverified_header(token)["kid"]]
        claims: dict[str, Any] = jwt.decode(
            token, key, algorithms=[algorithm], audience="referral", issuer=discovered["issuer"]
        )
        return claims

    assert verify(token)["sub"] == alice.id
    other = (await alice.refresh()).body["access_token"]
    with pytest.raises(jwt.InvalidSignatureError):
        verify(f"{token.rpartition('.')[0]}.{other.rpartition('.')[2]}")


# What is refused


def forgeries(signer: Signer, token: str) -> dict[str, str]:
    """Tokens that the service must not take, by what is wrong with them, made of a good one."""
    key, claims = signer.keys[0], claims_of(token)
    header = {"typ": "at+jwt", "kid": key.id}

    def signed(payload: dict[str, Any], **headers: Any) -> str:
        head = {name: value for name, value in {**header, **headers}.items() if value is not None}
        # Encoded by hand: PyJWT would not sign claims of a wrong type.
        return jwt.api_jws.encode(json.dumps(payload).encode(), key.private, key.algorithm, headers=head)

    def without(name: str) -> dict[str, Any]:
        return {claim: value for claim, value in claims.items() if claim != name}

    def shared(secret: str | bytes, **headers: Any) -> str:
        head = base64url(json.dumps({**header, "alg": "HS256", **headers}).encode())
        message = f"{head}.{base64url(json.dumps(claims).encode())}"
        # PyJWT refuses to sign with a public key; an attacker's library does not.
        algorithm = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
        secret = secret.encode() if isinstance(secret, str) else secret
        return f"{message}.{base64url(algorithm.sign(message.encode(), secret))}"

    assert signer.verify(signed(claims)).session_id == claims["sid"], "made in this way, a good token is taken"
    seconds = now() // SECOND
    head, body, signature = token.split(".")
    foreign: Any = {"HS256": "x" * 48, "EdDSA": ed25519.Ed25519PrivateKey.generate()}.get(key.algorithm)
    foreign = foreign or rsa.generate_private_key(65537, 2048)
    admin = base64url(json.dumps({**claims, "role": "admin"}).encode())
    found = {
        "no signature": f"{head}.{body}.",
        "another payload": f"{head}.{admin}.{signature}",
        "another's signature": signed({**claims, "jti": "other"}).rpartition(".")[0] + "." + signature,
        "alg none": jwt.encode(claims, "", "none", headers=header),
        "alg None": base64url(json.dumps({**header, "alg": "None"}).encode()) + f".{body}.",
        "alg unknown": base64url(json.dumps({**header, "alg": "HS1"}).encode()) + f".{body}.{signature}",
        "empty secret": shared(""),
        "a foreign key": jwt.encode(claims, foreign, key.algorithm, headers=header),
        "a foreign key that it brings along": jwt.encode(
            claims, "x" * 48, "HS256", headers={**header, "jwk": {"kty": "oct", "k": base64url(b"x" * 48)}}
        ),
        "no kid": signed(claims, kid=None),
        "an unknown kid": signed(claims, kid="unknown"),
        "a kid that is a path": signed(claims, kid="../../dev/null"),
        "no typ": signed(claims, typ=None),
        "an ID token": signed(claims, typ="JWT"),
        "a critical extension": signed(claims, crit=["exp"], exp=1),
        **{f"no {name}": signed(without(name)) for name in ("iss", "aud", "sub", "sid", "jti", "iat", "exp")},
        "another issuer": signed({**claims, "iss": "https://elsewhere.example"}),
        "a longer issuer": signed({**claims, "iss": f"{claims['iss']}/"}),
        "another audience": signed({**claims, "aud": "another"}),
        "an empty audience": signed({**claims, "aud": []}),
        "expired": signed({**claims, "iat": seconds - 10, "exp": seconds}),
        "exp is a text": signed({**claims, "exp": "never"}),
        "exp is endless": signed({**claims, "exp": float("inf")}),
        "sid is a list": signed({**claims, "sid": [claims["sid"]]}),
        "sub is a number": signed({**claims, "sub": 1}),
        "issued in the future": signed({**claims, "iat": seconds + LEEWAY + 10, "exp": seconds + 1_000}),
        "not yet valid": signed({**claims, "nbf": seconds + LEEWAY + 10}),
        "no claims": signed({}),
        "a list for claims": jwt.api_jws.encode(b"[]", key.private, key.algorithm, headers=header),
        "no JSON for claims": jwt.api_jws.encode(b"{", key.private, key.algorithm, headers=header),
        "nested claims": jwt.api_jws.encode(b"[" * 3_000, key.private, key.algorithm, headers=header),
        "nested header": f"{base64url(b'[' * 3_000)}.{body}.{signature}",
        "a list for a header": f"{base64url(b'[]')}.{body}.{signature}",
        "huge": signed({**claims, "padding": "x" * 4_000}) + "x",
        "one part": head,
        "four parts": f"{token}.{signature}",
        "no base64": f"{head}.{body}.ü",
    }
    if key.jwk:
        public = key.public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        raw = base64.urlsafe_b64decode(f"{key.jwk.get('x') or key.jwk['n']}==")
        found |= {
            "HS256 by the public key's PEM": shared(public),
            "HS256 by the public key's PEM, stripped": shared(public.strip()),
            "HS256 by the public key's bytes": shared(raw),
            "HS256 by the published key": shared(json.dumps(key.jwk)),
        }
    return found


def base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


async def test_whatever_is_not_a_good_token_of_this_service_is_refused(keyed: Client) -> None:
    alice = await Person.register(keyed, "alice")
    token = alice.tokens["access_token"]
    for flaw, forged in forgeries(signer_of(keyed), token).items():
        assert not await accepts(keyed, forged), flaw
        # An expired token still ends its session: whoever signs out late has signed out.
        if flaw != "expired":
            answer = await Person(keyed, "").call("POST", "/auth/revoke", data={"token": forged})
            assert answer.status == 200, flaw
            assert await accepts(keyed, token), f"a token with this flaw ends its session: {flaw}"


async def test_a_token_of_any_length_and_depth_is_only_a_wrong_token(keyed: Client) -> None:
    for token in ("[" * 60_000, f"{base64url(b'[' * 40_000)}.e30.x", f"{base64url(b'{' * 40_000)}.e30.x", "." * 60_000):
        answer = await Person(keyed, "").post("/auth/revoke", {"token": token})
        assert (answer.status, answer.body) == (200, b"")


async def test_clocks_may_differ_by_a_minute(keyed: Client) -> None:
    alice = await Person.register(keyed, "alice")
    session = claims_of(alice.tokens["access_token"])["sid"]
    for seconds, taken in ((LEEWAY - 10, True), (LEEWAY + 10, False)):
        token = signer_of(keyed).sign(alice.id, session, "user", now() + seconds * SECOND)
        assert await accepts(keyed, token) == taken


async def test_a_token_that_was_taken_before_expires_all_the_same(client: Client, eventually: Callable[..., Any]) -> None:
    alice = await Person.register(client, "alice")
    session = claims_of(alice.tokens["access_token"])["sid"]
    token = signer_of(client).sign(alice.id, session, "user", now(), ttl=1)
    assert await accepts(client, token)

    async def refused() -> bool:
        return not await accepts(client, token)

    await eventually(refused)


# Where keys are kept


def test_a_first_start_makes_a_key_that_nobody_else_can_read_and_later_ones_keep_it(algorithm: str) -> None:
    (made,) = open_keys(settings(algorithm))
    file = kept_in(algorithm)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    (kept,) = open_keys(settings(algorithm))
    assert (kept.id, kept.algorithm) == (made.id, algorithm)
    if algorithm == "RS256":
        assert kept.private.key_size == 3072


def test_processes_that_start_at_once_agree_on_one_key(algorithm: str) -> None:
    script = (
        "import sys\n"
        "from dataclasses import replace\n"
        "import cryptography.hazmat.primitives.asymmetric.rsa\n"
        "from referral.config import load_config\n"
        "from referral.auth.signing_keys import open_keys\n"
        f"auth = replace(load_config(environ={{}}).auth, algorithm='{algorithm}')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(*[key.id for key in open_keys(auth)])\n"
    )
    environ = {"PYTHONPATH": str(Path(run_py()[1]).parent)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate(timeout=30)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert found == {f"{open_keys(settings(algorithm))[0].id}\n"}
    assert len(list(kept_in(algorithm).parent.iterdir())) == 1, "nothing is left beside it"


def test_a_given_key_file_is_used_and_one_that_is_missing_is_not_made(algorithm: str, rsa_key: rsa.RSAPrivateKey) -> None:
    if algorithm == "HS256":
        (key,) = open_keys(settings(algorithm, secret="s" * 32))
        assert key.private == "s" * 32
        assert not signing_keys.SECRET_FILE.exists()
        return
    given = Path("given.pem")
    with pytest.raises(ConfigError, match=r"^auth.key_file: its file is not there \(read from given.pem\)$"):
        open_keys(settings(algorithm, key_file=str(given)))
    assert not given.exists()
    private = rsa_key if algorithm == "RS256" else ed25519.Ed25519PrivateKey.generate()
    given.write_bytes(pem(private))
    (key,) = open_keys(settings(algorithm, key_file=str(given)))
    assert key.public == private.public_key()
    assert not signing_keys.KEY_FILE.exists()


def test_a_key_that_cannot_be_used_stops_the_start_in_one_line(rsa_key: rsa.RSAPrivateKey) -> None:
    Path("folder").mkdir()
    edwards = ed25519.Ed25519PrivateKey.generate()
    public = edwards.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    unreadable = "is not an unencrypted PEM private key"
    for algorithm, content, expected in (
        ("EdDSA", None, "cannot be kept in a file: Is a directory"),
        ("EdDSA", b"", unreadable),
        ("EdDSA", b"this is no key", unreadable),
        ("EdDSA", b"\xff\x00\xfe", "its file is no text"),
        ("EdDSA", public, unreadable),
        ("EdDSA", pem(edwards)[:60], unreadable),
        ("EdDSA", pem(edwards, serialization.BestAvailableEncryption(b"x")), unreadable),
        ("EdDSA", pem(rsa_key), "must be an Ed25519 key for auth.algorithm = EdDSA"),
        ("RS256", pem(edwards), "must be an RSA key of 2048 bits or more for auth.algorithm = RS256"),
        ("RS256", pem(ec.generate_private_key(ec.SECP256R1())), "must be an RSA key of 2048 bits or more"),
        ("RS256", pem(rsa.generate_private_key(65537, 1024)), "must be an RSA key of 2048 bits or more"),
    ):
        file = Path("folder") if content is None else Path("key.pem")
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as stopped:
            open_keys(settings(algorithm, key_file=str(file)))
        line = str(stopped.value)
        assert line.startswith(f"auth.key_file: {expected}"), line
        assert line.endswith(f"(read from {file})"), line
        assert "\n" not in line
    done = subprocess.run(
        run_py(),
        env={"REFERRAL_AUTH_ALGORITHM": "EdDSA", "REFERRAL_AUTH_KEY_FILE": "key.pem"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1].startswith("run.py: auth.key_file: must be an Ed25519 key")


# Rotation


def rotate(**environ: str) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": os.environ["PATH"], **{f"REFERRAL_{name.upper()}": value for name, value in environ.items()}}
    return subprocess.run([*run_py(), "rotate-keys"], env=environ, capture_output=True, text=True, check=False)


def test_the_command_says_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["rotate-keys", "--help"]):
        with pytest.raises(SystemExit):
            run.parser().parse_args(arguments)
        assert "make a new key that signs access tokens" in " ".join(capsys.readouterr().out.split())


def test_a_token_survives_one_rotation_and_not_two(algorithm: str, rsa_key: rsa.RSAPrivateKey) -> None:
    place_key(algorithm, rsa_key)
    environ = {"REFERRAL_AUTH_ALGORITHM": algorithm}
    first = open_signer(load_config(environ=environ))
    token = first.sign("user", "session", "user", now())
    file = kept_in(algorithm)
    before = file.read_text()

    done = rotate(auth_algorithm=algorithm)
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{file} is a new key.")
    assert "Restart" in line
    assert "SIGHUP" in line
    previous = file.with_name(f"{file.name}.previous")
    assert file.read_text() != before == previous.read_text()
    assert {path: path.stat().st_mode & 0o777 for path in file.parent.iterdir()} == {file: 0o600, previous: 0o600}

    second = open_signer(load_config(environ=environ))
    assert [key.id for key in second.keys][1:] == [key.id for key in first.keys]
    assert second.verify(token).session_id == "session"
    assert jwt.get_unverified_header(second.sign("user", "session", "user", now()))["kid"] == second.keys[0].id
    assert len(second.jwks()["keys"]) == (0 if algorithm == "HS256" else 2)

    rotate_keys(settings(algorithm))
    third = open_signer(load_config(environ=environ))
    assert [key.id for key in third.keys][1:] == [second.keys[0].id]
    with pytest.raises(InvalidToken):
        third.verify(token)


def test_a_worker_that_still_has_the_old_key_takes_tokens_of_the_new_one() -> None:
    config = load_config(environ={})
    old = open_signer(config)
    rotate_keys(config.auth)
    new = open_signer(config)
    assert old.verify(new.sign("user", "session", "user", now())).session_id == "session"
    rotate_keys(config.auth)
    token = open_signer(config).sign("user", "session", "user", now())
    with pytest.raises(InvalidToken):
        old.verify(token)  # It has looked a moment ago: not every unknown key is worth a look.
    assert new.verify(token).session_id == "session"


def test_a_rotation_that_was_killed_half_way_leaves_one_whole_key(algorithm: str, rsa_key: rsa.RSAPrivateKey) -> None:
    place_key(algorithm, rsa_key)
    (key,) = open_keys(settings(algorithm))
    file = kept_in(algorithm)
    os.link(file, file.with_name(f"{file.name}.previous"))
    assert [kept.id for kept in open_keys(settings(algorithm))] == [key.id]
    rotate_keys(settings(algorithm))
    assert [kept.id for kept in open_keys(settings(algorithm))][1:] == [key.id]


def test_a_rotation_by_root_leaves_the_key_to_whom_it_belonged(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[int, int]] = []
    open_signer(load_config(environ={}))
    owner = signing_keys.SECRET_FILE.stat()
    monkeypatch.setattr(os, "geteuid", lambda: owner.st_uid + 1)
    monkeypatch.setattr(os, "chown", lambda file, user, group: given.append((user, group)))
    rotate_keys(settings("HS256"))
    assert given == [(owner.st_uid, owner.st_gid)]


def test_a_given_key_file_is_rotated_in_its_place() -> None:
    given = Path("given.pem")
    given.write_bytes(pem(ed25519.Ed25519PrivateKey.generate()))
    auth = settings("EdDSA", key_file=str(given))
    (before,) = open_keys(auth)
    assert rotate_keys(auth) == given
    assert [key.id for key in open_keys(auth)][1:] == [before.id]


def test_a_given_secret_is_rotated_by_its_settings() -> None:
    old, new = "old " + "s" * 32, "new " + "s" * 32
    done = rotate(auth_secret=old)
    assert done.returncode == 2
    assert done.stderr == (
        "run.py: auth.secret: is given: give another, and this one as auth.previous_secret, and restart "
        "(read from the settings)\n"
    )
    assert not signing_keys.SECRET_FILE.exists()
    token = open_signer(load_config(environ={"REFERRAL_AUTH_SECRET": old})).sign("user", "session", "user", now())
    both = {"REFERRAL_AUTH_SECRET": new, "REFERRAL_AUTH_PREVIOUS_SECRET": old}
    assert open_signer(load_config(environ=both)).verify(token).session_id == "session"
    with pytest.raises(InvalidToken):
        open_signer(load_config(environ={"REFERRAL_AUTH_SECRET": new})).verify(token)
    # From a secret that was given to one that is kept.
    assert open_signer(load_config(environ={"REFERRAL_AUTH_PREVIOUS_SECRET": old})).verify(token).session_id == "session"


def test_a_rotation_that_cannot_be_done_says_so_in_one_line_and_changes_nothing() -> None:
    file = Path("given.pem")
    file.write_text("no key")
    done = rotate(auth_algorithm="EdDSA", auth_key_file="given.pem")
    assert done.returncode == 2
    assert done.stderr == f"run.py: auth.key_file: is not an unencrypted PEM private key (read from {file.absolute()})\n"
    assert file.read_text() == "no key"
    assert not Path("given.pem.previous").exists()


def test_running_workers_take_the_new_key_up_at_sighup_and_accept_the_old_ones_tokens(tmp_path: Path) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    environ = {
        "REFERRAL_SERVER_PORT": str(port),
        "REFERRAL_SERVER_WORKERS": "2",
        "REFERRAL_CACHE_URL": "none://",
        "REFERRAL_AUTH_ALGORITHM": "EdDSA",
        "REFERRAL_AUTH_BCRYPT_ROUNDS": "4",
        "REFERRAL_LIMITS_ENABLED": "false",
    }

    def post(path: str, body: bytes, kind: str) -> dict[str, Any]:
        with urlopen(Request(f"{address}{API}{path}", body, {"Content-Type": kind}), timeout=10) as response:
            answer: dict[str, Any] = json.loads(response.read())
            return answer

    def sign_in() -> str:
        form = {"grant_type": "password", "username": "alice@example.com", "password": PASSWORD}
        return str(post("/auth/token", urlencode(form).encode(), "application/x-www-form-urlencoded")["access_token"])

    def kid_of(token: str) -> str:
        return str(jwt.get_unverified_header(token)["kid"])

    def works(token: str) -> bool:
        request = Request(f"{address}{API}/users/me", headers={"Authorization": f"Bearer {token}"})
        with urlopen(request, timeout=10) as response:
            return bool(response.status == 200)

    with started(tmp_path, lambda: is_ready(address), environ) as process:
        body = {"email": "alice@example.com", "password": PASSWORD}
        old = str(post("/auth/register", json.dumps(body).encode(), "application/json")["access_token"])
        assert rotate(auth_algorithm="EdDSA").returncode == 0
        assert kid_of(sign_in()) == kid_of(old), "nothing has told the workers yet"
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: kid_of(sign_in()) != kid_of(old))
        assert works(old)
        assert works(sign_in())
        process.terminate()
        assert process.wait(30) == 0, (tmp_path / "service.log").read_text()
