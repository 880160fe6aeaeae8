-- Deliveries, several at once, which SQLite reads from a JSON array.

-- name: insert_deliveries(deliveries)!
-- One that is there is sent once more, from the beginning, unless it is being sent.
INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at)
SELECT m.value ->> '$.seq', m.value ->> '$.webhook_id', 'waiting', 0 FROM json_each(:deliveries) AS m WHERE true
ON CONFLICT (seq, webhook_id) DO UPDATE SET status = 'waiting', attempts = 0, next_attempt_at = 0, delivered_at = NULL
WHERE leased_until IS NULL;

-- name: claim_deliveries(webhook_id, now, lease_until, batch_size)
-- Takes what is due by a lease on each: unless this one dies, nobody else has it until then.
UPDATE deliveries SET leased_until = :lease_until, attempts = attempts + 1
WHERE webhook_id = :webhook_id AND seq IN (
    SELECT d.seq FROM deliveries d WHERE d.webhook_id = :webhook_id AND d.status = 'waiting' AND d.next_attempt_at <= :now
    ORDER BY d.next_attempt_at, d.seq LIMIT :batch_size
)
RETURNING seq, attempts;

-- name: list_changes_of(numbers)
SELECT id, seq, type, at, subject_id, version, data FROM changes WHERE seq IN (SELECT m.value FROM json_each(:numbers) AS m);

-- name: end_attempts(webhook_id, attempts)
-- What became of attempts. Whoever was too slow for its lease, so that another one has begun since, ends nothing. The plus keeps
-- SQLite from the webhook's indexes, by which it would read the whole array again for each row.
UPDATE deliveries SET status = m.value ->> '$.status', attempts = m.value ->> '$.attempts',
    next_attempt_at = m.value ->> '$.next_attempt_at', leased_until = NULL, last_status = m.value ->> '$.last_status',
    last_error = m.value ->> '$.last_error', delivered_at = m.value ->> '$.delivered_at'
FROM json_each(:attempts) AS m
WHERE +webhook_id = :webhook_id AND seq = m.value ->> '$.seq' AND deliveries.attempts = m.value ->> '$.claimed'
  AND +leased_until IS NOT NULL
RETURNING seq;

-- name: hand_back_deliveries(webhook_id, deliveries)!
-- Of what was claimed and not begun: it is due as before.
UPDATE deliveries SET leased_until = NULL, attempts = attempts - 1
FROM json_each(:deliveries) AS m
WHERE +webhook_id = :webhook_id AND seq = m.value ->> '$.seq' AND attempts = m.value ->> '$.claimed' AND +leased_until IS NOT NULL;

-- name: insert_delivery_failures(failures)!
INSERT INTO delivery_failures (id, seq, webhook_id, at, status, error, milliseconds)
SELECT m.value ->> '$.id', m.value ->> '$.seq', m.value ->> '$.webhook_id', m.value ->> '$.at', m.value ->> '$.status',
       m.value ->> '$.error', m.value ->> '$.milliseconds'
FROM json_each(:failures) AS m;

-- name: delete_failures_of_deliveries(webhook_id, numbers)!
DELETE FROM delivery_failures WHERE webhook_id = :webhook_id AND seq IN (SELECT m.value FROM json_each(:numbers) AS m);

-- name: delete_deliveries(webhook_id, numbers)!
DELETE FROM deliveries WHERE webhook_id = :webhook_id AND seq IN (SELECT m.value FROM json_each(:numbers) AS m);
