"""Discovery: what an OAuth 2.0 client and a verifier of access tokens ask first."""

from typing import Any

from aiohttp import web
from aiohttp_apispec import docs

from referral.auth.tokens import SIGNER
from referral.config import CONFIG, Config
from referral.contract.access import Access, Limit, allow
from referral.handlers import API
from referral.web.answers import answer

routes = web.RouteTableDef()

METADATA_SCHEMA = {
    "type": "object",
    "required": ["issuer", "token_endpoint", "revocation_endpoint", "grant_types_supported"],
    "properties": {
        **{
            name: {"type": "string", "format": "uri"}
            for name in ("issuer", "jwks_uri", "token_endpoint", "revocation_endpoint", "service_documentation")
        },
        **{
            name: {"type": "array", "items": {"type": "string"}}
            for name in (
                "grant_types_supported",
                "response_types_supported",
                "token_endpoint_auth_methods_supported",
                "revocation_endpoint_auth_methods_supported",
            )
        },
    },
}


def metadata(config: Config) -> dict[str, Any]:
    """RFC 8414 section 2."""
    base = config.server.public_url.rstrip("/")
    return {
        "issuer": config.server.public_url,
        "jwks_uri": f"{base}/.well-known/jwks.json",
        "token_endpoint": f"{base}{API}/auth/token",
        "revocation_endpoint": f"{base}{API}/auth/revoke",
        "grant_types_supported": ["password", "refresh_token"],
        "response_types_supported": [],
        "token_endpoint_auth_methods_supported": ["none"],
        "revocation_endpoint_auth_methods_supported": ["none"],
        "service_documentation": f"{base}/docs",
    }


@routes.get("/.well-known/jwks.json")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Service"],
    operationId="getKeys",
    summary="The public keys of access tokens",
    description="A JWK Set (RFC 7517), for the product next door to verify access tokens itself: by `kid`, `iss`, `aud` and "
    "`exp`, of the type `at+jwt`. It is empty with HS256, whose key is shared with nobody. A token that verifies may have "
    "been revoked since: only this service knows.",
    responses={200: {"description": "The keys", "content": {"application/json": {"schema": {"type": "object"}}}}},
    touches_database=False,
)
async def get_keys(request: web.Request) -> web.Response:
    return answer(request.app[SIGNER].jwks(), headers={"Cache-Control": "public, max-age=300"})


@routes.get("/.well-known/oauth-authorization-server")
@allow(Access.ANYBODY, Limit.EXEMPT)
@docs(
    tags=["Service"],
    operationId="getAuthorizationServerMetadata",
    summary="OAuth 2.0 metadata",
    description="RFC 8414: where the token and revocation endpoints are and what they take.",
    responses={200: {"description": "The metadata", "content": {"application/json": {"schema": METADATA_SCHEMA}}}},
    touches_database=False,
)
async def get_metadata(request: web.Request) -> web.Response:
    return answer(metadata(request.app[CONFIG]), headers={"Cache-Control": "public, max-age=3600"})
