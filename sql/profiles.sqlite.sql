-- Claiming from the queue, as SQLite does it: a write transaction excludes every other one.

-- name: claim_lookups(now, lease_until, batch_size)
-- Takes what is due by moving it to the end of a lease: another worker finds it due again only when this one died.
UPDATE profile_lookups SET next_attempt_at = :lease_until, attempts = attempts + 1
WHERE next_attempt_at <= :now AND user_id IN (
    SELECT user_id FROM profile_lookups WHERE next_attempt_at <= :now ORDER BY next_attempt_at LIMIT :batch_size
)
RETURNING user_id, created_at, attempts;
