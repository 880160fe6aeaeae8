-- name: insert_one_time_token(token_hash, user_id, purpose, now, expires_at)!
INSERT INTO one_time_tokens (token_hash, user_id, purpose, created_at, expires_at)
VALUES (:token_hash, :user_id, :purpose, :now, :expires_at);

-- name: use_one_time_token(token_hash, purpose, now)^
-- Deleting is using: of two requests with one token, one finds no row.
DELETE FROM one_time_tokens WHERE token_hash = :token_hash AND purpose = :purpose AND expires_at > :now
RETURNING user_id;

-- name: find_one_time_token(token_hash, purpose, now)^
SELECT user_id FROM one_time_tokens WHERE token_hash = :token_hash AND purpose = :purpose AND expires_at > :now;

-- name: delete_one_time_tokens(user_id, purpose)!
DELETE FROM one_time_tokens WHERE user_id = :user_id AND purpose = :purpose;

-- name: delete_one_time_tokens_of_user(user_id)!
DELETE FROM one_time_tokens WHERE user_id = :user_id;

-- name: delete_expired_one_time_tokens(now)!
DELETE FROM one_time_tokens WHERE expires_at <= :now;
