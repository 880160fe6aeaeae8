"""Clicks that pages and products report."""

from marshmallow import Schema, fields

from referral.contract.schemas.fields import EXAMPLE_CODE, InputSchema, about, code_text, given_text, identifier, time

# Of the address of a page.
LONGEST_URL = 4_000


class ClickContextSchema(InputSchema):
    """Kept as an HMAC alone, whose key is thrown away within two days."""

    ip = given_text("The address that the visitor came from", "192.0.2.1")
    user_agent = given_text("The visitor's browser", "Mozilla/5.0")


class ClickReportSchema(InputSchema):
    code = code_text(required=True)
    url = given_text(
        "The page's address; with `via=qr` in its query the click is one of a QR code. Not kept",
        f"https://www.example.com/?ref={EXAMPLE_CODE}",
        LONGEST_URL,
    )
    context = fields.Nested(
        ClickContextSchema,
        allow_none=True,
        metadata={"description": "Of a service key's click: who it was, so that visitors are counted once a day"},
    )


class ClickReferrerSchema(Schema):
    name = fields.String(metadata=about("What the product calls the referrer, or the username", "Alice Archer"))


class ClickSchema(Schema):
    click_id = identifier("For the sign-up, which may come by this click")
    expires_at = time("Until when the click counts")
    referrer = fields.Nested(
        ClickReferrerSchema, allow_none=True, metadata={"description": "Whose code it is; null for somebody without a name"}
    )
