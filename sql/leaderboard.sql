-- Who referred the most. Of two with the same the one who came first stands first: ids have the time of their making.

-- name: list_most_referrals(page_size)
-- Of all time.
SELECT u.id AS user_id, u.referral_count AS value FROM users u
WHERE u.referral_count > 0 AND u.erased_at IS NULL AND u.suspended_at IS NULL
ORDER BY u.referral_count DESC, u.id
LIMIT :page_size;

-- name: list_most_converted(page_size)
-- Of all time.
SELECT u.id AS user_id, u.converted_count AS value FROM users u
WHERE u.converted_count > 0 AND u.erased_at IS NULL AND u.suspended_at IS NULL
ORDER BY u.converted_count DESC, u.id
LIMIT :page_size;

-- name: list_most_referrals_of_period(starts_at, ends_at, page_size)
SELECT g.user_id, g.value
FROM (
    SELECT r.referrer_id AS user_id, count(*) AS value FROM referrals r
    WHERE r.joined_at >= :starts_at AND r.joined_at < :ends_at
    GROUP BY r.referrer_id
) AS g
JOIN users u ON u.id = g.user_id
WHERE u.erased_at IS NULL AND u.suspended_at IS NULL
ORDER BY g.value DESC, g.user_id
LIMIT :page_size;

-- name: list_most_converted_of_period(starts_at, ends_at, page_size)
-- Those that are converted now.
SELECT g.user_id, g.value
FROM (
    SELECT r.referrer_id AS user_id, count(*) AS value FROM referrals r
    WHERE r.converted_at >= :starts_at AND r.converted_at < :ends_at
    GROUP BY r.referrer_id
) AS g
JOIN users u ON u.id = g.user_id
WHERE u.erased_at IS NULL AND u.suspended_at IS NULL
ORDER BY g.value DESC, g.user_id
LIMIT :page_size;

-- name: list_most_revenue(unit, starts_at, ends_at, page_size)
-- What those bought who had come by a user then: so many thousand million, and the rest, for a sum may pass what a number holds.
SELECT g.user_id, g.billions + g.rest / 1000000000 AS billions, g.rest % 1000000000 AS rest
FROM (
    SELECT e.referrer_id AS user_id, cast(sum(e.amount / 1000000000) as bigint) AS billions,
           cast(sum(e.amount % 1000000000) as bigint) AS rest
    FROM events e
    WHERE e.type = 'purchase' AND e.referrer_id IS NOT NULL AND e.unit = :unit
      AND e.occurred_at >= :starts_at AND e.occurred_at < :ends_at
    GROUP BY e.referrer_id
) AS g
JOIN users u ON u.id = g.user_id
WHERE u.erased_at IS NULL AND u.suspended_at IS NULL AND (g.billions > 0 OR g.rest > 0)
ORDER BY billions DESC, rest DESC, g.user_id
LIMIT :page_size;
