-- Movements of several accounts at once, which SQLite reads from a JSON array.

-- name: earn_on_accounts(moves)
-- Accounts that are not there yet are opened. In one order, so that two transactions never wait for each other.
INSERT INTO accounts (user_id, unit, programme, pending, available, reserved, spent, earned, reversed, lines)
SELECT m.value ->> '$.user_id', m.value ->> '$.unit', m.value ->> '$.programme', m.value ->> '$.pending',
       m.value ->> '$.available', m.value ->> '$.reserved', m.value ->> '$.spent', m.value ->> '$.earned',
       m.value ->> '$.reversed', m.value ->> '$.lines'
FROM json_each(:moves) AS m
WHERE true
ORDER BY 1, 2
ON CONFLICT (user_id, unit) DO UPDATE SET programme = programme + excluded.programme, pending = pending + excluded.pending,
    available = available + excluded.available, reserved = reserved + excluded.reserved, spent = spent + excluded.spent,
    earned = earned + excluded.earned, reversed = reversed + excluded.reversed, lines = lines + excluded.lines
RETURNING user_id, unit, pending, available, reserved, earned, spent, reversed, lines;

-- name: move_accounts(moves)
UPDATE accounts SET programme = programme + (m.value ->> '$.programme'), pending = pending + (m.value ->> '$.pending'),
    available = available + (m.value ->> '$.available'), reserved = reserved + (m.value ->> '$.reserved'),
    spent = spent + (m.value ->> '$.spent'), earned = earned + (m.value ->> '$.earned'),
    reversed = reversed + (m.value ->> '$.reversed'), lines = lines + (m.value ->> '$.lines')
FROM json_each(:moves) AS m
WHERE user_id = m.value ->> '$.user_id' AND unit = m.value ->> '$.unit'
RETURNING user_id, unit, pending, available, reserved, earned, spent, reversed, lines;

-- name: insert_transfers(transfers)!
INSERT INTO transfers (kind, reference, user_id, unit, debit, credit, amount, at, line, available_after, reward_id, redemption_id)
SELECT t.value ->> '$.kind', t.value ->> '$.reference', t.value ->> '$.user_id', t.value ->> '$.unit', t.value ->> '$.debit',
       t.value ->> '$.credit', t.value ->> '$.amount', t.value ->> '$.at', t.value ->> '$.line',
       t.value ->> '$.available_after', t.value ->> '$.reward_id', t.value ->> '$.redemption_id'
FROM json_each(:transfers) AS t;
