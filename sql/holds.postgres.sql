-- The claim of rewards that are due: their rows are locked, and those that another worker has are passed over.

-- name: claim_due_rewards(now, batch_size)
SELECT w.id, w.user_id, w.kind, w.unit, w.value, w.reversed, u.suspended_at, f.review
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.due_at <= :now
ORDER BY w.due_at, w.id
LIMIT :batch_size
FOR NO KEY UPDATE OF w SKIP LOCKED;

-- name: claim_due_redemptions(now, batch_size)
SELECT id, user_id, unit, amount FROM redemptions
WHERE due_at <= :now
ORDER BY due_at, id
LIMIT :batch_size
FOR NO KEY UPDATE SKIP LOCKED;
