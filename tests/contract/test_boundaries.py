"""The limits of the OpenAPI document are those of the service: what they just allow is not refused as invalid, what they
just forbid is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from referral.contract.paging import encode_cursor
from referral.contract.schemas.changes import PATTERNS
from referral.ids import new_id
from tests.conftest import Client
from tests.support.endpoints import OAUTH, operations
from tests.support.people import API, Answer, Person, Product
from tests.support.programme import Programme

Document = dict[str, Any]
MakePerson = Callable[..., Awaitable[Person]]

# Letters and digits that neither a common password nor an example holds.
LETTERS = "zq9vtz4kw7xj3"
WIDE = "\N{MATHEMATICAL FRAKTUR SMALL Z}"
TIMES = (
    "2027-01-31t12:00:00z",
    "2027-01-31T12:00:00-00:00",
    "2027-01-31T12:00:00.123456789+05:30",
    "2027-02-28T23:59:59.999999999999+23:59",
)


@pytest.fixture
def engine() -> str:
    """What is refused before a database is asked."""
    return "sqlite"


def text_of(schema: Document, length: int) -> str:
    """A text of this length, of the sort that the schema is about."""
    if schema.get("format") == "email":
        # The local part of an address has 64 characters at most, and a label of its domain 63.
        local = "z" * max(1, min(64, length - len("@q.z")))
        labels = (("q" * 60 + ".") * 4)[: length - len(local) - len("@.z")]
        return f"{local}@{labels}.z"
    if schema.get("format") == "uri":
        return f"http://q/{'z' * length}"[:length]
    if "cursor" in schema.get("description", ""):
        rest = length // 4 * 3 - len(f'[{2**62},""]')
        text = encode_cursor((2**62, "~" * rest)) if length > 64 else encode_cursor((0, ""))
        return f"{text}A"[:length] if length > len(text) else text[:length]
    if "of these types" in schema.get("description", ""):
        # All there are, the first of which is one character.
        return f"{','.join(PATTERNS)}x"[:length]
    return (LETTERS * (length // len(LETTERS) + 1))[:length]


def allowed(schema: Document) -> Iterator[Any]:
    """What the schema just allows."""
    kind, *null = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    if null:
        yield None
    yield from schema.get("enum", ())
    if kind == "boolean":
        yield from (True, False)
    if schema.get("format") == "date-time":
        yield from TIMES
    for limit in ("minimum", "maximum"):
        if limit in schema:
            yield schema[limit]
            yield float(schema[limit])
    for limit in ("minLength", "maxLength"):
        if limit in schema:
            yield text_of(schema, schema[limit])
            is_made_up = "cursor" in schema.get("description", "") or schema.get("format") == "uri"
            if schema.get("maxLength", 0) >= 1024 and not is_made_up:
                # JSON Schema counts characters, whatever bytes or surrogates they are made of.
                yield WIDE * schema[limit]


def forbidden(schema: Document) -> Iterator[Any]:
    """What the schema just does not allow."""
    if "minimum" in schema:
        yield schema["minimum"] - 1
    if "maximum" in schema:
        yield schema["maximum"] + 1
    if "minLength" in schema:
        yield text_of(schema, schema["minLength"] - 1)
    if "maxLength" in schema:
        yield text_of(schema, schema["maxLength"] + 1)


def resolved(document: Document, schema: Document) -> Document:
    """The schema that a reference leads to."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema


def bodies(document: Document, media: dict[str, Any], member: str, value: Any) -> Iterator[dict[str, Any]]:
    """Bodies with this value of a member: all that is required beside it, and the examples."""
    schema = resolved(document, media["schema"])
    required = {
        name: resolved(document, described).get("enum", [described.get("example")])[0]
        for name, described in schema["properties"].items()
        if name in schema.get("required", ())
    }
    examples = [example["value"] for example in media.get("examples", {}).values()]
    for base in (required, *examples, *([media["example"]] if "example" in media else [])):
        yield {**base, member: value}


def is_valid(document: Document, schema: Document, instance: Any) -> bool:
    return bool(Draft202012Validator({**schema, "components": document["components"]}).is_valid(instance))


async def of_rewards(programme: Programme, url: str) -> str:
    """The path with the ids of a rule, a reward, a review, a block or a webhook that are there."""
    if "{rule_id}" in url:
        return url.replace("{rule_id}", (await programme.rule())["id"])
    if "{webhook_id}" in url:
        body = {"url": "https://shop.example.com/hooks", "types": ["*"]}
        return url.replace("{webhook_id}", (await programme.admin.post("/webhooks", body)).body["id"])
    if "/reviews/" in url or "/referrals/" in url:
        referee = new_id()
        await programme.come(referee, new_id())
        await programme.suspect(referee)
        return url.replace("{user}", f"ext:{referee}")
    if "/blocks/" in url:
        return url.replace("{kind}", "email-domain").replace("{value}", "example.com")
    if "{reward_id}" in url:
        given = await programme.give("43", 5, id=new_id(), hold_days=1)
        return url.replace("{reward_id}", given["id"])
    return url


