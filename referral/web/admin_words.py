"""What the feed, the audit and the outbox call things, as people read it."""

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
