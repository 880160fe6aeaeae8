-- name: insert_session_of_user(id, user_id, now, expires_at, address, client)^
-- By whoever speaks for the user without a password: a key, or a token of the product's own. No admin acts by it.
INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, address, client, delegated)
SELECT :id, u.id, cast(:now as bigint), cast(:now as bigint), cast(:expires_at as bigint), cast(:address as text),
       cast(:client as text), 1
FROM users u WHERE u.id = :user_id AND u.erased_at IS NULL AND u.suspended_at IS NULL
RETURNING id;

-- name: find_live_session(session_id, now)^
-- On every authenticated request: a session that ended, or an account that did, ends its access tokens.
SELECT s.user_id, CASE WHEN s.delegated = 0 THEN u.role ELSE 'user' END AS role, s.id AS session_id, s.expires_at,
       s.generation, s.kept_refresh
FROM sessions s JOIN users u ON u.id = s.user_id
WHERE s.id = :session_id AND s.expires_at > :now AND u.erased_at IS NULL AND u.suspended_at IS NULL;

-- name: extend_session(token_hash, now, idle_ttl, session_ttl, address, client)^
-- By a refresh token, and before that is used: whatever changes both takes the session first, as a session's end does, so that
-- two transactions never wait for each other. However often it is refreshed, it ends `session_ttl` after the sign-in.
UPDATE sessions SET last_used_at = :now, address = :address, client = :client,
    expires_at = CASE WHEN cast(:now as bigint) + cast(:idle_ttl as bigint) < created_at + cast(:session_ttl as bigint)
        THEN cast(:now as bigint) + cast(:idle_ttl as bigint) ELSE created_at + cast(:session_ttl as bigint) END
WHERE id = (SELECT t.session_id FROM refresh_tokens t WHERE t.token_hash = :token_hash)
    AND expires_at > :now AND created_at + cast(:session_ttl as bigint) > :now
RETURNING user_id, CASE WHEN delegated = 0 THEN (SELECT u.role FROM users u WHERE u.id = sessions.user_id) ELSE 'user' END AS role,
    id AS session_id, expires_at, generation, kept_refresh;

-- name: list_sessions(user_id, now, before_time, before_id, page_size)
-- Newest first, from the cursor on.
SELECT id, created_at, last_used_at, expires_at, address, client FROM sessions
WHERE user_id = :user_id AND expires_at > :now AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: count_sessions(user_id, now)^
SELECT count(*) AS total FROM sessions WHERE user_id = :user_id AND expires_at > :now;

-- name: delete_session(session_id)^
DELETE FROM sessions WHERE id = :session_id
RETURNING user_id;

-- name: delete_own_session(user_id, session_id)^
DELETE FROM sessions WHERE id = :session_id AND user_id = :user_id
RETURNING id;

-- name: delete_sessions_of_user(user_id)
DELETE FROM sessions WHERE user_id = :user_id
RETURNING id;

-- name: delete_other_sessions(user_id, session_id)
DELETE FROM sessions WHERE user_id = :user_id AND id <> :session_id
RETURNING id;

-- name: delete_expired_sessions(now)!
DELETE FROM sessions WHERE expires_at <= :now;

-- name: insert_refresh_token(token_hash, session_id, now)!
INSERT INTO refresh_tokens (token_hash, session_id, created_at) VALUES (:token_hash, :session_id, :now);

-- name: use_refresh_token(token_hash, now)^
-- The first use sets the time; a repeated one finds it.
UPDATE refresh_tokens SET used_at = coalesce(used_at, :now), uses = uses + 1 WHERE token_hash = :token_hash
RETURNING session_id, used_at, uses;

-- name: begin_generation(session_id, kept)!
-- Before refresh tokens of the session are ended: a refresh at the same time makes another one, and takes the session first, too.
UPDATE sessions SET generation = generation + 1, kept_refresh = :kept WHERE id = :session_id;

-- name: delete_other_refresh_tokens(session_id, kept)!
-- The access token of a pair names its refresh token by the first characters of the hash.
DELETE FROM refresh_tokens WHERE session_id = :session_id AND substr(token_hash, 1, 16) <> :kept;

-- name: delete_used_refresh_tokens(before)!
-- Housekeeping: what was used so long ago is refused as unknown from now on; while it is kept, its reuse ends the session.
DELETE FROM refresh_tokens WHERE used_at <= :before;

-- name: find_session_of_refresh_token(token_hash)^
SELECT session_id FROM refresh_tokens WHERE token_hash = :token_hash;

-- name: insert_first_session(id, user_id, now, expires_at, address, client)!
-- Of an account that this transaction makes, so that nothing can have become of it. Deferred.
INSERT INTO sessions (id, user_id, created_at, last_used_at, expires_at, address, client)
VALUES (:id, :user_id, :now, :now, :expires_at, :address, :client);
