-- Limits of rules are given back for several rewards at once, which PostgreSQL reads from a JSON array.

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
