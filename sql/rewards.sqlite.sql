-- Steps of several rewards at once, which SQLite reads from a JSON array.

-- name: approve_rewards(reward_ids, now)
-- Each once: of two that release one, one finds no row.
UPDATE rewards SET status = 'approved', approved_at = :now, due_at = NULL, needs_approval = 0
WHERE id IN (SELECT value FROM json_each(:reward_ids)) AND status = 'pending'
RETURNING id;

-- name: update_rewards(changes)!
-- What was taken of rewards, and what became of them. What is void, or was retracted, gives its ordinal back.
UPDATE rewards SET status = c.value ->> '$.status', reversed = c.value ->> '$.reversed', reversed_by_hand = c.value ->> '$.reversed_by_hand',
    retracted = c.value ->> '$.retracted', reason = coalesce(c.value ->> '$.reason', reason),
    ordinal = CASE WHEN c.value ->> '$.keeps_ordinal' = 1 THEN ordinal END,
    due_at = CASE WHEN c.value ->> '$.status' = 'pending' THEN due_at END
FROM json_each(:changes) AS c
WHERE rewards.id = c.value ->> '$.id';
