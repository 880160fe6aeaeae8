-- Looking a session up and locking, as SQLite does it: a write transaction excludes every other one.

-- name: hold_live_session(session_id, now)^
-- As find_live_session.
SELECT s.user_id, CASE WHEN s.delegated = 0 THEN u.role ELSE 'user' END AS role, s.id AS session_id, s.expires_at,
       s.generation, s.kept_refresh
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = :session_id AND s.expires_at > :now AND u.erased_at IS NULL AND u.suspended_at IS NULL;

-- name: insert_session(id, user_id, password_hash, now, expires_at, address, client)^
-- Conditional on the password hash that was checked: no row when the password has just been changed, or the account suspended
-- or erased.
INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, address, client)
SELECT :id, u.id, cast(:now as bigint), cast(:now as bigint), cast(:expires_at as bigint), cast(:address as text),
       cast(:client as text)
FROM users u WHERE u.id = :user_id AND u.password_hash = :password_hash AND u.erased_at IS NULL
  AND u.suspended_at IS NULL
RETURNING id;
