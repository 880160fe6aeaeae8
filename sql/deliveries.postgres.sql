-- Deliveries, several at once, which PostgreSQL reads from a JSON array.

-- name: insert_deliveries(deliveries)!
-- One that is there is sent once more, from the beginning, unless it is being sent.
INSERT INTO deliveries (seq, webhook_id, status, next_attempt_at)
SELECT m.seq, m.webhook_id, 'waiting', 0
FROM jsonb_to_recordset(cast(:deliveries as jsonb)) AS m (seq bigint, webhook_id text)
ORDER BY m.webhook_id, m.seq
ON CONFLICT (seq, webhook_id) DO UPDATE SET status = 'waiting', attempts = 0, next_attempt_at = 0, delivered_at = NULL
WHERE deliveries.leased_until IS NULL;

-- name: claim_deliveries(webhook_id, now, lease_until, batch_size)
-- Takes what is due by a lease on each: unless this one dies, nobody else has it until then. The webhook's row is locked.
WITH due AS MATERIALIZED (
    SELECT seq FROM deliveries WHERE webhook_id = :webhook_id AND status = 'waiting' AND next_attempt_at <= :now
    ORDER BY next_attempt_at, seq LIMIT :batch_size
)
UPDATE deliveries SET leased_until = :lease_until, attempts = attempts + 1
WHERE webhook_id = :webhook_id AND seq IN (SELECT d.seq FROM due d)
RETURNING seq, attempts;

-- name: list_changes_of(numbers)
SELECT id, seq, type, at, subject_id, version, data FROM changes
WHERE seq IN (SELECT cast(m.value as bigint) FROM jsonb_array_elements_text(cast(:numbers as jsonb)) AS m (value));

-- name: end_attempts(webhook_id, attempts)
-- What became of attempts. Whoever was too slow for its lease, so that another one has begun since, ends nothing.
UPDATE deliveries AS d SET status = m.status, attempts = m.attempts, next_attempt_at = m.next_attempt_at, leased_until = NULL,
    last_status = m.last_status, last_error = m.last_error, delivered_at = m.delivered_at
FROM jsonb_to_recordset(cast(:attempts as jsonb)) AS m (
    seq bigint, claimed bigint, status text, attempts bigint, next_attempt_at bigint, last_status bigint, last_error text,
    delivered_at bigint
)
WHERE d.webhook_id = :webhook_id AND d.seq = m.seq AND d.attempts = m.claimed AND d.leased_until IS NOT NULL
RETURNING d.seq;

-- name: hand_back_deliveries(webhook_id, deliveries)!
-- Of what was claimed and not begun: it is due as before.
UPDATE deliveries AS d SET leased_until = NULL, attempts = d.attempts - 1
FROM jsonb_to_recordset(cast(:deliveries as jsonb)) AS m (seq bigint, claimed bigint)
WHERE d.webhook_id = :webhook_id AND d.seq = m.seq AND d.attempts = m.claimed AND d.leased_until IS NOT NULL;

-- name: insert_delivery_failures(failures)!
INSERT INTO delivery_failures (id, seq, webhook_id, at, status, error, milliseconds)
SELECT m.id, m.seq, m.webhook_id, m.at, m.status, m.error, m.milliseconds
FROM jsonb_to_recordset(cast(:failures as jsonb)) AS m (
    id text, seq bigint, webhook_id text, at bigint, status bigint, error text, milliseconds bigint
);

-- name: delete_failures_of_deliveries(webhook_id, numbers)!
DELETE FROM delivery_failures WHERE webhook_id = :webhook_id
  AND seq IN (SELECT cast(m.value as bigint) FROM jsonb_array_elements_text(cast(:numbers as jsonb)) AS m (value));

-- name: delete_deliveries(webhook_id, numbers)!
DELETE FROM deliveries WHERE webhook_id = :webhook_id
  AND seq IN (SELECT cast(m.value as bigint) FROM jsonb_array_elements_text(cast(:numbers as jsonb)) AS m (value));
