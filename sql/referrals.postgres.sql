-- Whoever comes by somebody as they sign up, as PostgreSQL does it.

-- name: insert_first_referral(user_id, referrer_id, code, joined_at, source)^
-- Of a user whom this transaction makes, so that they came by nobody yet, and nobody by them. No row when the referrer is
-- suspended. The referrer is locked before the row refers to them: whoever waits for the lock has no part of it already.
WITH owner AS MATERIALIZED (
    SELECT w.id, w.username, w.name, w.converted_count FROM users w
    WHERE w.id = :referrer_id AND w.suspended_at IS NULL
    FOR NO KEY UPDATE
)
INSERT INTO referrals (user_id, referrer_id, code, joined_at, source)
SELECT :user_id, o.id, cast(:code as text), cast(:joined_at as bigint), cast(:source as text) FROM owner o
RETURNING referrer_id AS id, (SELECT o.username FROM owner o) AS username, (SELECT o.name FROM owner o) AS name,
    (SELECT o.converted_count FROM owner o) AS converted_count;
