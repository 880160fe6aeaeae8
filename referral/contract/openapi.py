"""OpenAPI 3.1, built with apispec out of what aiohttp-apispec's decorators left at the handlers.

Who may call an operation is what `@allow` declares (`access.py`). Beside aiohttp-apispec's own words, `@docs` says:
- `problems`: the names of the problems it can answer with, beyond those every route of its sort has;
- `response_headers`: {status: {header: description}};
- `request_examples`: {name: body}, where one example is not enough.

The document is for clients, and for the generators that make them: what is for readers and probes has `@undocumented`
instead.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from aiohttp import web
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from marshmallow import Schema

from referral import __version__
from referral.config import Config
from referral.config.public_url import PUBLIC_URL, PublicURL
from referral.contract.access import Access, Declaration, Errors, Limit, declaration_of
from referral.contract.catalogue import CATALOGUE, Kind
from referral.contract.components import finish_schemas, refer_to_words, schema_name
from referral.contract.messages import add_messages, messages
from referral.contract.oauth import word_for
from referral.contract.parameters import PATH_PARAMETERS, path_parameters
from referral.contract.problems import CONTENT_TYPE, Problem, invalid_members, type_of
from referral.contract.schemas import fields
from referral.contract.schemas.events import EventType
from referral.contract.schemas.problems import ProblemSchema

H = TypeVar("H", bound=Callable[..., Any])

TOKEN_PATH = "/api/v1/auth/token"

# Problems that any address can answer with, before a handler is asked.
TRANSPORT_PROBLEMS = ("bad-request", "method-not-allowed", "expectation-failed")

TAGS = {
    "Authentication": "Register, sign in, stay signed in, and get back in.",
    "Me": "The user's own account, referrer and referrals.",
    "Users": "Users as the product's back end knows them, by our id or by its own.",
    "Events": "What the product reports of its users: sign-ups, purchases, refunds.",
    "Rules": "What is given to whom, for what, and within which limits.",
    "Rewards": "What was given: approve, reject, deliver it, and take it back.",
    "Reviews": "Referrals that look suspicious, until somebody decides.",
    "Redemptions": "What users spend of their balances.",
    "Codes": "Make, edit, share and end codes; look one up.",
    "Links": "Share links, and who clicked on them.",
    "Statistics": "What became of the whole programme.",
    "Changes": "What happened, for products that follow it by its numbers.",
    "Webhooks": "Where changes are sent, and what became of it.",
    "Keys": "Service keys, by which a product's back end calls.",
    "Operations": "Who did what, and which mail is on its way.",
    "Discovery": "What an OAuth 2.0 client and a verifier of access tokens ask first.",
}

CSV_TEXT = "With `format=csv` in the query it is a file for spreadsheets, `text/csv`: all items, whatever `limit` is."

DESCRIPTION = """\
A referral programme as a service: users make a code, share it, and see who came by it.

Register, press **Authorize** with the e-mail (or username) and password, and try the calls.

- A product's back end calls by a service key, `python run.py keys create NAME --scope write`, and names its users by
  `ext:` and its own ids. What a call takes, stands at its end.
- Bodies are JSON in UTF-8 of at most 64 KiB, a batch of events of 2 MiB; an unknown member is refused. Times are RFC 3339 in
  UTC, ids are UUIDs; users and events have ids of the product's own, too.
