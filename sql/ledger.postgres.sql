-- Movements of several accounts at once, which PostgreSQL reads from a JSON array.

-- name: earn_on_accounts(moves)
-- Accounts that are not there yet are opened. In one order, so that two transactions never wait for each other.
INSERT INTO accounts (user_id, unit, programme, pending, available, reserved, spent, earned, reversed, lines)
SELECT m.user_id, m.unit, m.programme, m.pending, m.available, m.reserved, m.spent, m.earned, m.reversed, m.lines
FROM jsonb_to_recordset(cast(:moves as jsonb)) AS m (
    user_id text, unit text, programme bigint, pending bigint, available bigint, reserved bigint, spent bigint, earned bigint,
    reversed bigint, lines bigint
)
ORDER BY m.user_id, m.unit
ON CONFLICT (user_id, unit) DO UPDATE SET programme = accounts.programme + excluded.programme,
    pending = accounts.pending + excluded.pending, available = accounts.available + excluded.available,
    reserved = accounts.reserved + excluded.reserved, spent = accounts.spent + excluded.spent,
    earned = accounts.earned + excluded.earned, reversed = accounts.reversed + excluded.reversed,
    lines = accounts.lines + excluded.lines
RETURNING user_id, unit, pending, available, reserved, earned, spent, reversed, lines;

-- name: move_accounts(moves)
UPDATE accounts AS a SET programme = a.programme + m.programme, pending = a.pending + m.pending,
    available = a.available + m.available, reserved = a.reserved + m.reserved, spent = a.spent + m.spent,
    earned = a.earned + m.earned, reversed = a.reversed + m.reversed, lines = a.lines + m.lines
FROM jsonb_to_recordset(cast(:moves as jsonb)) AS m (
    user_id text, unit text, programme bigint, pending bigint, available bigint, reserved bigint, spent bigint, earned bigint,
    reversed bigint, lines bigint
)
WHERE a.user_id = m.user_id AND a.unit = m.unit
RETURNING a.user_id, a.unit, a.pending, a.available, a.reserved, a.earned, a.spent, a.reversed, a.lines;

-- name: insert_transfers(transfers)!
INSERT INTO transfers (kind, reference, user_id, unit, debit, credit, amount, at, line, available_after, reward_id, redemption_id)
SELECT t.kind, t.reference, t.user_id, t.unit, t.debit, t.credit, t.amount, t.at, t.line, t.available_after, t.reward_id,
       t.redemption_id
FROM jsonb_to_recordset(cast(:transfers as jsonb)) AS t (
    kind text, reference text, user_id text, unit text, debit text, credit text, amount bigint, at bigint, line bigint,
    available_after bigint, reward_id text, redemption_id text
);
