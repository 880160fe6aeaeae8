-- What is known of a referral, and what others have the same, as PostgreSQL finds it.

-- name: list_facts(user_id, referrer_id, given, with_stored, with_address, blocks, joined_since, joined_size, seen_since)
-- Of a user who came by the referrer (null: by nobody), the facts that are asked for. given are the HMACs of what they have by the
-- kind of signal that it is to have the same, each with the times between which the others had it; with_stored adds those that are
-- kept of the user. Of each HMAC the latest owners are looked at: where many have the same, it says little.
WITH given (kind, hash, since, until) AS MATERIALIZED (
    SELECT g.kind, g.hash, g.since, g.until
    FROM jsonb_to_recordset(cast(:given as jsonb)) AS g (kind text, hash text, since bigint, until bigint)
    UNION ALL
    SELECT t.kind, t.hash, t.since, t.until FROM (
        SELECT CASE o.kind WHEN 'device' THEN 'same-device' WHEN 'payment' THEN 'same-payment' ELSE 'same-network' END AS kind, o.hash,
               CASE WHEN o.kind IN ('ip', 'click') THEN o.at - 86400000 ELSE 0 END AS since,
               CASE WHEN o.kind IN ('ip', 'click') THEN o.at + 86400000 ELSE 9223372036854775807 END AS until
        FROM event_contexts o
        WHERE o.user_id = cast(:user_id as text) AND cast(:with_stored as bigint) = 1 AND o.at IS NOT NULL
          AND o.kind IN ('ip', 'click', 'device', 'payment')
        LIMIT 100
    ) AS t
)
SELECT 'review' AS fact, r.review AS kind, cast(NULL as text) AS subject, cast(NULL as bigint) AS number
FROM referrals r WHERE r.user_id = cast(:user_id as text)
UNION ALL
SELECT 'noted', s.kind, NULL, NULL FROM signals s WHERE s.user_id = cast(:user_id as text) AND s.reference = ''
UNION ALL
SELECT 'email', NULL, w.email, NULL FROM users w WHERE w.id = cast(:referrer_id as text) AND cast(:with_address as bigint) = 1
UNION ALL
SELECT 'block', b.kind, NULL, NULL
FROM jsonb_to_recordset(cast(:blocks as jsonb)) AS m (kind text, value text) JOIN blocks b ON b.kind = m.kind AND b.value = m.value
UNION ALL
SELECT 'joined', NULL, NULL, count(*) FROM (
    SELECT 1 FROM referrals n
    WHERE n.referrer_id = cast(:referrer_id as text) AND n.joined_at > cast(:joined_since as bigint)
    LIMIT :joined_size
) AS joined
UNION ALL
SELECT 'address', NULL, a.address, NULL FROM (
    SELECT v.address FROM sessions v
    WHERE v.user_id = cast(:referrer_id as text) AND v.last_used_at > cast(:seen_since as bigint) AND v.address IS NOT NULL
    LIMIT 100
) AS a
UNION ALL
SELECT DISTINCT 'referrer', g.kind, cast(:referrer_id as text), cast(NULL as bigint) FROM given g
WHERE EXISTS (
    SELECT 1 FROM event_contexts c
    WHERE c.hash = g.hash AND c.user_id = cast(:referrer_id as text)
      AND (g.kind <> 'same-network' OR c.at BETWEEN g.since AND g.until)
)
UNION ALL
SELECT DISTINCT 'sibling', g.kind, c.user_id,
    (SELECT count(*) FROM signals k WHERE k.user_id = c.user_id AND k.kind = g.kind AND k.reference = '')
FROM given g CROSS JOIN LATERAL (
    SELECT i.user_id FROM event_contexts i
    WHERE i.hash = g.hash AND i.referrer_id = cast(:referrer_id as text) AND i.at BETWEEN g.since AND g.until
    ORDER BY i.at DESC LIMIT 200
) AS c
WHERE c.user_id <> cast(:user_id as text)
  AND (SELECT y.referrer_id FROM referrals y WHERE y.user_id = c.user_id) = cast(:referrer_id as text)
UNION ALL
SELECT DISTINCT 'referee', g.kind, c.user_id,
    (SELECT count(*) FROM signals k WHERE k.user_id = c.user_id AND k.kind = g.kind AND k.reference = '')
FROM given g CROSS JOIN LATERAL (
    SELECT i.user_id FROM event_contexts i
    WHERE i.hash = g.hash AND i.referrer_id = cast(:user_id as text) AND i.at BETWEEN g.since AND g.until
    ORDER BY i.at DESC LIMIT 200
) AS c
WHERE (SELECT y.referrer_id FROM referrals y WHERE y.user_id = c.user_id) = cast(:user_id as text);

-- name: list_reviews_of(user_ids)
-- What reviews say of the referrals of users who are locked.
SELECT r.user_id, r.review FROM referrals r JOIN users u ON u.id = r.user_id
WHERE r.user_id IN (SELECT m.id FROM jsonb_array_elements_text(cast(:user_ids as jsonb)) AS m (id)) AND u.erased_at IS NULL
ORDER BY r.user_id;
