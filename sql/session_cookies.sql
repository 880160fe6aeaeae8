-- Sessions of the back office, which a cookie holds.

-- name: insert_session_cookie(token_hash, session_id, now)!
INSERT INTO session_cookies (token_hash, session_id, created_at) VALUES (:token_hash, :session_id, :now);

-- name: find_session_of_cookie(token_hash, now)^
-- On every request of a page: whatever ends a session, a role or an account is seen by the next one.
SELECT s.user_id, CASE WHEN s.delegated = 0 THEN u.role ELSE 'user' END AS role, s.id AS session_id, s.expires_at,
       s.generation, s.kept_refresh, s.last_used_at,
       CASE WHEN EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL) THEN 1 ELSE 0 END
       AS has_second_factor
FROM session_cookies c JOIN sessions s ON s.id = c.session_id JOIN users u ON u.id = s.user_id
WHERE c.token_hash = :token_hash AND s.expires_at > :now AND u.erased_at IS NULL AND u.suspended_at IS NULL;

-- name: touch_session(session_id, now, before, idle_ttl, session_ttl, address, client)!
-- Of many requests at once one changes something. However often it is used, it ends `session_ttl` after the sign-in.
UPDATE sessions SET last_used_at = :now, address = :address, client = :client,
    expires_at = CASE WHEN cast(:now as bigint) + cast(:idle_ttl as bigint) < created_at + cast(:session_ttl as bigint)
        THEN cast(:now as bigint) + cast(:idle_ttl as bigint) ELSE created_at + cast(:session_ttl as bigint) END
WHERE id = :session_id AND last_used_at <= :before AND expires_at > :now;
