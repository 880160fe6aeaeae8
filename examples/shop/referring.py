"""All that the shop has to do with the referral service: events, codes, and the tokens by which pages call it.

Nothing that becomes of the service fails a sign-up or an order. What happens is written down in the transaction of what it
reports (an outbox), and told afterwards, under the same id again and again, until the service has answered.
"""

import hashlib
import json
import logging
import os
import sqlite3
import threading
import time
from datetime import UTC, datetime
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from data import DATA, SHOP_URL, database

REFERRAL_URL = os.environ.get("REFERRAL_URL", "http://127.0.0.1:8000")
RETRY_SECONDS = float(os.environ.get("SHOP_RETRY_SECONDS", "5"))
AUDIENCE = "referrals"

log = logging.getLogger("uvicorn.error")
service = httpx.Client(
    base_url=f"{REFERRAL_URL}/api/v1", headers={"Authorization": f"Bearer {os.environ['REFERRAL_KEY']}"}, timeout=2.0
)
news = threading.Event()


def report(db: sqlite3.Connection, event: dict[str, Any]) -> None:
    """Write an event down, in the transaction of what it reports. From now on its id and all of it stay as they are."""
    event = event | {"occurred_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}
    db.execute("INSERT INTO reports (id, event) VALUES (?, ?)", (event["id"], json.dumps(event)))


def answer_to(event_id: str, patience: float = 0.0) -> dict[str, Any] | None:
    """What the service has answered to an event; None if nothing yet. Waits for it no longer than `patience` seconds."""
    end = time.monotonic() + patience
    news.set()
    while True:
        with database() as db:
            row = db.execute("SELECT answer FROM reports WHERE id = ?", (event_id,)).fetchone()
        if row is not None and row["answer"] is not None:
            answer: dict[str, Any] = json.loads(row["answer"])
            return answer
        if time.monotonic() > end:
            return None
        time.sleep(0.02)


def start_telling() -> None:
    """Start the thread that tells what is new at once, and what failed some seconds later."""
    threading.Thread(target=_tell_for_ever, daemon=True).start()


def _tell_for_ever() -> None:
    while True:
        news.wait(RETRY_SECONDS)
        news.clear()
        try:
            _tell_what_is_new()
        except Exception as error:
            log.warning("The referral service will be told later: %r", error)


def _tell_what_is_new() -> None:
    """Tell each event that has no answer, the oldest first. If the shop
    ends before it has kept an answer, the event is told again, and the service answers as the first time."""
    with database() as db:
        waiting = db.execute("SELECT id, event FROM reports WHERE answer IS NULL ORDER BY number").fetchall()
    for event_id, event in waiting:
        answer = service.post("/events", content=event, headers={"Content-Type": "application/json"})
        # These are its last words on an event. Whatever else it says, a wrong key included, is mended some time.
        if answer.status_code not in (200, 201, 409, 422):
            raise RuntimeError(f"{answer.status_code} {answer.text}")
        if answer.is_error:
            log.error("The referral service refused the event %s: %s", event_id, answer.text)
        with database() as db:
            db.execute("UPDATE reports SET answer = ? WHERE id = ?", (json.dumps(answer.json()), event_id))


def code_of(user: sqlite3.Row) -> str | None:
    """The code by which the user refers others; a new one if there is none, or the last one has ended. None if the service
    gives no answer."""
    described = {"name": user["name"], "email": user["email"], "code": {"ttl_days": 365}}
    try:
        answer = service.put(f"/users/ext:{user['id']}", json=described)
        if answer.status_code == 409:
            # Somebody else there has the address, whom the service knows without the shop.
            del described["email"]
            answer = service.put(f"/users/ext:{user['id']}", json=described)
        return str(answer.raise_for_status().json()["code"]["code"])
    except (httpx.HTTPError, ValueError) as error:
        log.warning("There is no code for the user %s now: %s", user["id"], error)
        return None


def _key() -> Ed25519PrivateKey:
    """The key that signs the shop's tokens. It is made once."""
    file = DATA / "key.pem"
    if not file.exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        file.touch(mode=0o600)
        file.write_bytes(pem)
    key = serialization.load_pem_private_key(file.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    return key


KEY = _key()
_PUBLIC = jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
KEY_ID = hashlib.sha256(_PUBLIC["x"].encode()).hexdigest()[:16]
JWKS = {"keys": [{**_PUBLIC, "kid": KEY_ID, "alg": "EdDSA", "use": "sig"}]}


def token_of(user: sqlite3.Row) -> str:
    """A token of five minutes for the user's browser. `sub` is the external id by which events name the user."""
    now = int(time.time())
    claims = {"iss": SHOP_URL, "aud": AUDIENCE, "sub": str(user["id"]), "iat": now, "exp": now + 300}
    return jwt.encode(claims, KEY, "EdDSA", {"kid": KEY_ID})
