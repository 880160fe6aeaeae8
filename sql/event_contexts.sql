-- name: list_context_keys()
-- The latest first, whether they are thrown away or not.
SELECT id, secret, created_at FROM context_keys ORDER BY created_at DESC, id DESC;

-- name: insert_context_key(id, secret, now)!
-- Of many events at once that find no key to use, one makes the next.
INSERT INTO context_keys (id, secret, created_at) VALUES (:id, :secret, :now)
ON CONFLICT (id) DO NOTHING;

-- name: insert_event_context(event_id, kind, user_id, referrer_id, key_id, hash, at)!
-- Deferred. Nothing where there is no such key: a process knows it for a minute, and a standby that was promoted meanwhile may lack it.
INSERT INTO event_contexts (event_id, kind, user_id, referrer_id, key_id, hash, at)
SELECT :event_id, :kind, :user_id, :referrer_id, k.id, :hash, cast(:at as bigint) FROM context_keys k WHERE k.id = :key_id;

-- name: bind_contexts(user_id, referrer_id)!
-- Deferred. Whoever comes by somebody has not been here for long.
UPDATE event_contexts SET referrer_id = :referrer_id WHERE user_id = :user_id AND referrer_id IS NULL;

-- name: list_contexts(user_id, after_event, after_kind, page_size)
SELECT event_id, kind FROM event_contexts
WHERE user_id = :user_id AND (event_id, kind) > (:after_event, :after_kind)
ORDER BY event_id, kind
LIMIT :page_size;

-- name: delete_contexts_of_user(user_id, batch_size)
-- So many at a time.
DELETE FROM event_contexts WHERE (event_id, kind) IN (
    SELECT c.event_id, c.kind FROM event_contexts c WHERE c.user_id = :user_id LIMIT :batch_size
)
RETURNING event_id;

-- name: forget_context_secrets(before)!
UPDATE context_keys SET secret = NULL WHERE created_at < :before AND secret IS NOT NULL;

-- name: delete_old_contexts(batch_size)
-- So many at a time.
DELETE FROM event_contexts WHERE (event_id, kind) IN (
    SELECT c.event_id, c.kind FROM event_contexts c
    WHERE c.key_id IN (SELECT k.id FROM context_keys k WHERE k.secret IS NULL)
    LIMIT :batch_size
)
RETURNING event_id;

-- name: forget_networks(batch_size)
-- Of clicks, so many at a time.
UPDATE clicks SET network = NULL, network_key = NULL WHERE id IN (
    SELECT c.id FROM clicks c
    WHERE c.network_key IN (SELECT k.id FROM context_keys k WHERE k.secret IS NULL)
    LIMIT :batch_size
)
RETURNING id;

-- name: delete_context_keys()!
DELETE FROM context_keys
WHERE secret IS NULL AND NOT EXISTS (SELECT 1 FROM event_contexts c WHERE c.key_id = context_keys.id)
  AND NOT EXISTS (SELECT 1 FROM clicks n WHERE n.network_key = context_keys.id);
