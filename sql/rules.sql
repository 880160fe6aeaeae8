-- Rules by which events are rewarded, their versions, and how much of their limits is used up.

-- name: insert_rule(id, on_type, side, now)!
INSERT INTO rules (id, version, on_type, side, created_at) VALUES (:id, 1, :on_type, :side, :now);

-- name: insert_rule_version(rule_id, version, now, definition)!
INSERT INTO rule_versions (rule_id, version, created_at, definition) VALUES (:rule_id, :version, :now, :definition);

-- name: update_rule(rule_id, version, on_type, side)!
UPDATE rules SET version = :version, on_type = :on_type, side = :side WHERE id = :rule_id;

-- name: find_rule(rule_id)^
SELECT u.id, u.version, v.definition, u.created_at, v.created_at AS changed_at
FROM rules u JOIN rule_versions v ON v.rule_id = u.id AND v.version = u.version
WHERE u.id = :rule_id;

-- name: list_rules(before_time, before_id, page_size)
SELECT u.id, u.version, v.definition, u.created_at, v.created_at AS changed_at
FROM rules u JOIN rule_versions v ON v.rule_id = u.id AND v.version = u.version
WHERE (u.created_at, u.id) < (:before_time, :before_id)
ORDER BY u.created_at DESC, u.id DESC
LIMIT :page_size;

-- name: count_rules()^
SELECT count(*) AS total FROM rules;

-- name: list_rule_versions(rule_id, before_version, page_size)
SELECT v.rule_id AS id, v.version, v.definition, u.created_at, v.created_at AS changed_at
FROM rule_versions v JOIN rules u ON u.id = v.rule_id
WHERE v.rule_id = :rule_id AND v.version < :before_version
ORDER BY v.version DESC
LIMIT :page_size;

-- name: list_rule_changes(rule_id, before_version, page_size)
-- As above, with who made each version, as the record of security events knows it, which is found by its time.
SELECT v.version, v.definition, v.created_at AS changed_at, a.actor_id, coalesce(w.username, w.email) AS actor_name, a.detail
FROM rule_versions v
LEFT JOIN audit_events a ON a.at = v.created_at
    AND a.event = CASE WHEN v.version = 1 THEN 'rule-made' ELSE 'rule-changed' END
    AND a.detail LIKE '%"rule_id":"' || v.rule_id || '"%'
    AND (v.version = 1 OR a.detail LIKE '%"version":' || cast(v.version as text) || ',%')
LEFT JOIN users w ON w.id = a.actor_id
WHERE v.rule_id = :rule_id AND v.version < :before_version
ORDER BY v.version DESC
LIMIT :page_size;

-- name: find_budget_used(rule_id, now)^
-- In the period that now is in.
SELECT used FROM rule_usage
WHERE rule_id = :rule_id AND subject = 'budget' AND starts_at <= :now AND ends_at > :now;

-- name: count_given(rule_id, referee_id, side)^
-- The rewards of a rule for a user's referral that are not void; no further than to more than any rule may give.
SELECT count(*) AS given FROM (
    SELECT 1 AS one FROM rewards
    WHERE referral_user_id = :referee_id AND rule_id = :rule_id AND side = :side AND ordinal >= 1
    LIMIT 1001
) AS counted;

-- name: find_free_ordinal(rule_id, referee_id, side)^
-- The least that no reward has: one that was given back, or the one behind all.
SELECT min(free.ordinal) AS ordinal FROM (
    SELECT 1 AS ordinal
    UNION ALL
    SELECT w.ordinal + 1 FROM rewards w
    WHERE w.referral_user_id = :referee_id AND w.rule_id = :rule_id AND w.side = :side AND w.ordinal IS NOT NULL
) AS free
WHERE NOT EXISTS (
    SELECT 1 FROM rewards x
    WHERE x.referral_user_id = :referee_id AND x.rule_id = :rule_id AND x.side = :side AND x.ordinal = free.ordinal
);

-- name: list_usage(type, referrer_id, now)
-- What is used up of the limits of a type's rules at a time: of their budgets, and of what a referrer may get.
SELECT g.rule_id, g.subject, g.used
FROM rules u JOIN rule_usage g ON g.rule_id = u.id
WHERE u.on_type = :type AND g.subject IN ('budget', :referrer_id) AND g.starts_at <= :now AND g.ends_at > :now;

-- name: sum_given(rule_id, unit, starts_at, ends_at)^
-- What a rule gave in a period, in two parts: a sum may pass 64 bits.
SELECT cast(coalesce(sum(value / 1000000), 0) as bigint) AS millions, cast(coalesce(sum(value % 1000000), 0) as bigint) AS rest
FROM rewards
WHERE rule_id = :rule_id AND created_at >= :starts_at AND created_at < :ends_at AND unit = :unit AND status <> 'void';

-- name: insert_budget(rule_id, starts_at, ends_at, unit, used, most)!
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, unit, used, most)
VALUES (:rule_id, 'budget', :starts_at, :ends_at, :unit, :used, :most)
ON CONFLICT (rule_id, subject, starts_at) DO NOTHING;

-- name: open_referrers_limit(rule_id, referrer_id, starts_at, ends_at, most)!
-- A period's row, with what the referrer got in it until now.
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, used, most)
SELECT :rule_id, cast(:referrer_id as text), cast(:starts_at as bigint), cast(:ends_at as bigint), given.used,
       CASE WHEN given.used > cast(:most as bigint) THEN given.used ELSE cast(:most as bigint) END
FROM (
    SELECT count(*) AS used FROM rewards w
    WHERE w.rule_id = :rule_id AND w.created_at >= cast(:starts_at as bigint) AND w.created_at < cast(:ends_at as bigint)
      AND w.referrer_id = cast(:referrer_id as text) AND w.status <> 'void'
) AS given
WHERE true
ON CONFLICT (rule_id, subject, starts_at) DO NOTHING;

-- name: open_referrers_limits(rule_id, starts_at, ends_at, most)!
-- As above, those of all referrers who got something in the period.
INSERT INTO rule_usage (rule_id, subject, starts_at, ends_at, used, most)
SELECT :rule_id, given.referrer_id, cast(:starts_at as bigint), cast(:ends_at as bigint), given.used,
       CASE WHEN given.used > cast(:most as bigint) THEN given.used ELSE cast(:most as bigint) END
FROM (
    SELECT w.referrer_id, count(*) AS used FROM rewards w
    WHERE w.rule_id = :rule_id AND w.created_at >= cast(:starts_at as bigint) AND w.created_at < cast(:ends_at as bigint)
      AND w.status <> 'void'
    GROUP BY w.referrer_id
) AS given
WHERE true
ON CONFLICT (rule_id, subject, starts_at) DO NOTHING;

-- name: delete_budgets(rule_id)!
DELETE FROM rule_usage WHERE rule_id = :rule_id AND subject = 'budget';

-- name: delete_referrers_limits(rule_id)!
DELETE FROM rule_usage WHERE rule_id = :rule_id AND subject <> 'budget';

-- name: list_spent(rule_id)
-- What a rule gave, by unit, in rewards that are not void; the sum in two parts, because it may pass 64 bits.
SELECT unit, cast(coalesce(sum(value / 1000000), 0) as bigint) AS millions, cast(coalesce(sum(value % 1000000), 0) as bigint) AS rest,
       count(*) AS count
FROM rewards
WHERE rule_id = :rule_id AND status <> 'void'
GROUP BY unit
ORDER BY count(*) DESC, unit;
