"""Discovery: what an OAuth 2.0 client and a verifier of access tokens ask first."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs, response_schema

from referral.auth.tokens import AUDIENCE, SIGNER, TYPE
from referral.config import CONFIG, Config
from referral.config.public_url import parse_public_url
from referral.contract.access import Access, Limit, allow
from referral.contract.schemas.discovery import JsonWebKeySetSchema, ServerMetadataSchema
from referral.handlers import API
from referral.rules.token_exchange import GRANT
from referral.web.answers import answer

routes = web.RouteTableDef()


def metadata(config: Config) -> dict[str, Any]:
    """RFC 8414 section 2."""
    url = parse_public_url(config.server.public_url).url
    return {
        "issuer": config.server.public_url,
        "jwks_uri": url("/.well-known/jwks.json"),
        "token_endpoint": url(f"{API}/auth/token"),
        "revocation_endpoint": url(f"{API}/auth/revoke"),
        "grant_types_supported": ["password", "refresh_token", GRANT],
        # The list is required and must not be empty (sections 2 and 3.2), although no authorization endpoint is here that
        # would take one of its values. Of those that are registered, this one promises nothing.
        "response_types_supported": ["none"],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": url("/docs"),
    }


@routes.get("/.well-known/jwks.json")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Discovery"],
    operationId="getKeys",
    summary="The public keys of access tokens",
    description="A JWK Set (RFC 7517), for the product next door to verify access tokens itself (RFC 9068 section 4): of "
    f"the type `{TYPE}`, signed by the key of its `kid`, its `iss` the `issuer` of the metadata, its `aud` `{AUDIENCE}`, "
    "its `exp` in the future. The set is empty with HS256, whose key is shared with nobody. A token that verifies may have "
    "been revoked since: only this service knows.",
    problems=("bad-request",),
    touches_database=False,
)
@response_schema(JsonWebKeySetSchema, 200, description="The keys")
async def get_keys(request: web.Request) -> web.Response:
    return answer(request.app[SIGNER].jwks(), headers={"Cache-Control": "public, max-age=300"})


@routes.get("/.well-known/oauth-authorization-server")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Discovery"],
    operationId="getAuthorizationServerMetadata",
    summary="OAuth 2.0 metadata",
    description="RFC 8414: where the token and revocation endpoints are and what they take.",
    problems=("bad-request",),
    touches_database=False,
)
@response_schema(ServerMetadataSchema, 200, description="The metadata")
async def get_metadata(request: web.Request) -> web.Response:
    return answer(metadata(request.app[CONFIG]), headers={"Cache-Control": "public, max-age=3600"})
