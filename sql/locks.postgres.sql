-- Locks that PostgreSQL needs. SQLite has none of them: a write transaction excludes every other one.

-- name: lock_user(user_id)^
-- Before statements that rely on what the user's rows say together: two new codes at once, a code or a session for an account
-- that is being erased, a session by a password that is being changed. Not FOR UPDATE: references to the user from other
-- transactions need not wait.
SELECT id FROM users WHERE id = :user_id FOR NO KEY UPDATE;

-- name: hold_address(user_id)^
-- Before a link is kept that is mailed to the user's address: nobody changes the address before the link is there. That takes
-- the key of the row, and nothing else does.
SELECT id FROM users WHERE id = :user_id FOR KEY SHARE;

-- name: lock_referrers()^
-- Before a referrer is set after registration. A cycle can be closed by links that several transactions make at once, each of
-- which sees none of the others: they go one by one. The number is this lock's name.
SELECT pg_advisory_xact_lock(7236251) AS locked;