- Every error but those of the two OAuth endpoints is a [problem document](https://www.rfc-editor.org/rfc/rfc9457), whose
  `type` leads to a page that explains it. Beside what is listed at a call, any address can answer
  {transport_problems}, and one that does not exist {not_found}.
- A list comes in pages, newest first but for users that are searched: the next one by `next_cursor`, until it is null, or
  by the `Link` header.
- Mails are written in the language of the `Accept-Language` of the request that causes them: English or Russian.
- A new member may appear in any answer; a client ignores those it does not know.
"""


def undocumented(reason: str) -> Callable[[H], H]:
    """Declare that the decorated handler is left out of the document, because it answers with `reason`."""

    def declare(handler: H) -> H:
        handler.__undocumented__ = reason  # type: ignore[attr-defined]
        return handler

    return declare


def build_openapi(app: web.Application, config: Config) -> dict[str, Any]:
    """The document of all routes of the application that carry `@docs`."""
    public, plugin = app[PUBLIC_URL], MarshmallowPlugin(schema_name_resolver=schema_name)
    spec = APISpec(
        title="Referral service",
        version=__version__,
        openapi_version="3.1.0",
        plugins=[plugin],
        info={
            "description": _description(public),
            "contact": {"name": "Referral service", "url": public.url("/docs")},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
        servers=[{"url": public.url()}],
    )
    assert plugin.converter is not None
    plugin.map_to_openapi_type(fields.Metadata, "object", None)
    for field in (fields.Timestamp, fields.Email, fields.Username, fields.CodeText, fields.Line, EventType):
        plugin.map_to_openapi_type(field, "string", None)
    plugin.converter.add_attribute_function(refer_to_words)
    token_url = public.url(TOKEN_PATH)
    spec.components.security_scheme(
        "OAuth2",
        {
            "type": "oauth2",
            "description": "Sign in with the e-mail or the username, and the password. Leave the client id empty. Where the "
            "service has `identity.issuers`, a token of one of them will do as well.",
            "flows": {"password": {"tokenUrl": token_url, "refreshUrl": token_url, "scopes": {}}},
        },
    )
    spec.components.security_scheme(
        "ServiceKey",
        {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "rsk_…",
            "description": "A service key, for a product's back end: `python run.py keys create NAME --scope write`. Its "
            "scopes are read, write and admin, each of which comprises the ones before it.",
        },
    )
    for name, header in HEADERS.items():
        spec.components.header(name, {"required": True, **header})
    spec.components.schema("Problem", schema=ProblemSchema)
    for route in app.router.routes():
        documented = getattr(route.handler, "__apispec__", None)
        if documented and route.method != "HEAD" and route.resource:
            spec.path(
                path=route.resource.canonical,
                operations={route.method.lower(): _operation(plugin, route, copy.deepcopy(documented), config)},
            )
    add_messages(spec)
    document: dict[str, Any] = spec.to_dict()
    finish_schemas(document, config)
    document["webhooks"] = messages(document)
    moved: dict[str, Any] = _moved(document, public)
    return moved


def _description(public: PublicURL) -> str:
    def links(*names: str) -> str:
        return ", ".join(f"[`{name}`]({public.path(f'/problems/{name}')})" for name in names)

    return DESCRIPTION.format(transport_problems=links(*TRANSPORT_PROBLEMS), not_found=links("not-found"))


def _moved(node: Any, public: PublicURL) -> Any:
    """The node with the addresses of examples and of problems' types as this installation has them. The paths of operations
    are keys, and relative to the document's `servers`."""
    if isinstance(node, dict):
        return {name: _moved(value, public) for name, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, public) for value in node]
    return public.path(node) if isinstance(node, str) and node.startswith(("/api/", "/problems/")) else node


HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The request's id: the caller's own, if it sent a sane one",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=@-]{1,128}$"},
        "example": fields.EXAMPLE_ID,
    },
    "WWW-Authenticate": {
        "description": "RFC 6750: whether a token is missing, or why it was refused",
        "schema": {"type": "string"},
        "example": 'Bearer realm="referral"',
    },
    "Retry-After": {
        "description": "Seconds to wait before another try",
        "schema": {"type": "integer", "minimum": 1},
        "example": 2,
    },
    "RateLimit": {
        "description": "Requests that remain, and seconds until there are more (draft-ietf-httpapi-ratelimit-headers)",
        "schema": {"type": "string"},
        "example": '"lookup_by_address";r=0;t=42',
    },
    "RateLimit-Policy": {
        "description": "How many requests are allowed in how many seconds",
        "schema": {"type": "string"},
        "example": '"lookup_by_address";q=300;w=60',
    },
}
# Headers that a response may lack.
OPTIONAL_HEADERS = ("Link",)
PROBLEM_HEADERS = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After", "RateLimit", "RateLimit-Policy"),
    503: ("Retry-After",),
}


