-- What is kept beside what the rows say it must be, a page at a time, for `run.py verify`.

-- name: list_summed_accounts(after_user, after_unit, page_size)
-- Accounts, each with the sums of its transfers.
SELECT a.user_id, a.unit, a.programme, a.pending, a.available, a.reserved, a.spent, a.earned, a.reversed, a.lines,
       cast(coalesce(sum(CASE 'programme' WHEN t.credit THEN t.amount WHEN t.debit THEN -t.amount END), 0) as bigint) AS to_programme,
       cast(coalesce(sum(CASE 'pending' WHEN t.credit THEN t.amount WHEN t.debit THEN -t.amount END), 0) as bigint) AS to_pending,
       cast(coalesce(sum(CASE 'available' WHEN t.credit THEN t.amount WHEN t.debit THEN -t.amount END), 0) as bigint) AS to_available,
       cast(coalesce(sum(CASE 'reserved' WHEN t.credit THEN t.amount WHEN t.debit THEN -t.amount END), 0) as bigint) AS to_reserved,
       cast(coalesce(sum(CASE 'spent' WHEN t.credit THEN t.amount WHEN t.debit THEN -t.amount END), 0) as bigint) AS to_spent,
       cast(coalesce(sum(CASE WHEN t.debit = 'pending' AND t.credit = 'available' THEN t.amount END), 0) as bigint) AS all_earned,
       cast(coalesce(sum(CASE WHEN t.debit = 'available' AND t.credit = 'programme' THEN t.amount END), 0) as bigint) AS all_reversed,
       count(t.line) AS all_lines, count(t.kind) AS transfers
FROM (
    SELECT user_id, unit, programme, pending, available, reserved, spent, earned, reversed, lines FROM accounts
    WHERE (user_id, unit) > (:after_user, :after_unit)
    ORDER BY user_id, unit
    LIMIT :page_size
) AS a
LEFT JOIN transfers t ON t.user_id = a.user_id AND t.unit = a.unit
GROUP BY a.user_id, a.unit, a.programme, a.pending, a.available, a.reserved, a.spent, a.earned, a.reversed, a.lines
ORDER BY a.user_id, a.unit;

-- name: list_lines(after_user, after_unit, after_line, page_size)
-- The lines of all statements, in their order.
SELECT user_id, unit, line, CASE WHEN credit = 'available' THEN amount ELSE -amount END AS amount, available_after
FROM transfers
WHERE line IS NOT NULL AND (user_id, unit, line) > (:after_user, :after_unit, :after_line)
ORDER BY user_id, unit, line
LIMIT :page_size;

-- name: list_summed_rewards(after_id, page_size)
-- Rewards, each with what its transfers moved, and what its event and its reversals say.
SELECT w.id, w.kind, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.retracted, w.status, w.rule_id, w.ordinal, w.times,
       w.fulfilled_at, w.side, w.user_id, w.referrer_id, w.referral_user_id, w.needs_approval, w.release_at, w.due_at,
       u.suspended_at, f.review, e.amount, e.refunded,
       count(CASE WHEN t.user_id <> w.user_id OR t.unit <> coalesce(w.unit, '') THEN 1 END) AS strayed,
       (SELECT count(*) FROM reversals v WHERE v.reward_id = w.id) AS reversals,
       cast((SELECT coalesce(sum(v.amount), 0) FROM reversals v WHERE v.reward_id = w.id) as bigint) AS by_hand,
       cast(coalesce(sum(CASE WHEN t.kind = 'reward' THEN t.amount END), 0) as bigint) AS made,
       cast(coalesce(sum(CASE WHEN t.kind = 'approval' THEN t.amount END), 0) as bigint) AS approved,
       cast(coalesce(sum(CASE WHEN t.debit = 'pending' AND t.credit = 'programme' THEN t.amount END), 0) as bigint) AS unearned,
       cast(coalesce(sum(CASE WHEN t.debit = 'available' THEN t.amount END), 0) as bigint) AS clawed_back
