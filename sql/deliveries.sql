-- Deliveries: what of which change is sent to which webhook, and what became of it.

-- name: list_deliveries(webhook_id, status, before_seq, page_size)
-- Newest first, from the cursor on.
SELECT d.seq, d.webhook_id, c.id AS change_id, c.type, d.status, d.attempts, d.next_attempt_at, d.leased_until, d.last_status,
       d.last_error, d.delivered_at
FROM deliveries d JOIN changes c ON c.seq = d.seq
WHERE d.webhook_id = :webhook_id AND d.status = :status AND d.seq < :before_seq
ORDER BY d.seq DESC
LIMIT :page_size;

-- name: count_deliveries(webhook_id, status, sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM deliveries WHERE webhook_id = :webhook_id AND status = :status LIMIT :sample_size
) AS found;

-- name: find_delivery(webhook_id, change_id)^
SELECT d.seq, d.webhook_id, c.id AS change_id, c.type, d.status, d.attempts, d.next_attempt_at, d.leased_until, d.last_status,
       d.last_error, d.delivered_at
FROM changes c JOIN deliveries d ON d.seq = c.seq AND d.webhook_id = :webhook_id
WHERE c.id = :change_id;

-- name: list_delivery_failures(webhook_id, seq)
SELECT at, status, error, milliseconds FROM delivery_failures WHERE seq = :seq AND webhook_id = :webhook_id ORDER BY at, id;

-- name: find_turn(webhook_id, longest)^
-- When the next one is due, and until when another worker may be sending some: no lease ends later than `longest`.
SELECT
    (SELECT min(w.next_attempt_at) FROM deliveries w WHERE w.webhook_id = :webhook_id AND w.status = 'waiting') AS next_attempt_at,
    (SELECT max(s.leased_until) FROM deliveries s WHERE s.webhook_id = :webhook_id AND s.leased_until <= :longest) AS leased_until;

-- name: retry_delivery(webhook_id, seq)^
-- From the beginning, at once. One that is being sent stays as it is.
UPDATE deliveries SET status = 'waiting', attempts = 0, next_attempt_at = 0, delivered_at = NULL
WHERE webhook_id = :webhook_id AND seq = :seq AND leased_until IS NULL
RETURNING seq;

-- name: drop_deliveries(webhook_id, now, batch_size)
-- Of what waits for a webhook that is disabled, so many; what is being sent ends by itself.
UPDATE deliveries SET status = 'dropped', next_attempt_at = NULL, leased_until = NULL
WHERE webhook_id = :webhook_id AND status = 'waiting' AND seq IN (
    SELECT d.seq FROM deliveries d
    WHERE d.webhook_id = :webhook_id AND d.status = 'waiting' AND (d.leased_until IS NULL OR d.leased_until <= :now)
    ORDER BY d.next_attempt_at, d.seq LIMIT :batch_size
)
RETURNING seq;

-- name: delete_deliveries_to(seq)!
-- With changes that are no longer kept.
DELETE FROM deliveries WHERE seq <= :seq;

-- name: delete_failures_to(seq)!
DELETE FROM delivery_failures WHERE seq <= :seq;

-- name: list_deliveries_to_delete(webhook_id, batch_size)
-- Of a webhook that is deleted.
SELECT seq FROM deliveries WHERE webhook_id = :webhook_id LIMIT :batch_size;

-- name: forget_answers_about_user(user_id)!
-- What receivers answered may quote what they were sent.
UPDATE deliveries SET last_error = NULL
WHERE last_error IS NOT NULL AND seq IN (SELECT c.seq FROM changes c WHERE c.user_id = :user_id);

-- name: forget_failures_about_user(user_id)!
UPDATE delivery_failures SET error = '' WHERE seq IN (SELECT c.seq FROM changes c WHERE c.user_id = :user_id);

-- name: count_waiting_deliveries(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM webhooks w JOIN deliveries d ON d.webhook_id = w.id AND d.status = 'waiting' LIMIT :sample_size
) AS found;

-- name: find_oldest_waiting_delivery()^
-- When the change happened that has waited longest.
SELECT c.at FROM changes c WHERE c.seq = (
    SELECT min((SELECT min(d.seq) FROM deliveries d WHERE d.webhook_id = w.id AND d.status = 'waiting')) FROM webhooks w
);
