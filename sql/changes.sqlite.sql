-- Changes, several at once, which SQLite reads from a JSON array.

-- name: insert_announcements(changes, at)!
INSERT INTO announcements (id, type, at, subject_id, user_id, data)
SELECT m.value ->> '$.id', m.value ->> '$.type', :at, m.value ->> '$.subject_id', m.value ->> '$.user_id', m.value ->> '$.data'
FROM json_each(:changes) AS m;

-- name: lock_feed()^
-- The write transaction itself is the lock.
SELECT last_seq FROM feed WHERE id = 1;

-- name: list_announcements(batch_size)
-- In the order in which they were written, so that two changes of one thing keep theirs.
SELECT number, id, type, subject_id FROM announcements ORDER BY number LIMIT :batch_size;

-- name: count_changes_of_subjects(counts)
-- The versions that the subjects have with these many changes more.
INSERT INTO change_subjects (subject_id, version)
SELECT m.value ->> '$.subject_id', m.value ->> '$.changes' FROM json_each(:counts) AS m WHERE true
ON CONFLICT (subject_id) DO UPDATE SET version = version + excluded.version
RETURNING subject_id, version;

-- name: insert_changes(numbers)!
INSERT INTO changes (seq, id, type, at, subject_id, version, user_id, data)
SELECT m.value ->> '$.seq', a.id, a.type, a.at, a.subject_id, m.value ->> '$.version', a.user_id, a.data
FROM json_each(:numbers) AS m JOIN announcements a ON a.number = m.value ->> '$.number';

-- name: delete_announcements(numbers)!
DELETE FROM announcements WHERE number IN (SELECT m.value ->> '$.number' FROM json_each(:numbers) AS m);

-- name: forget_announcements_of_user(user_id, names)!
-- Members of these names become null. The others are taken as the texts that they are: as values, numbers lose digits.
UPDATE announcements SET data = (
    SELECT json_group_object(
        m.key,
        CASE WHEN m.key IN (SELECT n.value FROM json_each(:names) AS n) THEN NULL ELSE json(data -> m.fullkey) END
    )
    FROM json_each(data) AS m
)
WHERE user_id = :user_id;

-- name: forget_changes_of_user(user_id, names, after, batch_size)
UPDATE changes SET data = (
    SELECT json_group_object(
        m.key,
        CASE WHEN m.key IN (SELECT n.value FROM json_each(:names) AS n) THEN NULL ELSE json(data -> m.fullkey) END
    )
    FROM json_each(data) AS m
)
WHERE seq IN (SELECT c.seq FROM changes c WHERE c.user_id = :user_id AND c.seq > :after ORDER BY c.seq LIMIT :batch_size)
RETURNING seq;
