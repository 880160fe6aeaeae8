-- name: insert_service_key(id, name, scope, key_hash, now)^
-- No row where there is one of this id.
INSERT INTO service_keys (id, name, scope, key_hash, created_at) VALUES (:id, :name, :scope, :key_hash, :now)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: find_live_key(key_hash)^
-- On each request with a key.
SELECT id, name, scope, key_hash, last_used_at FROM service_keys WHERE key_hash = :key_hash;

-- name: find_held_key(id)^
-- At the end of the transaction of a change: whether the key is still there.
SELECT id FROM service_keys WHERE id = :id;

-- name: find_service_key(id)^
SELECT id, name, scope, created_at, last_used_at FROM service_keys WHERE id = :id;

-- name: list_service_keys(before_time, before_id, page_size)
SELECT id, name, scope, created_at, last_used_at FROM service_keys
WHERE (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: count_service_keys()^
SELECT count(*) AS total FROM service_keys;

-- name: delete_service_key(id)^
DELETE FROM service_keys WHERE id = :id
RETURNING id, name, scope, created_at, last_used_at, key_hash;

-- name: touch_service_key(id, now)!
-- To the minute, but not before the key was there.
UPDATE service_keys SET last_used_at = CASE WHEN created_at > :now THEN created_at ELSE :now END
WHERE id = :id AND (last_used_at IS NULL OR last_used_at < :now);
