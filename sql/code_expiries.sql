-- The ends of codes that end by time: told in the order of their expiry.

-- name: find_told_expiry()^
SELECT expires_at, code FROM code_expiries WHERE id = 1;

-- name: find_next_expiry(expires_at, code)^
SELECT c.expires_at FROM codes c
WHERE c.revoked_at IS NULL AND (c.expires_at, c.code) > (:expires_at, :code)
ORDER BY c.expires_at, c.code
LIMIT 1;

-- name: update_told_expiry(expires_at, code)!
UPDATE code_expiries SET expires_at = :expires_at, code = :code WHERE id = 1;
