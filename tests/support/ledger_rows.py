"""Rows of rewards and of the ledger, past the service: each rule of their tables broken once, and many of each."""

from __future__ import annotations

REWARD = (
    "INSERT INTO rewards (id, user_id, side, kind, label, unit, value, status, rule_id, rule_version, event_id, "
    "referral_user_id, referrer_id, ordinal, times, release_at, created_at, approved_at) VALUES "
)
BY_HAND = (
    "INSERT INTO rewards (id, user_id, kind, label, unit, value, status, release_at, created_at, approved_at, caller_id) "
    "VALUES "
)
USAGE = "INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, unit, used, most) VALUES "
REDEMPTION = "INSERT INTO redemptions (id, user_id, unit, amount, status, created_at, due_at, outcome) VALUES "
REVERSAL = "INSERT INTO reversals (id, reward_id, amount, created_at, outcome) VALUES "
TRANSFER = (
    "INSERT INTO transfers (kind, reference, user_id, unit, debit, credit, amount, at, line, available_after, reward_id, "
    "redemption_id) VALUES "
)
MOST = 2**62

# Where each rule below can be broken by one statement; it needs alice, bob, and the event `bought`.
LEDGER_WORLD = [
    "INSERT INTO rules (id, version, on_type, side, created_at) VALUES ('rule', 1, 'purchase', 'referrer', 1)",
    "INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES ('rule', 1, 1, '{}')",
    f"{USAGE}('rule', 'budget', 1, 2, 'USD', 5, 9)",
    (
        f"{REWARD}('one', 'alice', 'referrer', 'balance', NULL, 'USD', 5, 'pending', 'rule', 1, 'bought', 'bob', 'alice', "
        "1, 2, 1, 1, NULL)"
    ),
    f"{BY_HAND}('hand', 'alice', 'balance', NULL, 'USD', 5, 'approved', 1, 1, 1, 'given')",
    "INSERT INTO accounts (user_id, unit, programme, pending, available) VALUES ('alice', 'USD', -10, 5, 5)",
    f"{REDEMPTION}('spent', 'alice', 'USD', 1, 'done', 1, NULL, '{{}}')",
    f"{REVERSAL}('back', 'hand', 1, 1, '{{}}')",
    f"{TRANSFER}('approval', 'hand', 'alice', 'USD', 'pending', 'available', 5, 1, 1, 5, 'hand', NULL)",
]

