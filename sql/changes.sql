-- Changes: announced by whoever makes them, numbered by the relay, and read by followers.

-- name: find_feed()^
SELECT last_seq, gone_seq FROM feed WHERE id = 1;

-- name: find_first_announcement()^
SELECT min(number) AS number FROM announcements;

-- name: advance_feed(last_seq)!
UPDATE feed SET last_seq = :last_seq WHERE id = 1;

-- name: list_changes(after, up_to, page_size)
-- Oldest first.
SELECT id, seq, type, at, subject_id, version, data FROM changes
WHERE seq > :after AND seq <= :up_to
ORDER BY seq
LIMIT :page_size;

-- name: list_types_since(after, up_to, since)
-- Of changes in a span of the feed, those that are not older than a time.
SELECT seq, type FROM changes WHERE seq > :after AND seq <= :up_to AND at >= :since ORDER BY seq;

-- name: find_end_of_old(before, batch_size)^
-- The last of a batch of the oldest changes, as far as they are older than a time.
SELECT max(o.seq) AS seq FROM (SELECT c.seq, c.at FROM changes c ORDER BY c.seq LIMIT :batch_size) AS o WHERE o.at < :before;

-- name: delete_changes_to(seq)!
DELETE FROM changes WHERE seq <= :seq;

-- name: forget_changes_to(seq)!
UPDATE feed SET gone_seq = CASE WHEN gone_seq > :seq THEN gone_seq ELSE :seq END WHERE id = 1;