def _operation(plugin: MarshmallowPlugin, route: web.AbstractRoute, docs: dict[str, Any], config: Config) -> dict[str, Any]:
    declared, problems = declaration_of(route.handler), list(docs.pop("problems", ()))
    response_headers = {str(status): texts for status, texts in docs.pop("response_headers", {}).items()}
    docs.pop("produces", None)
    assert route.resource is not None
    path, invalid, has_csv = route.resource.canonical, None, False
    parameters = [*docs.pop("parameters"), *path_parameters(path)]
    for request_schema in docs.pop("schemas"):
        if request_schema["location"] == "json":
            example = {key: value for key, value in request_schema["example"].items() if key != "add_to_refs"}
            examples = {name: {"value": value} for name, value in docs.pop("request_examples", {}).items()}
            shown = {"examples": examples} if examples else {"example": example} if example else {}
            media = {"schema": request_schema["schema"], **shown}
            invalid = _invalid_example(request_schema["schema"])
            is_required = not getattr(request_schema["schema"], "is_optional", False)
            docs["requestBody"] = {"required": is_required, "content": {"application/json": media}}
            problems += [
                "malformed-json",
                "payload-too-large",
                "unsupported-media-type",
                "unsupported-encoding",
                "request-timeout",
                "validation-error",
            ]
        else:
            assert plugin.converter is not None
            described = plugin.converter.schema2parameters(request_schema["schema"], location="query")
            has_csv = any(one["name"] == "format" for one in described)
            # Generators make types of all that a status may bring, so that whoever wants JSON would get texts, too.
            parameters += [one for one in described if one["name"] != "format"]
            problems.append("validation-error")
            invalid = _invalid_example(request_schema["schema"])
    docs["security"] = _security(declared, config)
    if declared.access.scope and docs["security"]:
        # Linters know scopes of OAuth 2.0 alone.
        docs["x-required-scope"] = declared.access.scope
    if has_csv:
        docs["description"] = f"{docs.get('description', '')}\n\n{CSV_TEXT}".strip()
    docs["description"] = f"{docs.get('description', '')}\n\n{_callers(declared, config)}".strip()
    if docs["security"]:
        problems += ["unauthorized", "forbidden", "issuer-unavailable"]
        if declared.access.scope and declared.access is not Access.PUBLIC_LOOKUP:
            # What an admin calls for others.
            problems.append("second-factor-required")
    if docs.pop("touches_database", True):
        problems += ["unavailable", "conflict"]
    if declared.limit is not Limit.EXEMPT:
        problems.append("rate-limited")
    problems.append("internal-error")
    responses = {str(status): _response(response) for status, response in docs.pop("responses").items()}
    for status, response in responses.items():
        texts = response_headers.get(status, {})
        response["headers"] = {name: _header(name, text) for name, text in texts.items()}
    for name in dict.fromkeys(problems):
        if declared.errors is Errors.OAUTH:
            _add_oauth_error(responses, name)
        else:
            _add_problem(responses, name, _example(name, path, invalid))
    for response in responses.values():
        response["headers"]["X-Request-ID"] = "X-Request-ID"
    if parameters:
        docs["parameters"] = parameters
    return {**docs, "responses": dict(sorted(responses.items()))}


# Who may call, as each operation says it.
CALLERS = {
    Access.USER: "A user, for their own account.",
    Access.USER_OR_READ: "A user; a service key of the scope `read`.",
    Access.PUBLIC_LOOKUP: "A user; a service key of the scope `read`.",
    Access.USER_OR_WRITE: "A user; a service key of the scope `write`.",
    Access.SELF_OR_READ: "The user in question; a service key of the scope `read`; an admin.",
    Access.SELF_OR_WRITE: "The user in question; a service key of the scope `write`; an admin.",
    Access.PAGE_OR_WRITE: "A page of an origin in `links.allowed_origins`, without any token; a service key of the scope "
    "`write`; an admin.",
    Access.READ: "A service key of the scope `read`; an admin.",
    Access.WRITE: "A service key of the scope `write`; an admin.",
    Access.ADMIN: "A service key of the scope `admin`; an admin.",
}


