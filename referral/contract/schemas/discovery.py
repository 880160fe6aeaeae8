"""What a verifier of access tokens and an OAuth 2.0 client ask first."""

from typing import Any

from marshmallow import Schema, fields

from referral.contract.schemas.fields import about


def _endpoint(description: str, path: str) -> fields.String:
    return fields.String(metadata={**about(description, f"https://referral.example.com{path}"), "format": "uri"})


def _words(description: str, *words: str) -> fields.List[Any]:
    metadata: dict[str, Any] = {**about(description, list(words)), "minItems": 1}
    return fields.List(fields.String(), metadata=metadata)


class ServerMetadataSchema(Schema):
    """RFC 8414 section 2."""

    issuer = _endpoint("The `iss` of access tokens", "")
    jwks_uri = _endpoint("The public keys", "/.well-known/jwks.json")
    token_endpoint = _endpoint("Where to sign in and refresh", "/api/v1/auth/token")
    revocation_endpoint = _endpoint("Where to sign out (RFC 7009)", "/api/v1/auth/revoke")
    service_documentation = _endpoint("Where the API is documented", "/docs")
    grant_types_supported = _words("What the token endpoint takes", "password", "refresh_token")
    response_types_supported = _words("None: there is no authorization endpoint", "none")
    token_endpoint_auth_methods_supported = _words("Clients do not authenticate themselves", "none")
    revocation_endpoint_auth_methods_supported = _words("Clients do not authenticate themselves", "none")


class JsonWebKeySchema(Schema):
    """RFC 7517 section 4, with what RFC 7518 section 6.3 adds for RSA and RFC 8037 for Ed25519."""

    kty = fields.String(metadata=about("RSA for RS256, OKP for EdDSA", "OKP"))
    kid = fields.String(metadata=about("As in the header of the tokens it verifies", "5f0a3f4c0e4b7d1a"))
    alg = fields.String(metadata=about("RS256 or EdDSA", "EdDSA"))
    use = fields.String(metadata=about("For signatures", "sig"))
    crv = fields.String(metadata=about("Of OKP: the curve", "Ed25519"))
    x = fields.String(metadata=about("Of OKP: the public key", "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
    n = fields.String(metadata={"description": "Of RSA: the modulus"})
    e = fields.String(metadata={"description": "Of RSA: the exponent"})


class JsonWebKeySetSchema(Schema):
    """RFC 7517 section 5."""

    keys = fields.List(fields.Nested(JsonWebKeySchema), metadata={"description": "The current key, and the one before it"})
