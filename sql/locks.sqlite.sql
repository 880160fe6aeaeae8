-- The same two names stand in locks.postgres.sql. BEGIN IMMEDIATE has locked the whole database already.

-- name: lock_user(user_id)^
SELECT :user_id AS id;

-- name: lock_referrers()^
SELECT 1 AS locked;