FROM (
    SELECT id, kind, value, by_percentage, reversed, reversed_by_hand, retracted, status, rule_id, ordinal, times, fulfilled_at, event_id,
           unit, side, user_id, referrer_id, referral_user_id, needs_approval, release_at, due_at
    FROM rewards WHERE id > :after_id ORDER BY id LIMIT :page_size
) AS w
LEFT JOIN transfers t ON t.reward_id = w.id
LEFT JOIN events e ON e.id = w.event_id
LEFT JOIN users u ON u.id = w.user_id
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
GROUP BY w.id, w.kind, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.retracted, w.status, w.rule_id, w.ordinal, w.times,
         w.fulfilled_at, w.unit, w.side, w.user_id, w.referrer_id, w.referral_user_id, w.needs_approval, w.release_at, w.due_at,
         u.suspended_at, f.review, e.amount, e.refunded
ORDER BY w.id;

-- name: list_doubled_ordinals()
SELECT rule_id, referral_user_id, side, ordinal FROM rewards WHERE ordinal IS NOT NULL
GROUP BY referral_user_id, rule_id, side, ordinal HAVING count(*) > 1
ORDER BY referral_user_id, rule_id, side, ordinal;

-- name: list_wrong_refunds(after_id, page_size)
-- Events whose refunds come to something else than what is kept.
SELECT e.id, e.refunded, cast((SELECT coalesce(sum(r.amount), 0) FROM events r WHERE r.refunds = e.id) as bigint) AS all_refunds
FROM events e
WHERE e.id > :after_id
  AND e.refunded <> (SELECT coalesce(sum(r.amount), 0) FROM events r WHERE r.refunds = e.id)
ORDER BY e.id
LIMIT :page_size;

-- name: list_wrong_conversions(after_user, page_size)
-- Referrals that are converted by another number of events than is kept, or since a time when none of them happened.
SELECT r.user_id, r.conversions, r.converted_at, (
           SELECT count(*) FROM events e
           WHERE e.user_id = r.user_id AND e.converts = 1 AND NOT (coalesce(e.amount, 0) > 0 AND e.refunded = e.amount)
       ) AS all_conversions
FROM referrals r
WHERE r.user_id > :after_user AND (r.conversions <> (
    SELECT count(*) FROM events e
    WHERE e.user_id = r.user_id AND e.converts = 1 AND NOT (coalesce(e.amount, 0) > 0 AND e.refunded = e.amount)
) OR (r.converted_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM events e WHERE e.user_id = r.user_id AND e.converts = 1 AND e.occurred_at = r.converted_at
)))
ORDER BY r.user_id
LIMIT :page_size;

-- name: list_wrong_reviews(after_user, page_size)
-- Referrals whose word is not their review's, open reviews whose signals come to something else, and rejected referrals of which
-- something is left.
SELECT k.user_id, k.review, k.status, k.score, k.all_signals, k.conversions, k.left_rewards FROM (
    SELECT r.user_id, r.review, coalesce(v.status, 'none') AS status, coalesce(v.score, 0) AS score, r.conversions, (
               SELECT cast(coalesce(sum(g.weight), 0) as bigint) FROM (
                   SELECT max(s.weight) AS weight FROM signals s WHERE s.user_id = r.user_id
                   GROUP BY s.kind, CASE WHEN s.kind = 'reported' THEN s.reference END
               ) AS g
           ) AS all_signals, (
               SELECT count(*) FROM rewards w
               WHERE w.referral_user_id = r.user_id AND w.status IN ('pending', 'approved', 'fulfilled')
           ) AS left_rewards
    FROM referrals r LEFT JOIN reviews v ON v.user_id = r.user_id
    WHERE r.user_id > :after_user AND (r.review <> 'none' OR v.user_id IS NOT NULL)
) AS k
WHERE k.review <> k.status OR (k.status = 'open' AND k.score <> k.all_signals)
   OR (k.review = 'rejected' AND (k.conversions > 0 OR k.left_rewards > 0))
ORDER BY k.user_id
LIMIT :page_size;

-- name: list_counted_referrers(after_user, page_size)
-- Users, each with how many came by them, and how many of these are converted.
SELECT u.id, u.referral_count, u.converted_count,
       (SELECT count(*) FROM referrals r WHERE r.referrer_id = u.id) AS all_referrals,
       (SELECT count(*) FROM referrals r WHERE r.referrer_id = u.id AND r.conversions > 0) AS all_converted
FROM users u
WHERE u.id > :after_user
ORDER BY u.id
LIMIT :page_size;

-- name: list_usage_periods()
-- Each period of a rule's limits that is counted.
SELECT rule_id, starts_at, ends_at FROM rule_usage GROUP BY rule_id, starts_at, ends_at ORDER BY rule_id, starts_at;

