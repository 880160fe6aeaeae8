-- What refunds say of a referrer.

-- name: find_refunds(referrer_id, refunds_size, purchases_size)^
-- How many purchases of a referrer's referrals were refunded wholly, how many there are in all, each counted so far, and whether one
-- of those who refunded has the signal already.
SELECT
    (SELECT count(*) FROM (
        SELECT 1 FROM events e
        WHERE e.type = 'purchase' AND e.referrer_id = :referrer_id AND e.amount - e.refunded = 0 AND e.refunded > 0
        LIMIT :refunds_size
    ) AS whole) AS refunded,
    (SELECT count(*) FROM (
        SELECT 1 FROM events p WHERE p.type = 'purchase' AND p.referrer_id = :referrer_id LIMIT :purchases_size
    ) AS bought) AS purchases,
    (SELECT count(*) FROM (
        SELECT 1 FROM events t JOIN signals s ON s.user_id = t.user_id AND s.kind = 'refunds'
        WHERE t.type = 'purchase' AND t.referrer_id = :referrer_id AND t.amount - t.refunded = 0 AND t.refunded > 0
        LIMIT 1
    ) AS tipped) AS tipped;
