-- name: insert_referral(user_id, referrer_id, code, joined_at, source)^
-- No row when the user can come by nobody, or the referrer came by the user, directly or through others: both rules are part
-- of the insert. The
-- walk goes up from the referrer by primary key. A violation of referrals_pkey when the user has a referrer already, of
-- referrals_not_self when the code is the user's own.
INSERT INTO referrals (user_id, referrer_id, code, joined_at, source)
SELECT u.id, cast(:referrer_id as text), cast(:code as text), cast(:joined_at as bigint), cast(:source as text)
FROM users u
WHERE u.id = :user_id AND u.erased_at IS NULL AND u.unattributable_at IS NULL
  AND (u.referral_count = 0 OR NOT EXISTS (
    WITH RECURSIVE above (id) AS (
        SELECT cast(:referrer_id as text)
        UNION
        SELECT r.referrer_id FROM above JOIN referrals r ON r.user_id = above.id
    )
    SELECT 1 FROM above WHERE above.id = u.id AND above.id <> cast(:referrer_id as text)
  ))
RETURNING user_id;

-- name: delete_referral(user_id)^
DELETE FROM referrals WHERE user_id = :user_id
RETURNING referrer_id, conversions;

-- name: list_referrals(referrer_id, before_time, before_id, page_size, with_email)
-- Newest first, from the cursor on. Each row says the total, too, which saves a page a second round trip; null when the
-- referrer's account is gone. An address that is not to be shown is not read.
SELECT (SELECT w.referral_count FROM users w WHERE w.id = :referrer_id AND w.erased_at IS NULL) AS total,
       r.user_id, u.external_id, u.username, u.name, CASE WHEN cast(:with_email as bigint) = 1 THEN u.email END AS email, r.joined_at, r.code,
       r.source, r.review, r.converted_at, u.erased_at
FROM referrals r JOIN users u ON u.id = r.user_id
WHERE r.referrer_id = :referrer_id AND (r.joined_at, r.user_id) < (:before_time, :before_id)
ORDER BY r.joined_at DESC, r.user_id DESC
LIMIT :page_size;

-- name: find_referrer(user_id)^
SELECT id, username, name FROM users WHERE id = :user_id;

-- name: find_referral(user_id)^
-- By whom a user came, as a list has it.
SELECT cast(NULL as bigint) AS total, r.user_id, u.external_id, u.username, u.name, u.email, r.joined_at, r.code,
       r.source, r.review, r.converted_at, u.erased_at
FROM referrals r JOIN users u ON u.id = r.user_id
WHERE r.user_id = :user_id;

-- name: find_standing(user_id)^
-- What decides of rewards for what a user does: the referral, and whether either side is suspended or gone.
SELECT r.referrer_id, r.joined_at, r.source, r.review, r.conversions, r.converted_at, w.converted_count, w.suspended_at AS referrer_suspended_at,
       w.erased_at, u.suspended_at
FROM referrals r JOIN users w ON w.id = r.referrer_id JOIN users u ON u.id = r.user_id
WHERE r.user_id = :user_id;

-- name: convert_referral(user_id, occurred_at)!
-- The user is locked. Deferred.
UPDATE referrals SET conversions = conversions + 1, converted_at = coalesce(converted_at, :occurred_at)
WHERE user_id = :user_id;

-- name: retract_conversion(user_id)^
-- An event that converted is wholly refunded.
UPDATE referrals SET conversions = conversions - 1, converted_at = CASE WHEN conversions = 1 THEN NULL ELSE converted_at END
WHERE user_id = :user_id AND conversions > 0
RETURNING conversions, referrer_id;

-- name: increment_converted_count(user_id)^
-- In the transaction that converts the referral, so that the count always equals the rows.
UPDATE users SET converted_count = converted_count + 1 WHERE id = :user_id
RETURNING converted_count;

-- name: decrement_converted_count(user_id)!
UPDATE users SET converted_count = converted_count - 1 WHERE id = :user_id;

-- name: count_all_referrals(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM referrals WHERE user_id >= '' LIMIT :sample_size
) AS found;
