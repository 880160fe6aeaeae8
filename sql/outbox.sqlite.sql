-- Claiming from the queue, as SQLite does it: a write transaction excludes every other one.

-- name: claim_mail(now, lease_until, batch_size)
-- Takes what is due by moving it to the end of a lease: another worker finds it due again only when this one died.
UPDATE outbox SET next_attempt_at = :lease_until, attempts = attempts + 1
WHERE failed_at IS NULL AND next_attempt_at <= :now AND id IN (
    SELECT id FROM outbox WHERE failed_at IS NULL AND next_attempt_at <= :now
    ORDER BY next_attempt_at LIMIT :batch_size
)
RETURNING id, kind, user_id, recipient, language, params, created_at, attempts;
