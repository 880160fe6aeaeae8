-- Steps of several rewards at once, which PostgreSQL reads from a JSON array.

-- name: approve_rewards(reward_ids, now)
-- Each once: of two that release one, one finds no row.
UPDATE rewards SET status = 'approved', approved_at = :now, due_at = NULL, needs_approval = 0
WHERE id IN (SELECT jsonb_array_elements_text(cast(:reward_ids as jsonb))) AND status = 'pending'
RETURNING id;

-- name: update_rewards(changes)!
-- What was taken of rewards, and what became of them. What is void, or was retracted, gives its ordinal back.
UPDATE rewards AS w SET status = c.status, reversed = c.reversed, reversed_by_hand = c.reversed_by_hand,
    retracted = c.retracted, reason = coalesce(c.reason, w.reason),
    ordinal = CASE WHEN c.keeps_ordinal = 1 THEN w.ordinal END,
    due_at = CASE WHEN c.status = 'pending' THEN w.due_at END
FROM jsonb_to_recordset(cast(:changes as jsonb)) AS c (
    id text, status text, reversed bigint, reversed_by_hand bigint, retracted bigint, reason text, keeps_ordinal bigint
)
WHERE w.id = c.id;
