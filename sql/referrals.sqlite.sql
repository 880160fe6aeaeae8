-- Whoever comes by somebody as they sign up, as SQLite does it: a write transaction excludes every other one.

-- name: insert_first_referral(user_id, referrer_id, code, joined_at, source)^
-- Of a user whom this transaction makes, so that they came by nobody yet, and nobody by them. No row when the referrer is
-- suspended.
INSERT INTO referrals (user_id, referrer_id, code, joined_at, source)
SELECT :user_id, o.id, :code, :joined_at, :source FROM users o WHERE o.id = :referrer_id AND o.suspended_at IS NULL
RETURNING referrer_id AS id, (SELECT o.username FROM users o WHERE o.id = referrer_id) AS username,
    (SELECT o.name FROM users o WHERE o.id = referrer_id) AS name,
    (SELECT o.converted_count FROM users o WHERE o.id = referrer_id) AS converted_count;
