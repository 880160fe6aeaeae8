"""A shop with users of its own: they sign up, by somebody's code if they have one, buy, and see who came by them."""

import hashlib
import secrets
import sqlite3
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from string import Template
from typing import Annotated, Any

from fastapi import Cookie, Depends, FastAPI, Form, HTTPException
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response

from data import HERE, SHOP_URL, database
from referring import JWKS, REFERRAL_URL, answer_to, code_of, report, start_telling, token_of

PRICE = {"unit": "USD", "amount": 4900}
# Seconds that somebody waits to be told by whom they came. Most answers take some thousandths.
PATIENCE = 0.5


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    start_telling()
    yield


app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)


def page(file: str, status: int = 200, **texts: str) -> HTMLResponse:
    html = Template((HERE / "pages" / file).read_text()).substitute({key: escape(text) for key, text in texts.items()})
    # The page's script may call the referral service, and nobody else.
    policy = f"default-src 'none'; img-src data:; script-src 'self'; connect-src 'self' {REFERRAL_URL}/; form-action 'self'"
    return HTMLResponse(html, status, {"Content-Security-Policy": policy})


# Who is there


def hashed(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1)


def start_session(db: sqlite3.Connection, user_id: int) -> RedirectResponse:
    token = secrets.token_urlsafe()
    db.execute("INSERT INTO sessions VALUES (?, ?)", (hashlib.sha256(token.encode()).hexdigest(), user_id))
    response = RedirectResponse("/", 303)
    # Lax: no other site's page posts a form in the user's name.
    response.set_cookie("shop_session", token, httponly=True, samesite="lax", secure=SHOP_URL.startswith("https:"))
    return response


def visitor(shop_session: Annotated[str, Cookie()] = "") -> sqlite3.Row | None:
    with database() as db:
        found: sqlite3.Row | None = db.execute(
            "SELECT users.* FROM users JOIN sessions ON sessions.user_id = users.id WHERE token_hash = ?",
            (hashlib.sha256(shop_session.encode()).hexdigest(),),
        ).fetchone()
    return found


def signed_in(found: Annotated[sqlite3.Row | None, Depends(visitor)]) -> sqlite3.Row:
    if found is None:
        raise HTTPException(303, headers={"Location": "/"})
    return found


Visitor = Annotated[sqlite3.Row | None, Depends(visitor)]
User = Annotated[sqlite3.Row, Depends(signed_in)]
Text = Annotated[str, Form(min_length=1, max_length=200)]


@app.post("/signup")
def sign_up(name: Text, email: Text, password: Text, ref: Annotated[str, Form()] = "") -> Response:
    salt, code = secrets.token_bytes(16), ref.strip()[:100]
    try:
        with database() as db:
            user_id = db.execute(
                "INSERT INTO users (email, name, salt, password) VALUES (?, ?, ?, ?)",
                (email.strip(), name, salt, hashed(password, salt)),
            ).lastrowid
            assert user_id is not None
            # Of the user it has the id alone: nothing that the service might not like.
            event = {"id": f"signup-{user_id}", "type": "signup", "user": {"external_id": str(user_id)}}
            report(db, {**event, "code": code} if code else event)
            response = start_session(db, user_id)
    except sqlite3.IntegrityError:
        return page("refused.html", 409, why="This address has an account")
    answer_to(f"signup-{user_id}", patience=PATIENCE)
    return response


@app.post("/signin")
def sign_in(email: Text, password: Text) -> Response:
    with database() as db:
        user = db.execute("SELECT * FROM users WHERE email = ?", (email.strip(),)).fetchone()
        # A user who is not there takes as long as one who is.
        salt, wanted = (user["salt"], user["password"]) if user else (b"", b"")
        if secrets.compare_digest(hashed(password, salt), wanted):
            return start_session(db, user["id"])
    return page("refused.html", 401, why="Wrong e-mail or password")


@app.post("/signout")
def sign_out(user: User) -> Response:
    with database() as db:
        db.execute("DELETE FROM sessions WHERE user_id = ?", (user["id"],))
    return RedirectResponse("/", 303)


# What they see and do


@app.get("/")
def home(user: Visitor, ref: str = "") -> Response:
    if user is None:
        return page("welcome.html", ref=ref)
    with database() as db:
        orders = db.execute("SELECT id FROM orders WHERE user_id = ? ORDER BY rowid", (user["id"],)).fetchall()
    code = code_of(user)
    return page(
        "account.html",
        name=user["name"],
        signup=told(f"signup-{user['id']}"),
        code=code or "not to be had now",
        link=f"{SHOP_URL}/?ref={code}" if code else "",
        service=REFERRAL_URL,
        order=str(uuid.uuid4()),
        orders="\n".join(f"Order {order}: {told(f'order-{order}')}" for (order,) in orders),
    )


def told(event_id: str) -> str:
    """What became of a report, in words."""
    answer = answer_to(event_id)
    if answer is None:
        return "not reported yet"
    if "attribution" not in answer:
        return f"refused: {answer['detail']}"
    status, reason = answer["attribution"]["status"], answer["attribution"]["reason"]
    return f"{status}: {reason}" if reason else status


@app.post("/buy")
def buy(user: User, order: Annotated[uuid.UUID, Form()]) -> Response:
    """The form names the order: one that is sent twice is one order, one report and one event."""
    with database() as db:
        if db.execute("INSERT OR IGNORE INTO orders VALUES (?, ?, ?)", (str(order), user["id"], PRICE["amount"])).rowcount:
            buyer = {"external_id": str(user["id"])}
            report(db, {"id": f"order-{order}", "type": "purchase", "user": buyer, "value": PRICE})
    answer_to(f"order-{order}", patience=PATIENCE)
    return RedirectResponse("/", 303)


@app.get("/referrals.js")
def script() -> Response:
    return FileResponse(HERE / "pages" / "referrals.js")


# By what the referral service knows the shop's users


@app.get("/token")
def token(user: User) -> Response:
    return PlainTextResponse(token_of(user), headers={"Cache-Control": "no-store"})


@app.get("/.well-known/openid-configuration")
def metadata() -> dict[str, str]:
    return {"issuer": SHOP_URL, "jwks_uri": f"{SHOP_URL}/jwks.json"}


@app.get("/jwks.json")
def keys() -> dict[str, Any]:
    return JWKS
