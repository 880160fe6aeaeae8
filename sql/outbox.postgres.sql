-- Claiming from the queue, as PostgreSQL does it: what another worker is about to claim is skipped. Workers that waited for each
-- other's rows, which each locks in an order of its own, would deadlock.

-- name: claim_mail(now, lease_until, batch_size)
-- Takes what is due by moving it to the end of a lease: another worker finds it due again only when this one died. The rows are
-- chosen once: a plan that chose them anew for each row would claim more than a batch.
WITH due AS MATERIALIZED (
    SELECT id FROM outbox WHERE failed_at IS NULL AND next_attempt_at <= :now
    ORDER BY next_attempt_at LIMIT :batch_size
    FOR UPDATE SKIP LOCKED
)
UPDATE outbox SET next_attempt_at = :lease_until, attempts = attempts + 1
WHERE id IN (SELECT id FROM due)
RETURNING id, kind, user_id, recipient, language, params, created_at, attempts;
