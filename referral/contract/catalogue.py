"""The catalogue of errors: one name, one status, one title, and what a client can do about it (RFC 9457)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue; `explanation` is the text of its page `/problems/NAME`."""

    name: str
    status: int
    title: str
    explanation: str


CATALOGUE: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "malformed-json",
            400,
            "The body is not JSON",
            "The request's body is not well-formed JSON in UTF-8, or is nested absurdly deep. Nothing was done.",
        ),
        Kind(
            "bad-request",
            400,
            "The request is malformed",
            "The request does not follow HTTP, or an address in it cannot be decoded. Nothing was done.",
        ),
        Kind(
            "unauthorized",
            401,
            "Authentication is required",
            "The call needs a valid access token in the header `Authorization: Bearer TOKEN`. An access token stops working "
            "when it expires and when its session ends: by revocation, a password change or reset, or the account's end. "
            "Get another one with the refresh token, or sign in again.",
        ),
        Kind(
            "forbidden",
            403,
            "This is not yours",
            "The thing exists but belongs to somebody else, and you are no admin. Or the call is one for admins.",
        ),
        Kind(
            "wrong-password",
            403,
            "The password is wrong",
            "The call asks for the account's current password, and the one given is not it. Nothing was changed.",
        ),
        Kind(
            "wrong-code",
            403,
            "The code is wrong",
            "The code is none that the authenticator app shows now, was used before, or is no recovery code that is left. "
            "Nothing was changed. Check the clock of the device.",
        ),
        Kind(
            "second-factor-required",
            403,
            "A second factor is required",
            "The service wants admins to have a second factor (`admin.require_totp`), and this one has none: until it is "
            "switched on, they can call what concerns their own account alone. Service keys are not affected.",
        ),
        Kind(
            "email-unverified",
            403,
            "The e-mail address is not verified",
            "The call needs an address that is verified. Follow the link that was mailed there, or ask for another one.",
        ),
        Kind("not-found", 404, "There is no such thing", "Nothing is at this address, or it is no longer active."),
        Kind(
            "gone",
            410,
            "The changes are no longer kept",
            "Changes are kept for `webhooks.keep_days` days. Whoever is further behind reads users, referrals and rewards "
            "anew, and follows the feed from `last_seq` on. It is the same where the database was restored to a time "
            "before.",
        ),
        Kind(
            "method-not-allowed",
            405,
            "The method is not allowed here",
            "The address exists but does not answer this method. The `Allow` header lists those it does answer.",
        ),
        Kind(
            "request-timeout",
            408,
            "The body did not arrive in time",
            "The request's body stalled half-way and the service stopped waiting for it. Send the request again.",
        ),
        Kind(
            "email-taken",
            409,
            "The e-mail address is taken",
            "There is an account with this address. Sign in instead. To a service key, `user_id` says who has it: whoever "
            "made that account may be a stranger, as long as its address is not verified.",
        ),
        Kind("username-taken", 409, "The username is taken", "Somebody has this username; letter case does not matter."),
        Kind(
            "external-id-taken",
            409,
            "The external id is taken",
            "Another user has this id of the product's; letter case matters. `user_id` says who.",
        ),
        Kind(
            "second-factor-state",
            409,
            "The second factor is not in that state",
            "One is switched on already, or none was begun, or there is none. `GET /users/me/second-factor` says which.",
        ),
        Kind(
            "user-suspended",
            409,
            "The user is suspended",
            "An admin suspended the user, who can do nothing until that is ended.",
        ),
        Kind(
            "event-mismatch",
            409,
            "The event's id is taken",
            "An event with this id was reported with another body. Ids are remembered for ever: give each event its own, "
            "and send a repeated report as it was sent first.",
        ),
        Kind(
            "event-unknown",
            409,
            "There is no such event to refund",
            "`refunds` is the id of an event that was reported before. Report that first.",
        ),
        Kind(
            "id-mismatch",
            409,
            "The id is taken",
            "A reward, reversal or redemption with this id was asked for in other words. Ids are remembered for ever: "
            "give each its own, and send a repeated call as it was sent first.",
        ),
        Kind(
            "reward-state",
            409,
            "The reward's state does not allow this",
            "Pending rewards are approved or rejected, approved coupons and custom ones fulfilled, and what was approved or "
            "fulfilled is reversed. The reward is in another state, which may be final.",
        ),
        Kind(
            "insufficient-balance",
            409,
            "The balance does not suffice",
            "Less is available than was to be redeemed; `available` says how much. Nothing was done, and the id is free.",
        ),
        Kind(
            "redemption-state",
            409,
            "The redemption's state does not allow this",
            "Reserved redemptions are captured or released, and those that are done are cancelled. The redemption is in "
            "another state.",
        ),
        Kind(
            "review-state",
            409,
            "The review is decided",
            "Somebody has decided it in the other way. It opens again only if something new is found.",
        ),
        Kind(
            "webhook-disabled",
            409,
            "The webhook is disabled",
            "Nothing is sent to a webhook that is disabled. Enable it by `PATCH /webhooks/{id}`, with the `status` "
            "`enabled`.",
        ),
        Kind(
            "webhook-sealed",
            409,
            "The webhook's secret cannot be read",
            "Secrets of webhooks are encrypted by the key that signs access tokens, and this one's is no more. Rotate the "
            "webhook's secret, and tell the receiver the new one.",
        ),
        Kind(
            "replay-under-way",
            409,
            "Another replay is under way",
            "A webhook is replayed once at a time. Try again when what was asked for before has been queued.",
        ),
        Kind(
            "too-many-webhooks",
            409,
            "There are too many webhooks",
            "An installation has 100 webhooks at most. Delete one that is not needed any more.",
        ),
        Kind(
            "active-code-exists",
            409,
            "There is a current code",
            "A user has one code at a time. End the current one first, or send `replace: true` to end it in the same step.",
        ),
        Kind(
            "code-taken",
            409,
            "The code is taken",
            "This text is or was somebody's code. A code's text is taken for good, also after its end. Choose another.",
        ),
        Kind("code-ended", 409, "The code has ended", "A code that was ended cannot be edited any more. Make a new one."),
        Kind(
            "referrer-already-set",
            409,
            "You have a referrer",
            "A user comes by one referrer at most, and for good: a second code cannot be used.",
        ),
        Kind(
            "referral-cycle",
            409,
            "Your referral cannot refer you",
            "The code's owner came by you, directly or through others, so you cannot have come by them.",
        ),
        Kind(
            "known-address",
            409,
            "The address had an account before",
            "Whoever registers with an address that had an account not long ago comes by nobody, then and later: one person "
            "counts once for a referrer.",
        ),
        Kind(
            "payload-too-large",
            413,
            "The body is too large",
            "The service takes bodies of up to 64 KiB. Nothing was done.",
        ),
        Kind(
            "unsupported-media-type",
            415,
            "The body's media type is not supported",
            "The call takes JSON in UTF-8: send the header `Content-Type: application/json`.",
        ),
        Kind(
            "unsupported-encoding",
            415,
            "The body is encoded",
            "The service takes bodies uncompressed, without `Content-Encoding`. Nothing was done.",
        ),
        Kind("expectation-failed", 417, "The expectation cannot be met", "The only `Expect` supported is `100-continue`."),
        Kind(
            "validation-error",
            422,
            "The input is not valid",
            "Some member of the body or of the query is missing, unknown or not allowed. `errors` lists each: `pointer` is "
            "the JSON Pointer of the member, `detail` says what is wrong with it. Nothing was done.",
        ),
        Kind(
            "refund-too-large",
            422,
            "The refund is too large",
            "The refunds of an event take at most its value together; so much is not left of it.",
        ),
        Kind(
            "url-not-allowed",
            422,
            "The address is not allowed",
            "Webhooks reach public addresses over https: only. Networks of your own, and http: within them, are allowed by "
            "the setting `webhooks.allowed_networks`.",
        ),
        Kind(
            "unit-unknown",
            422,
            "There is no such unit",
            "Values are counted in the units of the setting `rewards.units`: ISO 4217 codes such as USD, or units of the "
            "installation's own.",
        ),
        Kind(
            "sum-too-large",
            422,
            "The sum is too large",
            "Sums are counted up to 2^62 of a unit's smallest part, and one of them would have been larger. Nothing was "
            "done.",
        ),
        Kind(
            "referral-code-invalid",
            422,
            "The referral code cannot be used",
            "`reason` says why: `unknown`, `expired`, `revoked` (ended by its owner), `exhausted` (used as often as it may "
            "be) or `suspended` (its owner is). Nothing was done: at a registration, no account was made.",
        ),
        Kind(
            "email-undeliverable",
            422,
            "The e-mail address cannot be used",
            "Mail to this address would not arrive, or the address is not to be used here. No account was made. Give "
            "another address.",
        ),
        Kind("own-code", 422, "The code is your own", "Nobody can be their own referrer."),
        Kind(
            "token-invalid",
            422,
            "The link is not valid",
            "The token of the mailed link is unknown, was used already or has expired. Ask for another mail.",
        ),
        Kind(
            "rate-limited",
            429,
            "Too many requests",
            "There were too many requests of this sort from one address, for one account or with one code. Nothing was "
            "done; try again after `Retry-After` seconds. `RateLimit-Policy` says how many are allowed in how many seconds.",
        ),
        Kind(
            "internal-error",
            500,
            "The service failed",
            "This is a fault of the service, not of the request; it was logged under the request's id.",
        ),
        Kind(
            "unavailable",
            503,
            "The service is unavailable",
            "The database cannot be used at the moment. Try again after `Retry-After` seconds. When it went away while "
            "something was being saved, that may have been done all the same.",
        ),
        Kind(
            "conflict",
            503,
            "Others change the same at once",
            "Other requests changed the same at the same time, again and again, so that the database undid this one each "
            "time. Nothing was done; try again after `Retry-After` seconds.",
        ),
        Kind(
            "issuer-unavailable",
            503,
            "The token cannot be checked now",
            "The identity provider that issued the token is out, and none of its keys are known yet. Try again after "
            "`Retry-After` seconds.",
        ),
        Kind(
            "email-check-unavailable",
            503,
            "The e-mail address cannot be checked now",
            "The service that checks addresses gave no verdict in time. No account was made; try again after `Retry-After` "
            "seconds.",
        ),
        Kind(
            "stats-incomplete",
            503,
            "The statistics are not complete yet",
            "After an upgrade the service counts once, beside its work, what was there before. Try again after "
            "`Retry-After` seconds.",
        ),
        Kind(
            "overloaded",
            503,
            "The service is overloaded",
            "Too many passwords are being checked at once. Nothing was done; try again after `Retry-After` seconds.",
        ),
    )
}

# Problems for what aiohttp itself raises, by status.
BY_STATUS = {
    400: "bad-request",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    408: "request-timeout",
    413: "payload-too-large",
    415: "unsupported-media-type",
    417: "expectation-failed",
}
