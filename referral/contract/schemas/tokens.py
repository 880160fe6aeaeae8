"""The OAuth 2.0 endpoints."""

from marshmallow import Schema, fields, validate

from referral.contract.oauth import SERVER_ERROR, TEMPORARILY_UNAVAILABLE
from referral.contract.schemas.fields import about


class TokensSchema(Schema):
    access_token = fields.String(
        metadata=about("A JWT for the Authorization header", "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln")
    )
    token_type = fields.String(validate=validate.Equal("Bearer"), metadata=about("RFC 6750", "Bearer"))
    expires_in = fields.Integer(metadata=about("Seconds the access token lives", 900))
    refresh_token = fields.String(
        metadata=about("Opaque; good for one refresh", "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM")
    )


class OAuthErrorSchema(Schema):
    error = fields.String(
        validate=validate.OneOf(
            ["invalid_request", "invalid_grant", "unsupported_grant_type", TEMPORARILY_UNAVAILABLE, SERVER_ERROR]
        ),
        metadata=about("RFC 6749 section 5.2, and 4.1.2.1 for what a later try may change", "invalid_grant"),
    )
    error_description = fields.String(metadata=about("What is wrong", "The username or the password is wrong."))
