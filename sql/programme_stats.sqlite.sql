-- name: take_deltas(batch_size)
-- The oldest.
DELETE FROM stat_deltas WHERE number IN (
    SELECT w.number FROM stat_deltas w ORDER BY w.number LIMIT :batch_size
)
RETURNING day, what, unit, count, amount / 1000000000 AS billions, amount % 1000000000 AS amount;

-- name: add_to_stat_days(sums)!
INSERT INTO stat_days (day, what, unit, count, billions, amount)
SELECT m.value ->> '$.day', m.value ->> '$.what', m.value ->> '$.unit', m.value ->> '$.count', m.value ->> '$.billions',
       m.value ->> '$.amount'
FROM json_each(:sums) AS m WHERE true
ON CONFLICT (day, what, unit) DO UPDATE SET count = count + excluded.count,
    billions = billions + excluded.billions, amount = amount + excluded.amount;
