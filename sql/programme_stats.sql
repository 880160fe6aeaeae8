-- Sums of the whole programme by day in UTC. Triggers write what changes them to stat_deltas; a worker adds that to stat_days.

-- name: sum_stats(first, last)
-- Both in one statement: what is moved from one to the other meanwhile is seen in exactly one of them. Differences are read from
-- the oldest on, by the index: before them lie those which were deleted, and which PostgreSQL would read until it has cleaned up.
SELECT s.day, s.what, s.unit, cast(sum(s.count) as bigint) AS count, cast(sum(s.billions) as bigint) AS billions,
       cast(sum(s.amount) as bigint) AS amount
FROM (
    SELECT d.day, d.what, d.unit, d.count, d.billions, d.amount FROM stat_days d WHERE d.day BETWEEN :first AND :last
    UNION ALL
    SELECT w.day, w.what, w.unit, w.count, w.amount / 1000000000, w.amount % 1000000000 FROM stat_deltas w
    WHERE w.number >= (SELECT f.number FROM stat_deltas f ORDER BY f.number LIMIT 1) AND w.day BETWEEN :first AND :last
) AS s
GROUP BY s.day, s.what, s.unit
ORDER BY s.day, s.what, s.unit;

-- name: find_oldest_delta()^
SELECT w.number FROM stat_deltas w ORDER BY w.number LIMIT 1;

-- name: are_stats_filled()^
SELECT filled FROM stat_state WHERE id = 1;

-- name: mark_stats_filled()^
-- Of several processes that have counted what was there, one adds it.
UPDATE stat_state SET filled = 1 WHERE id = 1 AND filled = 0
RETURNING id;

-- What the rows themselves come to: for what was there before there were triggers, and for `run.py verify`. A page of rows begins
-- behind a key, and says in each of its sums with which key it ends. Rows that count nowhere are summed under no name.

-- name: sum_referral_rows(after, page_size)
WITH p AS (
    SELECT r.user_id, r.joined_at, r.converted_at FROM referrals r WHERE r.user_id > :after ORDER BY r.user_id LIMIT :page_size
)
SELECT s.day, s.what, '' AS unit, count(*) AS count, 0 AS billions, 0 AS amount, (SELECT max(p.user_id) FROM p) AS last
FROM (
    SELECT p.joined_at - p.joined_at % 86400000 AS day, 'referral' AS what FROM p
    UNION ALL
    SELECT p.converted_at - p.converted_at % 86400000, 'converted' FROM p WHERE p.converted_at IS NOT NULL
) AS s
GROUP BY s.day, s.what;

-- name: sum_event_rows(after, page_size)
WITH p AS (
    SELECT e.id, e.occurred_at - e.occurred_at % 86400000 AS day,
           CASE WHEN e.type IN ('signup', 'purchase', 'refund') THEN e.type ELSE '' END AS what,
           coalesce(e.unit, '') AS unit, coalesce(e.amount, 0) AS amount
    FROM events e WHERE e.id > :after ORDER BY e.id LIMIT :page_size
)
SELECT p.day, p.what, p.unit, count(*) AS count, cast(sum(p.amount / 1000000000) as bigint) AS billions,
       cast(sum(p.amount % 1000000000) as bigint) AS amount, (SELECT max(p.id) FROM p) AS last
FROM p
GROUP BY p.day, p.what, p.unit;

-- name: sum_reward_rows(after, page_size)
WITH p AS (
    SELECT w.id, w.created_at - w.created_at % 86400000 AS day, CASE WHEN w.status = 'void' THEN '' ELSE 'reward' END AS what,
           coalesce(w.unit, '') AS unit, coalesce(w.value, 0) - w.reversed AS amount
    FROM rewards w WHERE w.id > :after ORDER BY w.id LIMIT :page_size
)
SELECT p.day, p.what, p.unit, count(*) AS count, cast(sum(p.amount / 1000000000) as bigint) AS billions,
       cast(sum(p.amount % 1000000000) as bigint) AS amount, (SELECT max(p.id) FROM p) AS last
FROM p
GROUP BY p.day, p.what, p.unit;

-- name: sum_account_rows(after, page_size)
-- All accounts of so many users.
WITH u AS (
    SELECT DISTINCT a.user_id FROM accounts a WHERE a.user_id > :after ORDER BY a.user_id LIMIT :page_size
), p AS (
    SELECT a.unit, a.pending, a.available FROM accounts a JOIN u ON u.user_id = a.user_id
)
SELECT 0 AS day, s.what, s.unit, 0 AS count, cast(sum(s.amount / 1000000000) as bigint) AS billions,
       cast(sum(s.amount % 1000000000) as bigint) AS amount, (SELECT max(u.user_id) FROM u) AS last
FROM (
    SELECT 'pending' AS what, p.unit, p.pending AS amount FROM p
    UNION ALL
    SELECT 'available', p.unit, p.available FROM p
) AS s
GROUP BY s.what, s.unit;

-- name: sum_click_rows(after, page_size)
-- All days of so many codes.
WITH c AS (
    SELECT DISTINCT d.code FROM click_days d WHERE d.code > :after ORDER BY d.code LIMIT :page_size
), p AS (
    SELECT d.day, d.clicks, d.visitors, d.robots FROM click_days d JOIN c ON c.code = d.code
)
SELECT s.day, s.what, '' AS unit, cast(sum(s.count) as bigint) AS count, 0 AS billions, 0 AS amount, (SELECT max(c.code) FROM c) AS last
FROM (
    SELECT p.day, 'click' AS what, p.clicks AS count FROM p
    UNION ALL
    SELECT p.day, 'visitor', p.visitors FROM p
    UNION ALL
    SELECT p.day, 'robot', p.robots FROM p
) AS s
GROUP BY s.day, s.what;
