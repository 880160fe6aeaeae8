-- Clicks, several at once, which PostgreSQL reads from a JSON array. Rows that others may have, too, are taken in one order, so
-- that no two workers wait for each other.

-- name: insert_clicks(clicks)
-- Those that were not there: a batch is written again when nobody knows whether it was. A code that is gone, as from a database
-- that was restored, has no clicks.
INSERT INTO clicks (id, code, clicked_at, robot, network, network_key)
SELECT m.id, c.code, m.at, m.robot, m.network, m.network_key
FROM jsonb_to_recordset(cast(:clicks as jsonb)) AS m (
    id text, code text, at bigint, robot bigint, network text, network_key text
)
JOIN codes c ON c.code = m.code
ORDER BY c.code, m.id
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: insert_visitors(visitors)
-- Those who come for the first time that day.
INSERT INTO click_visitors (day, code, hash)
SELECT m.day, m.code, m.hash FROM jsonb_to_recordset(cast(:visitors as jsonb)) AS m (day bigint, code text, hash text)
ORDER BY m.day, m.code, m.hash
ON CONFLICT (day, code, hash) DO NOTHING
RETURNING code, day;

-- name: add_click_sums(sums)!
INSERT INTO click_days (code, day, referrer_id, clicks, visitors, qr, robots)
SELECT c.code, m.day, c.referrer_id, m.clicks, m.visitors, m.qr, m.robots
FROM jsonb_to_recordset(cast(:sums as jsonb)) AS m (
    code text, day bigint, clicks bigint, visitors bigint, qr bigint, robots bigint
)
JOIN codes c ON c.code = m.code
ORDER BY c.code, m.day
ON CONFLICT (code, day) DO UPDATE SET clicks = click_days.clicks + excluded.clicks,
    visitors = click_days.visitors + excluded.visitors, qr = click_days.qr + excluded.qr,
    robots = click_days.robots + excluded.robots;
