-- Clicks, and their sums by code and day.

-- name: find_click(click_id)^
SELECT code, clicked_at, robot, network, network_key FROM clicks WHERE id = :click_id;

-- name: insert_click_key(day, secret)!
-- Of many processes at the beginning of a day one makes its key.
INSERT INTO click_keys (day, secret) VALUES (:day, :secret) ON CONFLICT (day) DO NOTHING;

-- name: find_click_key(day)^
SELECT secret FROM click_keys WHERE day = :day;

-- name: delete_click_keys(before)!
DELETE FROM click_keys WHERE day < :before;

-- name: delete_old_visitors(before, batch_size)
-- So many at a time.
DELETE FROM click_visitors WHERE (day, code, hash) IN (
    SELECT v.day, v.code, v.hash FROM click_visitors v WHERE v.day < :before LIMIT :batch_size
)
RETURNING code;

-- name: delete_old_clicks(before, batch_size)
-- So many at a time.
DELETE FROM clicks WHERE id IN (
    SELECT c.id FROM clicks c WHERE c.clicked_at < :before ORDER BY c.clicked_at LIMIT :batch_size
)
RETURNING id;