LEDGER_RULES: list[tuple[str, str | None]] = [
    ("INSERT INTO rules (id, version, on_type, side, created_at) VALUES ('rule', 1, 'x', 'x', 1)", "rules_pkey"),
    ("UPDATE rules SET version = 0", "rules_version"),
    ("INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES ('rule', 1, 1, '')", "rule_versions_pkey"),
    ("INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES ('none', 1, 1, '')", None),
    (
        "INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES ('rule', 0, 1, '')",
        "rule_versions_version",
    ),
    (f"{USAGE}('rule', 'budget', 1, 3, 'USD', 5, 9)", "rule_usage_pkey"),
    (f"{USAGE}('none', 'budget', 1, 2, 'USD', 5, 9)", None),
    (f"{USAGE}('rule', 'budget', 3, 3, 'USD', 5, 9)", "rule_usage_period"),
    (f"{USAGE}('rule', 'budget', 2, 3, NULL, 5, 9)", "rule_usage_unit"),
    (f"{USAGE}('rule', 'alice', 2, 3, 'USD', 5, 9)", "rule_usage_unit"),
    ("UPDATE rule_usage SET used = used + 5", "rule_usage_used"),
    ("UPDATE rule_usage SET used = used - 6", "rule_usage_used"),
    ("UPDATE referrals SET source = 'A click'", "referrals_source"),
    ("UPDATE referrals SET review = ''", "referrals_review"),
    ("UPDATE referrals SET conversions = -1, converted_at = 1", "referrals_conversions"),
    ("UPDATE referrals SET converted_at = 1", "referrals_converted"),
    ("UPDATE referrals SET conversions = 1", "referrals_converted"),
    ("UPDATE users SET converted_count = -1 WHERE id = 'alice'", "users_converted_count"),
    ("UPDATE events SET converts = 2", "events_converts"),
    (f"{BY_HAND}('one', 'alice', 'balance', NULL, 'USD', 5, 'approved', 1, 1, 1, 'x')", "rewards_pkey"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 5, 'approved', 1, 1, 1, 'given')", "rewards_caller_id"),
    (f"{BY_HAND}('x', 'nobody', 'balance', NULL, 'USD', 5, 'approved', 1, 1, 1, 'x')", None),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 5, 'approved', 1, 1, 1, NULL)", "rewards_origin"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 0, 'approved', 1, 1, 1, 'x')", "rewards_value"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, NULL, NULL, 'approved', 1, 1, 1, 'x')", "rewards_value"),
    (f"{BY_HAND}('x', 'alice', 'coupon', 'A', 'USD', NULL, 'approved', 1, 1, 1, 'x')", "rewards_value"),
    (f"{BY_HAND}('x', 'alice', 'coupon', NULL, NULL, NULL, 'approved', 1, 1, 1, 'x')", "rewards_label"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 5, 'approved', 1, 1, NULL, 'x')", "rewards_approved"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 5, 'pending', 1, 1, 1, 'x')", "rewards_approved"),
    (f"{BY_HAND}('x', 'alice', 'balance', NULL, 'USD', 5, 'Approved', 1, 1, 1, 'x')", "rewards_status"),
    *(
        (f"UPDATE rewards SET {change} WHERE id = 'one'", rule)
        for change, rule in (
            ("event_id = NULL", "rewards_origin"),
            ("side = NULL", "rewards_origin"),
            ("referral_user_id = NULL", "rewards_origin"),
            ("referrer_id = NULL", "rewards_origin"),
            ("rule_id = NULL, ordinal = NULL", "rewards_origin"),
            ("reversed = 6", "rewards_reversed"),
            ("reversed = -1", "rewards_reversed"),
            ("reversed_by_hand = 1", "rewards_reversed"),
            ("ordinal = NULL", "rewards_ordinal"),
            ("ordinal = 0", "rewards_ordinal"),
            ("ordinal = 3", "rewards_ordinal"),
            ("status = 'void'", "rewards_ordinal"),
            ("status = 'fulfilled', approved_at = 1", "rewards_fulfilled"),
            ("due_at = 1, needs_approval = 1", "rewards_due"),
            ("due_at = 1, status = 'approved', approved_at = 1", "rewards_due"),
        )
    ),
    (
        f"{REWARD}('x', 'alice', 'referrer', 'balance', NULL, 'USD', 5, 'pending', 'rule', 1, 'bought', 'carol', 'alice', "
        "1, NULL, 1, 1, NULL)",
        "rewards_once",
    ),
    (
        f"{REWARD}('x', 'alice', 'referrer', 'balance', NULL, 'USD', 5, 'pending', 'rule', 1, 'seen', 'bob', 'alice', 1, "
        "NULL, 1, 1, NULL)",
        "rewards_times",
    ),
    *(
        (
            f"{REWARD}('x', 'alice', 'referrer', 'balance', NULL, 'USD', 5, 'pending', 'rule', {version}, '{event}', "
            f"'{referee}', '{referrer}', 2, NULL, 1, 1, NULL)",
            None,
        )
        for version, event, referee, referrer in (
            (2, "seen", "bob", "alice"),
            (1, "nothing", "bob", "alice"),
            (1, "seen", "nobody", "alice"),
            (1, "seen", "bob", "nobody"),
        )
    ),
    ("INSERT INTO accounts (user_id, unit) VALUES ('alice', 'USD')", "accounts_pkey"),
    ("INSERT INTO accounts (user_id, unit) VALUES ('nobody', 'USD')", None),
    *(
        (f"UPDATE accounts SET {change}", rule)
        for change, rule in (
            ("available = available + 1", "accounts_balanced"),
            ("pending = pending + 1, available = available - 2", "accounts_balanced"),
            ("pending = pending - 6, available = available + 6", "accounts_not_overdrawn"),
            ("reserved = -1, available = available + 1", "accounts_not_overdrawn"),
            ("spent = -1, available = available + 1", "accounts_not_overdrawn"),
            ("programme = 1, available = -6", "accounts_not_overdrawn"),
            ("earned = -1", "accounts_not_overdrawn"),
            ("reversed = -1", "accounts_not_overdrawn"),
            ("lines = -1", "accounts_not_overdrawn"),
            (f"programme = {-MOST - 1}, available = {MOST - 4}", "accounts_bounds"),
            (f"available = {-MOST - 1}, spent = {MOST + 6}", "accounts_bounds"),
            (f"earned = {MOST + 1}", "accounts_bounds"),
            (f"reversed = {MOST + 1}", "accounts_bounds"),
        )
    ),
    (f"{REDEMPTION}('spent', 'alice', 'USD', 1, 'done', 1, NULL, '{{}}')", "redemptions_pkey"),
    (f"{REDEMPTION}('x', 'alice', 'EUR', 1, 'done', 1, NULL, '{{}}')", None),
    (f"{REDEMPTION}('x', 'alice', 'USD', 0, 'done', 1, NULL, '{{}}')", "redemptions_amount"),
    (f"{REDEMPTION}('x', 'alice', 'USD', 1, 'Done', 1, NULL, '{{}}')", "redemptions_status"),
    (f"{REDEMPTION}('x', 'alice', 'USD', 1, 'done', 1, 2, '{{}}')", "redemptions_due"),
    ("UPDATE redemptions SET by_user = 2", "redemptions_by_user"),
    (f"{REDEMPTION}('x', 'alice', 'USD', 1, 'reserved', 1, NULL, '{{}}')", "redemptions_due"),
    (f"{REVERSAL}('back', 'hand', 1, 1, '{{}}')", "reversals_pkey"),
    (f"{REVERSAL}('x', 'none', 1, 1, '{{}}')", None),
    (f"{REVERSAL}('x', 'hand', 0, 1, '{{}}')", "reversals_amount"),
    (f"{TRANSFER}('approval', 'hand', 'alice', 'USD', 'pending', 'available', 5, 1, 2, 5, 'hand', NULL)", "transfers_pkey"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 1, 5, 'hand', NULL)", "transfers_line_once"),
    (f"{TRANSFER}('x', 'x', 'alice', 'EUR', 'pending', 'available', 5, 1, 2, 5, 'hand', NULL)", None),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 2, 5, 'none', NULL)", None),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 2, 5, NULL, 'none')", None),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 0, 1, 2, 5, 'hand', NULL)", "transfers_amount"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'available', 'available', 5, 1, 2, 5, 'hand', NULL)", "transfers_legs"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, NULL, NULL, 'hand', NULL)", "transfers_line"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'programme', 'pending', 5, 1, 2, 5, 'hand', NULL)", "transfers_line"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 2, NULL, 'hand', NULL)", "transfers_line"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 2, 5, 'hand', 'spent')", "transfers_cause"),
    (f"{TRANSFER}('x', 'x', 'alice', 'USD', 'pending', 'available', 5, 1, 2, 5, NULL, NULL)", "transfers_cause"),
]

