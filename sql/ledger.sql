-- The ledger: accounts, transfers between them, and redemptions.

-- name: spend_on_account(user_id, unit, amount, reserved, spent)^
-- Conditional on what is available.
UPDATE accounts SET available = available - :amount, reserved = reserved + :reserved, spent = spent + :spent, lines = lines + 1
WHERE user_id = :user_id AND unit = :unit AND available >= :amount
RETURNING user_id, unit, pending, available, reserved, earned, spent, reversed, lines;

-- name: find_balance(user_id, unit)^
SELECT unit, pending, available, reserved, earned, spent, reversed FROM accounts WHERE user_id = :user_id AND unit = :unit;

-- name: list_balances(user_id)
SELECT unit, pending, available, reserved, earned, spent, reversed FROM accounts WHERE user_id = :user_id ORDER BY unit;

-- name: list_statement(user_id, unit, before_line, page_size)
-- Newest first.
SELECT t.kind, t.reference AS caused_by, t.at, t.unit, t.debit, t.amount, t.line, t.available_after, t.reward_id, t.redemption_id,
       d.reference, coalesce(d.note, v.reason) AS note
FROM transfers t
LEFT JOIN redemptions d ON d.id = t.redemption_id
LEFT JOIN reversals v ON t.kind = 'reversal' AND v.id = t.reference
WHERE t.user_id = :user_id AND t.unit = :unit AND t.line < :before_line
ORDER BY t.line DESC
LIMIT :page_size;

-- name: find_line_count(user_id, unit)^
SELECT lines FROM accounts WHERE user_id = :user_id AND unit = :unit;

-- name: insert_redemption(id, user_id, unit, amount, status, reference, note, now, due_at, by_user, outcome, body_hash)^
-- No row when the id is taken.
INSERT INTO redemptions (id, user_id, unit, amount, status, reference, note, created_at, due_at, by_user, outcome, body_hash)
VALUES (:id, :user_id, :unit, :amount, :status, :reference, :note, :now, :due_at, :by_user, :outcome, :body_hash)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: find_redemption(redemption_id)^
SELECT id, user_id, unit, amount, status, reference, note, created_at, due_at, by_user, outcome, body_hash
FROM redemptions WHERE id = :redemption_id;

-- name: end_redemption(redemption_id, former, status)^
-- From one state to another, once: of two that end it, one finds no row.
UPDATE redemptions SET status = :status, due_at = NULL WHERE id = :redemption_id AND status = :former
RETURNING id;

-- name: find_next_due_redemption()^
SELECT min(due_at) AS due_at FROM redemptions WHERE due_at IS NOT NULL;

-- name: list_redemptions_of_user(user_id, before_time, before_id, page_size)
SELECT id, user_id, unit, amount, status, reference, note, created_at, due_at, by_user, outcome, body_hash
FROM redemptions
WHERE user_id = :user_id AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: forget_redemptions_of_user(user_id)!
-- With the user, what may be personal.
UPDATE redemptions SET reference = NULL, note = NULL, body_hash = NULL
WHERE user_id = :user_id AND (reference IS NOT NULL OR note IS NOT NULL OR body_hash IS NOT NULL);

-- name: list_transfers_of_reward(reward_id)
-- A reward has as many as its event has refunds, and some more.
SELECT kind, reference, user_id, unit, debit, credit, amount, at, line, available_after, reward_id, redemption_id
FROM transfers WHERE reward_id = :reward_id
ORDER BY at, line, kind, reference;
