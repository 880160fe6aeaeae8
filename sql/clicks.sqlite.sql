-- Clicks, several at once, which SQLite reads from a JSON array.

-- name: insert_clicks(clicks)
-- Those that were not there: a batch is written again when nobody knows whether it was. A code that is gone, as from a database
-- that was restored, has no clicks.
INSERT INTO clicks (id, code, clicked_at, robot, network, network_key)
SELECT m.value ->> '$.id', c.code, m.value ->> '$.at', m.value ->> '$.robot', m.value ->> '$.network',
       m.value ->> '$.network_key'
FROM json_each(:clicks) AS m JOIN codes c ON c.code = m.value ->> '$.code' WHERE true
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: insert_visitors(visitors)
-- Those who come for the first time that day.
INSERT INTO click_visitors (day, code, hash)
SELECT m.value ->> '$.day', m.value ->> '$.code', m.value ->> '$.hash' FROM json_each(:visitors) AS m WHERE true
ON CONFLICT (day, code, hash) DO NOTHING
RETURNING code, day;

-- name: add_click_sums(sums)!
INSERT INTO click_days (code, day, referrer_id, clicks, visitors, qr, robots)
SELECT c.code, m.value ->> '$.day', c.referrer_id, m.value ->> '$.clicks', m.value ->> '$.visitors', m.value ->> '$.qr',
       m.value ->> '$.robots'
FROM json_each(:sums) AS m JOIN codes c ON c.code = m.value ->> '$.code' WHERE true
ON CONFLICT (code, day) DO UPDATE SET clicks = clicks + excluded.clicks, visitors = visitors + excluded.visitors,
    qr = qr + excluded.qr, robots = robots + excluded.robots;
