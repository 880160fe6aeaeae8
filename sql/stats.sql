-- What became of a referrer's links, by day in UTC: of all codes, or of one.

-- name: sum_clicks(referrer_id, code, first, last)
SELECT d.day, cast(sum(d.clicks) as bigint) AS clicks, cast(sum(d.visitors) as bigint) AS visitors,
       cast(sum(d.qr) as bigint) AS qr, cast(sum(d.robots) as bigint) AS robots
FROM click_days d
WHERE d.referrer_id = :referrer_id AND d.day BETWEEN :first AND :last
  AND (cast(:code as text) IS NULL OR d.code = cast(:code as text))
GROUP BY d.day
ORDER BY d.day;

-- name: count_signups(referrer_id, code, first, last)
SELECT e.occurred_at - e.occurred_at % 86400000 AS day, count(*) AS count
FROM events e
WHERE e.referrer_id = :referrer_id AND e.type = 'signup' AND e.occurred_at >= :first AND e.occurred_at < cast(:last as bigint) + 86400000
  AND (cast(:code as text) IS NULL OR EXISTS (
    SELECT 1 FROM referrals r WHERE r.user_id = e.user_id AND r.code = cast(:code as text)
  ))
GROUP BY 1
ORDER BY 1;

-- name: count_referrals(referrer_id, code, first, last)
SELECT r.joined_at - r.joined_at % 86400000 AS day, count(*) AS count
FROM referrals r
WHERE r.referrer_id = :referrer_id AND r.joined_at >= :first AND r.joined_at < cast(:last as bigint) + 86400000
  AND (cast(:code as text) IS NULL OR r.code = cast(:code as text))
GROUP BY 1
ORDER BY 1;

-- name: count_converted(referrer_id, code, first, last)
-- Those that are converted now, by when they converted.
SELECT r.converted_at - r.converted_at % 86400000 AS day, count(*) AS count
FROM referrals r
WHERE r.referrer_id = :referrer_id AND r.converted_at >= :first AND r.converted_at < cast(:last as bigint) + 86400000
  AND (cast(:code as text) IS NULL OR r.code = cast(:code as text))
GROUP BY 1
ORDER BY 1;
