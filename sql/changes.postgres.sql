-- Changes, several at once, which PostgreSQL reads from a JSON array.

-- name: insert_announcements(changes, at)!
INSERT INTO announcements (id, type, at, subject_id, user_id, data)
SELECT m.id, m.type, cast(:at as bigint), m.subject_id, m.user_id, m.data
FROM jsonb_to_recordset(cast(:changes as jsonb)) AS m (id text, type text, subject_id text, user_id text, data text);

-- name: lock_feed()^
-- Whoever gives numbers to changes has the feed's row until the commit, so that no number is seen before a smaller one.
SELECT last_seq FROM feed WHERE id = 1 FOR NO KEY UPDATE;

-- name: list_announcements(batch_size)
-- In the order in which they were written, so that two changes of one thing keep theirs. Locked, because an erasure that has
-- begun to take what is personal out of them must have ended before they are read: it will not see where they went.
SELECT number, id, type, subject_id FROM announcements ORDER BY number LIMIT :batch_size FOR UPDATE;

-- name: count_changes_of_subjects(counts)
-- The versions that the subjects have with these many changes more. In one order, so that no two wait for each other.
INSERT INTO change_subjects (subject_id, version)
SELECT m.subject_id, m.changes FROM jsonb_to_recordset(cast(:counts as jsonb)) AS m (subject_id text, changes bigint)
ORDER BY m.subject_id
ON CONFLICT (subject_id) DO UPDATE SET version = change_subjects.version + excluded.version
RETURNING subject_id, version;

-- name: insert_changes(numbers)!
INSERT INTO changes (seq, id, type, at, subject_id, version, user_id, data)
SELECT m.seq, a.id, a.type, a.at, a.subject_id, m.version, a.user_id, a.data
FROM jsonb_to_recordset(cast(:numbers as jsonb)) AS m (number bigint, seq bigint, version bigint)
JOIN announcements a ON a.number = m.number;

-- name: delete_announcements(numbers)!
DELETE FROM announcements
WHERE number IN (SELECT m.number FROM jsonb_to_recordset(cast(:numbers as jsonb)) AS m (number bigint));

-- name: forget_announcements_of_user(user_id, names)!
-- Members of these names become null. The rows are locked in the order in which the relay does it.
WITH held AS MATERIALIZED (
    SELECT number FROM announcements WHERE user_id = :user_id ORDER BY number FOR UPDATE
)
UPDATE announcements SET data = (
    SELECT cast(json_object_agg(m.key, CASE WHEN jsonb_exists(cast(:names as jsonb), m.key) THEN cast('null' as json) ELSE m.value END) as text)
    FROM json_each(cast(data as json)) AS m
)
WHERE number IN (SELECT h.number FROM held h);

-- name: forget_changes_of_user(user_id, names, after, batch_size)
WITH chosen AS MATERIALIZED (
    SELECT seq FROM changes WHERE user_id = :user_id AND seq > :after ORDER BY seq LIMIT :batch_size
)
UPDATE changes SET data = (
    SELECT cast(json_object_agg(m.key, CASE WHEN jsonb_exists(cast(:names as jsonb), m.key) THEN cast('null' as json) ELSE m.value END) as text)
    FROM json_each(cast(data as json)) AS m
)
WHERE seq IN (SELECT c.seq FROM chosen c)
RETURNING seq;
