-- What PostgreSQL does with locks that SQLite does not need, and limits that are given back for several rewards at once, which it
-- reads from a JSON array.

-- name: hold_rules_met(type, referee_id)
-- The rules of an event's type, each with the last ordinal of the rewards that it gave for a user's referral. No rule is changed
-- until the transaction's end: to lock rows, though there are none, is to take the lock of `hold_rules` on the table. It is held
-- before the rules are read.
SELECT u.id, u.version, v.definition, v.created_at AS changed_at,
       (SELECT coalesce(max(w.ordinal), 0) FROM rewards w
        WHERE w.referral_user_id = :referee_id AND w.rule_id = u.id AND w.side = u.side) AS last_ordinal
FROM rules u JOIN rule_versions v ON v.rule_id = u.id AND v.version = u.version
WHERE u.on_type = :type
  AND NOT EXISTS (SELECT 1 FROM rules h WHERE h.id IS NULL FOR KEY SHARE)
ORDER BY u.on_type, u.id;

-- name: give_limits_back(given)!
-- To the periods in which the rewards were made: a reward to its referrer's limit, and its value to the budget.
UPDATE rule_usage SET used = used - back.amount
FROM (
    SELECT g.rule_id, g.subject, g.starts_at, sum(CASE WHEN g.subject = 'budget' THEN m.value ELSE 1 END) AS amount
    FROM jsonb_to_recordset(cast(:given as jsonb)) AS m (
        rule_id text, referrer_id text, unit text, value bigint, made_at bigint
    )
    JOIN rule_usage g ON g.rule_id = m.rule_id AND g.starts_at <= m.made_at AND g.ends_at > m.made_at
      AND (g.subject = m.referrer_id OR (g.subject = 'budget' AND g.unit = m.unit))
    GROUP BY g.rule_id, g.subject, g.starts_at
) AS back
WHERE rule_usage.rule_id = back.rule_id AND rule_usage.subject = back.subject AND rule_usage.starts_at = back.starts_at;

-- name: use_limits(uses)
-- The first use of a period opens its row. Conditional on the limit: of two rewards at once of which one fits, one finds no row.
-- In the order in which they are given back, so that no two transactions wait for each other.
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, unit, used, most)
SELECT m.rule_id, m.subject, m.starts_at, m.ends_at, m.unit, m.amount, m.most
FROM jsonb_to_recordset(cast(:uses as jsonb)) AS m (
    rule_id text, subject text, starts_at bigint, ends_at bigint, unit text, amount bigint, most bigint
)
ORDER BY m.rule_id, CASE m.subject WHEN 'budget' THEN 1 ELSE 0 END
ON CONFLICT (rule_id, subject, starts_at) DO UPDATE SET used = rule_usage.used + excluded.used, most = excluded.most
WHERE rule_usage.used + excluded.used <= excluded.most
RETURNING rule_id, subject;
