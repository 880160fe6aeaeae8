-- name: insert_referral(user_id, referrer_id, code, joined_at)^
-- No row when the user can come by nobody, or the referrer came by the user, directly or through others: both rules are part
-- of the insert. The
-- walk goes up from the referrer by primary key. A violation of referrals_pkey when the user has a referrer already, of
-- referrals_not_self when the code is the user's own.
INSERT INTO referrals (user_id, referrer_id, code, joined_at)
SELECT u.id, cast(:referrer_id as text), cast(:code as text), cast(:joined_at as bigint)
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

-- name: delete_referral(user_id)!
DELETE FROM referrals WHERE user_id = :user_id;

-- name: list_referrals(referrer_id, before_time, before_id, page_size, with_email)
-- Newest first, from the cursor on. Each row says the total, too, which saves a page a second round trip; null when the
-- referrer's account is gone. An address that is not to be shown is not read.
SELECT (SELECT w.referral_count FROM users w WHERE w.id = :referrer_id AND w.erased_at IS NULL) AS total,
       r.user_id, u.external_id, u.username, u.name, CASE WHEN cast(:with_email as bigint) = 1 THEN u.email END AS email, r.joined_at, r.code
FROM referrals r JOIN users u ON u.id = r.user_id
WHERE r.referrer_id = :referrer_id AND (r.joined_at, r.user_id) < (:before_time, :before_id)
ORDER BY r.joined_at DESC, r.user_id DESC
LIMIT :page_size;

-- name: find_referrer(user_id)^
SELECT id, username, name FROM users WHERE id = :user_id;