def _callers(declared: Declaration, config: Config) -> str:
    is_asked = declared.access.admits_pages or declared.wants_identity(config)
    return f"**Who may call:** {CALLERS[declared.access] if is_asked else 'Anybody.'}"


def _security(declared: Declaration, config: Config) -> list[dict[str, list[str]]]:
    """The requirement of each sort of caller. Admins sign in, and so do users."""
    if declared.access.admits_pages:
        return [{}, {"ServiceKey": []}]
    if not declared.wants_identity(config):
        return []
    users: dict[str, list[str]] = {"OAuth2": []}
    return [users, {"ServiceKey": []}] if declared.access.scope else [users]


def _header(name: str, description: str) -> dict[str, Any]:
    kind = {"type": "string", "format": "uri-reference"} if name == "Location" else {"type": "string"}
    return {"description": description, "required": name not in OPTIONAL_HEADERS, "schema": kind}


def _invalid_example(schema: Schema) -> Problem:
    """What the schema says of an empty body or, where that will do, of a wrong first member."""
    first = next(iter(schema.fields))
    messages = schema.validate({}) or schema.validate({first: []})
    return invalid_members([(f"/{name}", texts[0]) for name, texts in messages.items()])


def _response(documented: dict[str, Any]) -> dict[str, Any]:
    if "schema" not in documented:
        return {"headers": {}, **documented}
    return {
        "description": documented["description"],
        "content": {"application/json": {"schema": documented["schema"]}},
        "headers": {},
    }


def _add_problem(responses: dict[str, Any], name: str, example: dict[str, Any]) -> None:
    """One response a status, with an example of each problem that has it."""
    _add_error(responses, CATALOGUE[name], f"`{name}`", (CONTENT_TYPE, "Problem"), example)


def _add_oauth_error(responses: dict[str, Any], name: str) -> None:
    """The same for an endpoint that answers the problem in the shape of RFC 6749."""
    kind = CATALOGUE[name]
    example = {"error": word_for(kind.status), "error_description": _detail(kind)}
    _add_error(responses, kind, f"`{example['error']}`", ("application/json", "OAuthError"), example)


def _add_error(responses: dict[str, Any], kind: Kind, word: str, shape: tuple[str, str], example: dict[str, Any]) -> None:
    headers = {header: header for header in PROBLEM_HEADERS.get(kind.status, ())}
    response = responses.setdefault(str(kind.status), {"description": "", "headers": headers})
    separator = "; or " if response["description"] and not response["description"].endswith(".") else " "
    response["description"] = f"{response['description']}{separator}{word}: {kind.title}.".strip()
    content_type, schema = shape
    content = response.setdefault("content", {}).setdefault(content_type, {"schema": schema, "examples": {}})
    content["examples"][kind.name] = {"summary": kind.title, "value": example}


def _example(name: str, path: str, invalid: Problem | None) -> dict[str, Any]:
    kind = CATALOGUE[name]
    for parameter, described in PATH_PARAMETERS.items():
        path = path.replace(f"{{{parameter}}}", described["example"])
    example: dict[str, Any] = {
        "type": type_of(name),
        "title": kind.title,
        "status": kind.status,
        "detail": _detail(kind),
        "instance": path,
        "request_id": fields.EXAMPLE_ID,
    }
    if name == "validation-error" and invalid:
        example |= {"detail": invalid.detail, **invalid.members}
    if name == "referral-code-invalid":
        example |= {"detail": "The referral code has expired.", "reason": "expired"}
    return example


def _detail(kind: Kind) -> str:
    return kind.explanation.partition(". ")[0].rstrip(".") + "."
