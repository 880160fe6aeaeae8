"""The OAuth 2.0 endpoints."""

from marshmallow import EXCLUDE, Schema, fields, validate

from referral.contract.oauth import SERVER_ERROR, TEMPORARILY_UNAVAILABLE
from referral.contract.schemas.attribution import EventAttributionSchema
from referral.contract.schemas.fields import EXAMPLE_CODE, EXAMPLE_ID, Words, about

TOKEN = "hR2nF0cZ7v8mQx1TzYk3w5LJ9sEaBdGiUoPqXyWtVfM"


class OAuthInputSchema(Schema):
    """Described here and read by the handler, because RFC 6749 has its own words for what is wrong with it. It wants unknown
    members to be ignored."""

    class Meta:
        unknown = EXCLUDE


class TokenRequestSchema(OAuthInputSchema):
    grant_type = Words(
        "GrantType",
        {
            "password": "password",
            "refresh_token": "refresh_token",
            "token_exchange": "urn:ietf:params:oauth:grant-type:token-exchange",
        },
        required=True,
        metadata=about("What is given", "password"),
    )
    username = fields.String(metadata=about("With password: a username or an e-mail", "alice@example.com"))
    password = fields.String(
        load_only=True,
        metadata={**about("With password", "correct horse battery staple"), "format": "password"},
    )
    otp = fields.String(
        load_only=True,
        metadata=about("With password, of an account with a second factor: a code of the app, or a recovery code", "123456"),
    )
    refresh_token = fields.String(metadata=about("With refresh_token: the latest one of the session", TOKEN))
    subject_token = fields.String(metadata=about("With token exchange: the other issuer's token, a JWT", "eyJhbGciOi…"))
    subject_token_type = fields.String(
        metadata=about(
            "With token exchange: what it is, urn:ietf:params:oauth:token-type:jwt or …:id_token",
            "urn:ietf:params:oauth:token-type:id_token",
        ),
    )
    referral_code = fields.String(metadata=about("With token exchange: by which code the user came", EXAMPLE_CODE))
    click_id = fields.String(metadata=about("With token exchange: by which click the user came", EXAMPLE_ID))


class RevocationSchema(OAuthInputSchema):
    token = fields.String(
        required=True, validate=validate.Length(min=1), metadata=about("An access or a refresh token", TOKEN)
    )
    token_type_hint = fields.String(metadata=about("Allowed, and not needed", "refresh_token"))


class TokenPairSchema(Schema):
    access_token = fields.String(
        metadata=about("A JWT for the Authorization header", "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2ln")
    )
    token_type = Words("TokenType", ("Bearer",), metadata=about("RFC 6750", "Bearer"))
    expires_in = fields.Integer(metadata=about("Seconds the access token lives", 900))
    refresh_token = fields.String(metadata=about("Opaque; good for one refresh", TOKEN))


class TokensSchema(TokenPairSchema):
    issued_token_type = fields.String(
        metadata=about("Of token exchange: what access_token is", "urn:ietf:params:oauth:token-type:access_token")
    )
    attribution = fields.Nested(
        EventAttributionSchema,
        metadata={"description": "Of token exchange: what became of the referral_code and the click_id"},
    )


class OAuthErrorSchema(Schema):
    error = Words(
        "OAuthErrorCode",
        ("invalid_request", "invalid_grant", "unsupported_grant_type", TEMPORARILY_UNAVAILABLE, SERVER_ERROR),
        metadata=about("RFC 6749 section 5.2, and 4.1.2.1 for what a later try may change", "invalid_grant"),
    )
    error_description = fields.String(metadata=about("What is wrong", "The username or the password is wrong."))