# Behind the many rows of other tables, of which `n` has the numbers.
MANY_REWARDS = """
INSERT INTO rules (id, version, on_type, side, created_at) SELECT 'r' || i, 1, 'purchase', 'referrer', i FROM n WHERE i < 9;
INSERT INTO rule_versions (rule_id, version, created_at, definition) SELECT 'r' || i, 1, i, '{}' FROM n WHERE i < 9;
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, used, most) SELECT 'r1', 'u' || i, i, i + 1, 1, 1 FROM n;
INSERT INTO rewards (id, user_id, side, kind, unit, value, status, rule_id, rule_version, event_id, referral_user_id,
        referrer_id, ordinal, release_at, due_at, created_at)
    SELECT 'w' || i, 'u' || (i % 100 + 1), 'referrer', 'balance', 'USD', 5, 'pending', 'r' || (i % 8 + 1), 1, 'e' || i,
        'u' || i, 'u' || (i % 100 + 1), i, i, CASE WHEN i % 2 THEN i END, i FROM n;
INSERT INTO rewards (id, user_id, kind, unit, value, status, release_at, created_at, approved_at, caller_id)
    SELECT 'h' || i, 'u' || (i % 100 + 1), 'balance', 'USD', 5, 'approved', i, i, i, 'h' || i FROM n;
INSERT INTO accounts (user_id, unit) SELECT 'u' || i, 'USD' FROM n;
INSERT INTO redemptions (id, user_id, unit, amount, status, created_at, due_at, outcome)
    SELECT 'd' || i, 'u' || i, 'USD', 1, CASE WHEN i % 9 THEN 'done' ELSE 'reserved' END, i, CASE WHEN i % 9 = 0 THEN i END,
    '{}' FROM n;
INSERT INTO reversals (id, reward_id, amount, created_at, outcome) SELECT 'v' || i, 'w' || i, 1, i, '{}' FROM n;
INSERT INTO transfers (kind, reference, user_id, unit, debit, credit, amount, at, line, available_after, reward_id)
    SELECT 'approval', 'w' || i, 'u' || i, 'USD', 'pending', 'available', 5, i, 1, 5, 'w' || i FROM n;
"""