def is_refused(answer: Answer, member: str) -> bool:
    """Whether the member was called invalid. Nothing else may have gone wrong before it was looked at."""
    if answer.status == 404 and "no such active code" in answer.body["detail"]:
        return False
    assert answer.status not in (401, 404, 405, 413, 415, 429), answer.body
    assert answer.status < 500, answer.body
    if any(
        text in str(answer.body)
        for text in ("in the future", "after starts_at", "is left of the reward", "have a label", "has a value")
    ):
        # What happened has a time that was, and one member depends on another: no schema says so.
        return False
    if answer.status == 422:
        return answer.problem == "validation-error" and f"/{member}" in answer.pointers
    if answer.status != 400 or answer.oauth_error == "invalid_grant":
        return False
    # RFC 8693 has no other word for a token that is of no issuer here.
    return "subject_token is malformed" not in answer.body["error_description"]


async def test_what_a_body_may_just_hold_is_taken_and_what_it_may_not_is_refused(client: Client, person: MakePerson) -> None:
    document = await (await client.get("/openapi.json")).json()
    taken, refused = set(), set()
    for method, path, operation in operations(document):
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            someone = await person()
            url = path.removeprefix(API).replace("{code}", await someone.make_code())
            if len(operation["security"]) > 1:
                someone = await Product.with_key(client, "admin")
                url = await of_rewards(Programme(someone), url)
                url = url.replace("{user}", (await someone.user("42"))["id"])

            async def call(
                body: dict[str, Any], method: str = method, url: str = url, kind: str = kind, someone: Person = someone
            ) -> Answer:
                form = kind != "application/json"
                return await someone.call(method, url, **({"data": body} if form else {"body": body}))

            for member, described in resolved(document, media["schema"])["properties"].items():
                schema = resolved(document, described)
                for value in allowed(schema):
                    valid = [
                        body for body in bodies(document, media, member, value) if is_valid(document, media["schema"], body)
                    ]
                    assert valid, (method, path, member, value)
                    for body in valid:
                        answer = await call(body)
                        assert not is_refused(answer, member), (method, path, body, answer.body)
                        taken.add((operation["operationId"], member))
                for value in forbidden(schema):
                    body = next(bodies(document, media, member, value))
                    assert not is_valid(document, media["schema"], body), (method, path, body)
                    answer = await call(body)
                    assert is_refused(answer, member), (method, path, body, answer.body)
                    refused.add((operation["operationId"], member))
    assert len(taken) > 25
    assert len(refused) > 20


async def test_what_a_query_may_just_hold_is_taken_and_what_it_may_not_is_refused(
    client: Client, person: MakePerson
) -> None:
    document = await (await client.get("/openapi.json")).json()
    user = await person()
    await user.make_code()
    product = await Product.with_key(client, "admin")
    tried = set()
    for _, path, operation in operations(document):
        url = path.removeprefix(API).replace("{user}", user.id)
        url = await of_rewards(Programme(product), url)
        someone = product if len(operation["security"]) > 1 else user
        needed = {
            parameter["name"]: parameter["schema"].get("example", parameter.get("example"))
            for parameter in operation.get("parameters", ())
            if parameter["in"] == "query" and parameter["required"]
        }
        for parameter in operation.get("parameters", ()):
            if parameter["in"] == "query":
                name, schema = parameter["name"], {**parameter["schema"], "description": parameter["description"]}
                for value in allowed(schema):
                    asked = str(int(value) if isinstance(value, float) else value)
                    answer = await someone.get(url, params={**needed, name: asked})
                    # A feed is followed no further than it goes.
                    is_beyond = answer.status == 410 and (path, name) == (f"{API}/changes", "after")
                    # Of revenue alone, and one of the settings'.
                    is_other = answer.status == 422 and (path, name) == (f"{API}/leaderboard", "unit")
                    assert answer.status in (200, 404) or is_beyond or is_other, (path, name, value, answer.body)
                for value in forbidden(schema):
                    answer = await someone.get(url, params={**needed, name: str(value)})
                    assert answer.pointers == [f"/{name}"], (path, name, value)
                    tried.add((path, name))
    assert {name for _, name in tried} == {
        "limit",
        "cursor",
        "email",
        "external_id",
        "q",
        "user",
        "type",
        "rule",
        "event",
        "unit",
        "after",
        "types",
        "wait",
        "code",
    }
    assert len(tried) >= 9


async def test_every_text_that_a_client_sends_has_a_limit(client: Client) -> None:
    """Or a reason to have none: members that OAuth has its own words for, which any text may be, and times."""
    document = await (await client.get("/openapi.json")).json()
    unlimited = set()
    for _, path, operation in operations(document):
        sent = {parameter["name"]: parameter["schema"] for parameter in operation.get("parameters", ())}
        for media in operation.get("requestBody", {}).get("content", {}).values():
            sent |= resolved(document, media["schema"])["properties"]
        for name, described in sent.items():
            schema = resolved(document, described)
            has_one = "maxLength" in schema or schema.get("format") in ("date", "date-time", "uuid")
            has_one = has_one or "enum" in schema
            if "string" in schema.get("type", ()) and path not in OAUTH and not has_one:
                unlimited.add((path, name))
    assert unlimited == set()
