-- The claim of rewards that are due: their rows are locked, and those that another worker has are passed over.

-- name: claim_due_rewards(now, batch_size)
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.due_at <= :now
ORDER BY w.due_at, w.id
LIMIT :batch_size
FOR NO KEY UPDATE OF w SKIP LOCKED;

-- name: claim_due_redemptions(now, batch_size)
SELECT id, user_id, unit, amount, status, reference, note, created_at, due_at, by_user, outcome, body_hash FROM redemptions
WHERE due_at <= :now
ORDER BY due_at, id
LIMIT :batch_size
FOR NO KEY UPDATE SKIP LOCKED;
