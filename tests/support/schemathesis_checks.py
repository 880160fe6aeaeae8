"""What schemathesis checks beside its own: valid-looking data is refused only for what no JSON Schema can say."""

from __future__ import annotations

import re
from typing import Any

import schemathesis

# Of a rule: texts that cannot be printed, and what one member says of another one.
RULE = {
    "/name",
    "/give",
    "/tiers",
    "/if/metadata",
    "/if/min_amount/unit",
    "/limits/budget",
    "/ends_at Must be after",
    "unit-unknown",
    "sum-too-large",
}
# Why an operation may answer 422 to data that its schema admits: beginnings of `POINTER DETAIL` or of a problem's name.
REFUSALS = {
    # A username is of letters and digits of any script, for which patterns have no word that all dialects share; an e-mail
    # address may have a reserved domain; a password is neither a common one nor made of the account's names.
    "register": {"/username", "/email", "/password", "referral-code-invalid"},
    "changePassword": {"/new_password"},
    "updateMe": {"/username"},
    "requestPasswordReset": {"/email"},
    "findCodeByEmail": {"/email"},
    # An expiry is in the future, and not too far off; limits of uses are not below what was used.
    "createCode": {"/expires_at Must be"},
    "updateCurrentCode": {"/expires_at Must be", "/max_uses"},
    "updateCode": {"/expires_at Must be", "/max_uses"},
    # A code is of somebody, a token of a mail.
    "setReferrer": {"referral-code-invalid", "own-code"},
    "verifyEmail": {"token-invalid"},
    "disownEmail": {"token-invalid"},
    "changeEmail": {"/email"},
    "resetPassword": {"/new_password", "token-invalid"},
    # The password of an account that has one is not left out.
    "deleteMe": {"/password"},
    # What is printable has no word in JSON Schema either; what happened has a time that was, a code a time to come.
    "createKey": {"/name"},
    "suspendUser": {"/reason"},
    "createCodeOfUser": {"/expires_at Must be"},
    "putUser": {
        "/email",
        "/name",
        "/username",
        "/external_id",
        "/metadata",
        "/created_at Must not",
        "/code/expires_at Must be",
    },
    "reportEvent": {
        "/id",
        "/refunds",
        "/user/id",
        "/user/external_id",
        "/user/email",
        "/user/name",
        "/user/username",
        "/user/metadata",
        "/user/created_at Must not",
        "/occurred_at Must not",
        "/value/unit",
        "/value/amount Must be at least 1",
        "/metadata",
        "unit-unknown",
        "refund-too-large",
    },
    # What members of a rule have to be to each other, and units that the installation has.
    "createRule": RULE,
    "updateRule": RULE,
    "previewRule": {f"/rule{reason}" if reason.startswith("/") else reason for reason in RULE},
    "createReward": {
        "/id",
        "/label",
        "/reason",
        "/value A balance",
        "/value/unit",
        "/value/amount Must be at least 1",
        "/user",
        "unit-unknown",
    },
    "rejectReward": {"/reason"},
    "fulfilReward": {"/reference"},
    "reverseReward": {"/id", "/reason", "/amount"},
    "createRedemption": {"/id", "/unit", "/reference", "/note", "unit-unknown"},
    "clearReview": {"/reason"},
    "rejectReview": {"/reason"},
    "reportReferral": {"/note"},
    # What can be an address, no schema says.
    "putBlock": {"/note", " The path"},
    "listStatement": {"/unit"},
    "listRewards": {"/user", "/rule", "/event"},
    "listRewardsOfUser": {"/rule", "/event"},
    # A text is looked for in one way, and has to be printable.
    "listUsers": {"/q", "/email", "/external_id"},
    "listEvents": {"/user"},
    "listAuditEvents": {"/user"},
    # A URL is more than its pattern, and leads to public addresses.
    "createWebhook": {"/url", "url-not-allowed"},
    "updateWebhook": {"/url", "url-not-allowed"},
    # The first day is before the last one, and there are so many rows.
    "getUserStats": {"/from", "/to"},
    "getStats": {"/from", "/to"},
    # A unit is printable, one of the installation's, and only revenue has one.
    "getLeaderboard": {"/unit", "unit-unknown"},
    # Who a visitor was, only a key says.
    "createClick": {"/context"},
    # There are so many types.
    "listChanges": {"/types"},
}
# Why any operation may: a cursor is of a page before.
ALWAYS = ("/cursor",)


# What ends an account or its sessions, or may give it another address: carol, an admin, would put out herself or dave, and
# never get in again.
ENDING = ("suspendUser", "deleteUser", "putUser", "deleteSessionsOfUser")


@schemathesis.hook
def before_call(context: Any, case: schemathesis.Case[Any], kwargs: Any) -> None:
    """Let what ends accounts name nobody's."""
    if case.operation.definition.raw["operationId"] in ENDING:
        user = str(case.path_parameters.get("user"))
        if re.fullmatch("[0-9a-fA-F-]{36}|me", user):
            case.path_parameters = {**case.path_parameters, "user": "ext:somebody"}
    elif case.operation.definition.raw["operationId"] == "getUserExport":
        # That dave sees what is his, although carol sees it, too, is no fault.
        case.path_parameters = {**case.path_parameters, "user": "me"}


@schemathesis.check
def valid_data_refusal(
    ctx: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case[Any]
) -> None:
    """Fails when valid data gets a 422 for another reason than ALWAYS and the operation's REFUSALS."""
    if response.status_code != 422 or case.meta is None or not case.meta.generation.mode.is_positive:
        return
    problem = response.json()
    errors = problem.get("errors", ())
    reasons = {f"{error['pointer']} {error['detail']}" for error in errors} or {problem["type"].rpartition("/")[2]}
    name = case.operation.definition.raw["operationId"]
    unforeseen = {reason for reason in reasons if not reason.startswith((*ALWAYS, *REFUSALS.get(name, ())))}
    assert not unforeseen, f"{name} refuses what its schema admits: {', '.join(sorted(unforeseen))}"