-- name: find_counted_budget(rule_id, starts_at)^
SELECT g.used, g.unit FROM rule_usage g WHERE g.rule_id = :rule_id AND g.subject = 'budget' AND g.starts_at = :starts_at;

-- name: list_wrong_referrers_limits(rule_id, starts_at, ends_at)
SELECT g.subject, g.used, coalesce(c.rewards, 0) AS all_rewards
FROM rule_usage g LEFT JOIN (
    SELECT w.referrer_id, count(*) AS rewards FROM rewards w
    WHERE w.rule_id = :rule_id AND w.created_at >= :starts_at AND w.created_at < :ends_at AND w.status <> 'void'
    GROUP BY w.referrer_id
) AS c ON c.referrer_id = g.subject
WHERE g.rule_id = :rule_id AND g.starts_at = :starts_at AND g.subject <> 'budget' AND g.used <> coalesce(c.rewards, 0)
ORDER BY g.subject;

-- name: list_moved_redemptions(after_id, page_size)
-- Redemptions, each with which transfers it caused.
SELECT d.id, d.amount, d.status,
       (SELECT count(*) FROM transfers t
        WHERE t.reference = d.id AND t.redemption_id = d.id AND (t.user_id <> d.user_id OR t.unit <> d.unit)
          AND t.kind IN ('redemption', 'reservation', 'capture', 'release', 'cancellation')) AS strayed,
       (SELECT t.amount FROM transfers t WHERE t.kind = 'redemption' AND t.reference = d.id) AS redeemed,
       (SELECT t.amount FROM transfers t WHERE t.kind = 'reservation' AND t.reference = d.id) AS reserved,
       (SELECT t.amount FROM transfers t WHERE t.kind = 'capture' AND t.reference = d.id) AS captured,
       (SELECT t.amount FROM transfers t WHERE t.kind = 'release' AND t.reference = d.id) AS released,
       (SELECT t.amount FROM transfers t WHERE t.kind = 'cancellation' AND t.reference = d.id) AS cancelled
FROM redemptions d
WHERE d.id > :after_id
ORDER BY d.id
LIMIT :page_size;

-- name: list_wrong_rules()
-- Rules whose version is not their latest.
SELECT u.id, u.version, (SELECT coalesce(max(v.version), 0) FROM rule_versions v WHERE v.rule_id = u.id) AS latest
FROM rules u
WHERE u.version <> (SELECT coalesce(max(v.version), 0) FROM rule_versions v WHERE v.rule_id = u.id)
ORDER BY u.id;

-- name: find_summed_days()^
-- The first and the last day that are summed.
SELECT min(d.day) AS first, max(d.day) AS last FROM click_days d;

-- name: list_wrong_click_days(day, page_size)
-- Codes of a day whose sums are not those of the clicks, or of the visitors as long as these are kept. Clicks from QR codes are
-- in no row.
SELECT k.code, cast(sum(k.clicks) as bigint) AS clicks, cast(sum(k.visitors) as bigint) AS visitors,
       cast(sum(k.robots) as bigint) AS robots, cast(sum(k.by_people) as bigint) AS all_clicks,
       cast(sum(k.by_visitors) as bigint) AS all_visitors, cast(sum(k.by_robots) as bigint) AS all_robots
FROM (
    SELECT d.code, d.clicks, d.visitors, d.robots, 0 AS by_people,
           CASE WHEN EXISTS (SELECT 1 FROM click_keys y WHERE y.day = :day) THEN 0 ELSE d.visitors END AS by_visitors,
           0 AS by_robots
    FROM click_days d WHERE d.day = :day
    UNION ALL
    SELECT c.code, 0, 0, 0, 1 - c.robot, 0, c.robot FROM clicks c
    WHERE c.clicked_at >= :day AND c.clicked_at < cast(:day as bigint) + 86400000
    UNION ALL
    SELECT v.code, 0, 0, 0, 0, 1, 0 FROM click_visitors v
    WHERE v.day = :day AND EXISTS (SELECT 1 FROM click_keys y WHERE y.day = :day)
) AS k
GROUP BY k.code
HAVING sum(k.clicks) <> sum(k.by_people) OR sum(k.visitors) <> sum(k.by_visitors) OR sum(k.robots) <> sum(k.by_robots)
ORDER BY k.code
LIMIT :page_size;
