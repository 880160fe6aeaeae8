-- Limits of rules are given back for several rewards at once, which SQLite reads from a JSON array.

-- name: give_limits_back(given)!
-- To the periods in which the rewards were made: a reward to its referrer's limit, and its value to the budget.
UPDATE rule_usage SET used = used - back.amount
FROM (
    SELECT g.rule_id, g.subject, g.starts_at, sum(CASE WHEN g.subject = 'budget' THEN m.value ->> '$.value' ELSE 1 END) AS amount
    FROM json_each(:given) AS m
    JOIN rule_usage g ON g.rule_id = m.value ->> '$.rule_id' AND g.starts_at <= m.value ->> '$.made_at' AND g.ends_at > m.value ->> '$.made_at'
      AND (g.subject = m.value ->> '$.referrer_id' OR (g.subject = 'budget' AND g.unit = m.value ->> '$.unit'))
    GROUP BY g.rule_id, g.subject, g.starts_at
) AS back
WHERE rule_usage.rule_id = back.rule_id AND rule_usage.subject = back.subject AND rule_usage.starts_at = back.starts_at;

-- name: hold_rules_met(type, referee_id)
-- The rules of an event's type, each with the last ordinal of the rewards that it gave for a user's referral. The write
-- transaction itself keeps them as they are.
SELECT u.id, u.version, v.definition, v.created_at AS changed_at,
       (SELECT coalesce(max(w.ordinal), 0) FROM rewards w
        WHERE w.referral_user_id = :referee_id AND w.rule_id = u.id AND w.side = u.side) AS last_ordinal
FROM rules u JOIN rule_versions v ON v.rule_id = u.id AND v.version = u.version
WHERE u.on_type = :type
ORDER BY u.on_type, u.id;

-- name: use_limits(uses)
-- The first use of a period opens its row. Conditional on the limit: of two rewards at once of which one fits, one finds no row.
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, unit, used, most)
SELECT m.value ->> '$.rule_id', m.value ->> '$.subject', m.value ->> '$.starts_at', m.value ->> '$.ends_at', m.value ->> '$.unit',
       m.value ->> '$.amount', m.value ->> '$.most'
FROM json_each(:uses) AS m WHERE true
ON CONFLICT (rule_id, subject, starts_at) DO UPDATE SET used = rule_usage.used + excluded.used, most = excluded.most
WHERE rule_usage.used + excluded.used <= excluded.most
RETURNING rule_id, subject;
