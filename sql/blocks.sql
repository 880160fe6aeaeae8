-- Values whose users' referrals are suspicious by themselves.

-- name: insert_block(kind, value, note, now)^
-- No row when it is there already.
INSERT INTO blocks (kind, value, note, created_at) VALUES (:kind, :value, :note, :now)
ON CONFLICT (kind, value) DO NOTHING
RETURNING kind, value, note, created_at;

-- name: update_block(kind, value, note)^
UPDATE blocks SET note = :note WHERE kind = :kind AND value = :value
RETURNING kind, value, note, created_at;

-- name: find_block(kind, value)^
SELECT kind, value, note, created_at FROM blocks WHERE kind = :kind AND value = :value;

-- name: delete_block(kind, value)^
DELETE FROM blocks WHERE kind = :kind AND value = :value
RETURNING kind;

-- name: list_blocks(before_time, before_kind, before_value, page_size)
-- Newest first, from the cursor on.
SELECT kind, value, note, created_at FROM blocks
WHERE (created_at, kind, value) < (:before_time, :before_kind, :before_value)
ORDER BY created_at DESC, kind DESC, value DESC
LIMIT :page_size;

-- name: list_blocks_of_kind(kind, before_time, before_value, page_size)
SELECT kind, value, note, created_at FROM blocks
WHERE kind = :kind AND (created_at, value) < (:before_time, :before_value)
ORDER BY created_at DESC, value DESC
LIMIT :page_size;

-- name: count_blocks(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM blocks b WHERE b.created_at >= 0 LIMIT :sample_size
) AS found;

-- name: count_blocks_of_kind(kind, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM blocks b WHERE b.kind = :kind LIMIT :sample_size
) AS found;
