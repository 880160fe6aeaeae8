-- name: take_deltas(batch_size)
-- The oldest. Those that another worker takes are left to it, so that nobody waits.
DELETE FROM stat_deltas WHERE number IN (
    SELECT w.number FROM stat_deltas w ORDER BY w.number LIMIT :batch_size FOR UPDATE SKIP LOCKED
)
RETURNING day, what, unit, count, amount / 1000000000 AS billions, amount % 1000000000 AS amount;

-- name: add_to_stat_days(sums)!
-- In one order, so that two workers never wait for each other.
INSERT INTO stat_days (day, what, unit, count, billions, amount)
SELECT m.day, m.what, m.unit, m.count, m.billions, m.amount
FROM jsonb_to_recordset(cast(:sums as jsonb)) AS m (day bigint, what text, unit text, count bigint, billions bigint, amount bigint)
ORDER BY m.day, m.what, m.unit
ON CONFLICT (day, what, unit) DO UPDATE SET count = stat_days.count + excluded.count,
    billions = stat_days.billions + excluded.billions, amount = stat_days.amount + excluded.amount;
