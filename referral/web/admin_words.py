"""What the feed, the audit and the outbox call things, as people read it."""

from referral.queries.audit import EventName

# Types of changes, and groups of them, as a webhook wants them.
CHANGES = {
    "*": "everything, now and in future",
    "user.*": "everything about users",
    "code.*": "everything about codes",
    "referral.*": "everything about referrals",
    "review.*": "everything about reviews",
    "reward.*": "everything about rewards",
    "balance.*": "everything about balances",
    "redemption.*": "everything about redemptions",
    "webhook.*": "everything about webhooks",
    "user.created": "a user is new",
    "user.suspended": "a user is suspended",
    "user.unsuspended": "a user's suspension ends",
    "user.erased": "a user is erased",
    "code.created": "a code is new",
    "code.updated": "a code is changed",
    "code.ended": "a code ends",
    "referral.created": "somebody came by a user",
    "referral.converted": "somebody who was referred has bought",
    "referral.retracted": "a referral is taken back",
    "referral.rejected": "a referral is rejected",
    "review.opened": "a referral looks suspicious and waits for a decision",
    "review.cleared": "a suspicion is cleared",
    "review.overdue": "a review waits too long",
    "reward.created": "a reward is new",
    "reward.approved": "a reward is approved",
    "reward.fulfilled": "a reward is delivered",
    "reward.voided": "a reward is void",
    "reward.reversed": "a reward is taken back",
    "balance.changed": "a balance is changed",
    "redemption.created": "somebody spends or reserves",
    "redemption.captured": "a reservation is spent",
    "redemption.cancelled": "a reservation is released",
    "webhook.disabled": "a webhook is disabled",
    "ping": "a test",
}

# What a key of each scope may.
SCOPES = {
    "may-read": "reads users, referrals, rewards and numbers",
    "may-write": "reads, and reports users and events, delivers rewards and redeems",
    "may-admin": "may everything, also rules, webhooks and other keys",
}

# Why a webhook is disabled, as its row says.
REASONS = {
    reason: reason
    for reason in (
        "An admin disabled it.",
        "The receiver answered 410: it wants nothing more.",
        "Every delivery has failed for five days.",
    )
}

# Events of the audit, all of them.
EVENTS: dict[EventName, str] = {
    "registered": "Somebody signed up",
    "registration-refused": "A sign-up was refused",
    "admin-created": "An admin was made",
    "admin-promoted": "A user became an admin",
    "admin-demoted": "An admin became a user",
    "signed-in": "Somebody signed in",
    "sign-in-refused": "A sign-in was refused",
    "sign-in-limited": "There were too many sign-ins",
    "refresh-token-reused": "A refresh token was used twice",
    "signed-out": "Somebody signed out",
    "session-ended": "A session was ended",
    "sessions-ended": "Sessions were ended",
    "password-changed": "A password was changed",
    "password-change-refused": "A change of a password was refused",
    "reset-requested": "A new password was asked for",
    "password-reset": "A password was reset",
    "email-verified": "An e-mail address was verified",
    "email-change-requested": "A change of an e-mail address was asked for",
    "email-change-refused": "A change of an e-mail address was refused",
    "email-changed": "An e-mail address was changed",
    "username-changed": "A username was changed",
    "code-made": "A code was made",
    "code-edited": "A code was changed",
    "code-ended": "A code was ended",
    "referrer-set": "It was said who referred a user",
    "identity-joined": "A user's accounts were joined",
    "stranger-put-out": "A stranger was put out of an account",
    "email-disowned": "Somebody said that an address is not theirs to use here",
    "external-id-changed": "The product's id of a user was changed",
    "user-token-made": "A token for a user's browser was made",
    "user-exported": "A user's data were exported",
    "key-made": "A key was made",
    "key-revoked": "A key was revoked",
    "account-suspended": "A user was suspended",
    "account-unsuspended": "A user's suspension was ended",
    "account-erased": "A user was erased",
    "account-disowned": "An account was given up by the owner of its address",
    "erasure-refused": "An erasure was refused",
    "rule-made": "A rule was made",
    "rule-changed": "A rule was changed",
    "reward-made": "A reward was given by hand",
    "reward-approved": "A reward was approved",
    "reward-rejected": "A reward was rejected",
    "reward-reversed": "A reward was taken back",
    "webhook-made": "A webhook was made",
    "webhook-changed": "A webhook was changed",
    "webhook-rotated": "A webhook's secret was rotated",
    "webhook-replayed": "A webhook was replayed",
    "webhook-retried": "A delivery was sent again",
    "webhook-deleted": "A webhook was deleted",
    "mail-retried": "A mail was sent again",
    "events-left-out": "More of the same was left out",
}

# What else is known of an event: members of its detail.
DETAILS = {
    "detail-name": "name",
    "detail-scope": "scope",
    "detail-status": "status",
    "detail-code": "code",
    "detail-reason": "reason",
    "detail-amount": "amount",
    "detail-url": "address",
    "detail-count": "how many",
    "detail-sessions": "sessions",
    "detail-since": "since",
    "detail-version": "version",
    "detail-issuer": "signed in by",
    "detail-expires_at": "expires",
    "detail-refused": "refused",
    "detail-members": "what",
    "detail-webhook_id": "webhook",
    "detail-change_id": "change",
    "detail-key_id": "key",
    "detail-rule_id": "rule",
    "detail-reward_id": "reward",
    "detail-mail_id": "mail",
    "detail-session_id": "session",
    "detail-referrer_id": "referred by",
    "detail-replaced": "instead of",
}

# Kinds of mail.
MAILS = {
    "mail-verify-email": "verify an e-mail address",
    "mail-change-email": "verify a new e-mail address",
    "mail-email-changed": "an e-mail address was changed",
    "mail-reset-password": "set a new password",
    "mail-code": "a code for its owner",
    "mail-webhook-disabled": "a webhook was disabled",
}
