-- name: list_expired_codes(expires_at, code, now, batch_size)
-- The write transaction itself keeps them as they are.
SELECT c.code, c.created_at, c.expires_at, c.revoked_at, c.max_uses, c.uses, c.referrer_id FROM codes c
WHERE c.revoked_at IS NULL AND (c.expires_at, c.code) > (:expires_at, :code) AND c.expires_at <= :now
ORDER BY c.expires_at, c.code
LIMIT :batch_size;
