-- What is known of a referral, and what others have the same, as SQLite finds it.

-- name: list_facts(user_id, referrer_id, given, with_stored, with_address, blocks, joined_since, joined_size, seen_since)
-- Of a user who came by the referrer (null: by nobody), the facts that are asked for. given are the HMACs of what they have by the
-- kind of signal that it is to have the same, each with the times between which the others had it; with_stored adds those that are
-- kept of the user. CROSS JOIN has the index of HMACs asked for each.
WITH given (kind, hash, since, until) AS (
    SELECT g.value ->> '$.kind', g.value ->> '$.hash', g.value ->> '$.since', g.value ->> '$.until' FROM json_each(:given) AS g
    UNION ALL
    SELECT t.kind, t.hash, t.since, t.until FROM (
        SELECT CASE o.kind WHEN 'device' THEN 'same-device' WHEN 'payment' THEN 'same-payment' ELSE 'same-network' END AS kind, o.hash,
               CASE WHEN o.kind IN ('ip', 'click') THEN o.at - 86400000 ELSE 0 END AS since,
               CASE WHEN o.kind IN ('ip', 'click') THEN o.at + 86400000 ELSE 9223372036854775807 END AS until
        FROM event_contexts o
        WHERE o.user_id = :user_id AND :with_stored = 1 AND o.at IS NOT NULL
          AND o.kind IN ('ip', 'click', 'device', 'payment')
        LIMIT 100
    ) AS t
)
SELECT 'review' AS fact, r.review AS kind, NULL AS subject, NULL AS number FROM referrals r WHERE r.user_id = :user_id
UNION ALL
SELECT 'noted', s.kind, NULL, NULL FROM signals s WHERE s.user_id = :user_id AND s.reference = ''
UNION ALL
SELECT 'email', NULL, w.email, NULL FROM users w WHERE w.id = :referrer_id AND :with_address = 1
UNION ALL
SELECT 'block', b.kind, NULL, NULL
FROM json_each(:blocks) AS m CROSS JOIN blocks b ON b.kind = m.value ->> '$.kind' AND b.value = m.value ->> '$.value'
UNION ALL
SELECT 'joined', NULL, NULL, count(*) FROM (
    SELECT 1 FROM referrals n WHERE n.referrer_id = :referrer_id AND n.joined_at > :joined_since LIMIT :joined_size
) AS joined
UNION ALL
SELECT 'address', NULL, a.address, NULL FROM (
    SELECT v.address FROM sessions v
    WHERE v.user_id = :referrer_id AND v.last_used_at > :seen_since AND v.address IS NOT NULL
    LIMIT 100
) AS a
UNION ALL
SELECT DISTINCT 'referrer', given.kind, :referrer_id, NULL FROM given
WHERE EXISTS (
    SELECT 1 FROM event_contexts c
    WHERE c.hash = given.hash AND c.user_id = :referrer_id
      AND (given.kind <> 'same-network' OR c.at BETWEEN given.since AND given.until)
)
UNION ALL
SELECT 'sibling', b.kind, b.user_id, b.noted FROM (
    SELECT DISTINCT given.kind, i.user_id,
        (SELECT count(*) FROM signals k WHERE k.user_id = i.user_id AND k.kind = given.kind AND k.reference = '') AS noted
    FROM given CROSS JOIN event_contexts i
        ON i.hash = given.hash AND i.referrer_id = :referrer_id AND i.at BETWEEN given.since AND given.until
    WHERE i.user_id <> :user_id AND (SELECT y.referrer_id FROM referrals y WHERE y.user_id = i.user_id) = :referrer_id
    LIMIT 200
) AS b
UNION ALL
SELECT 'referee', e.kind, e.user_id, e.noted FROM (
    SELECT DISTINCT given.kind, i.user_id,
        (SELECT count(*) FROM signals k WHERE k.user_id = i.user_id AND k.kind = given.kind AND k.reference = '') AS noted
    FROM given CROSS JOIN event_contexts i
        ON i.hash = given.hash AND i.referrer_id = :user_id AND i.at BETWEEN given.since AND given.until
    WHERE (SELECT y.referrer_id FROM referrals y WHERE y.user_id = i.user_id) = :user_id
    LIMIT 200
) AS e;

-- name: list_reviews_of(user_ids)
-- What reviews say of the referrals of users who are locked.
SELECT r.user_id, r.review FROM referrals r JOIN users u ON u.id = r.user_id
WHERE r.user_id IN (SELECT m.value FROM json_each(:user_ids) AS m) AND u.erased_at IS NULL
ORDER BY r.user_id;
