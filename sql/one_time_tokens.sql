-- A link with address_hash is nobody's, and cannot be used until an account has its address again.

-- name: insert_one_time_token(token_hash, user_id, purpose, email, generation, now, expires_at)!
INSERT INTO one_time_tokens (token_hash, user_id, purpose, email, generation, created_at, expires_at)
VALUES (:token_hash, :user_id, :purpose, :email, :generation, :now, :expires_at);

-- name: use_one_time_token(token_hash, purpose, now)^
-- Of two requests with one token, one finds no row.
UPDATE one_time_tokens SET used_at = :now
WHERE token_hash = :token_hash AND purpose = :purpose AND used_at IS NULL AND expires_at > :now AND address_hash IS NULL
RETURNING user_id, email, used_at, generation;

-- name: find_one_time_token(token_hash, purpose, now)^
SELECT user_id, email, used_at, generation FROM one_time_tokens
WHERE token_hash = :token_hash AND purpose = :purpose AND expires_at > :now AND address_hash IS NULL;

-- name: list_links(user_id)
SELECT purpose, email, created_at, expires_at, used_at FROM one_time_tokens
WHERE user_id = :user_id AND address_hash IS NULL ORDER BY created_at;

-- name: forget_address_of_token(token_hash)!
UPDATE one_time_tokens SET email = NULL WHERE token_hash = :token_hash;

-- name: delete_one_time_tokens(user_id, purpose)!
-- Used ones can do nothing any more, and say what they did.
DELETE FROM one_time_tokens
WHERE user_id = :user_id AND purpose = :purpose AND used_at IS NULL AND address_hash IS NULL;

-- name: leave_links(user_id, purpose, address_hash)!
UPDATE one_time_tokens SET address_hash = :address_hash, email = NULL
WHERE user_id = :user_id AND purpose = :purpose AND used_at IS NULL;

-- name: take_links_over(user_id, email, current_hash, previous_hash)!
UPDATE one_time_tokens SET user_id = :user_id, email = :email, address_hash = NULL
WHERE address_hash IN (:current_hash, :previous_hash);

-- name: delete_one_time_tokens_of_user(user_id)!
-- With the account, what could be used and what holds an address.
DELETE FROM one_time_tokens
WHERE user_id = :user_id AND address_hash IS NULL AND (used_at IS NULL OR email IS NOT NULL);

-- name: delete_expired_one_time_tokens(now)!
DELETE FROM one_time_tokens WHERE expires_at <= :now;
