-- A text stands for the code that has exactly this text or, if none has, for the one that folds alike: O is 0, and I and L are
-- 1 (codes.code_key).

-- name: insert_code(code, referrer_id, created_at, expires_at, max_uses)^
-- No row when the text, or one that folds alike, is taken, when the user has an unrevoked code, and when the account has just been
-- erased: most codes have nothing in their way, and nobody looks before.
INSERT INTO codes (code, code_key, referrer_id, created_at, expires_at, max_uses)
SELECT :code, replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'), u.id, cast(:created_at as bigint),
       cast(:expires_at as bigint), cast(:max_uses as bigint)
FROM users u WHERE u.id = :referrer_id AND u.erased_at IS NULL
ON CONFLICT DO NOTHING
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses;

-- name: revoke_codes_in_the_way(referrer_id, now, replace)
-- What a new code puts aside in passing: an expired or used-up one, and the current one when it is to be replaced.
UPDATE codes SET revoked_at = :now
WHERE referrer_id = :referrer_id AND revoked_at IS NULL
  AND (cast(:replace as bigint) = 1 OR expires_at <= :now OR uses >= max_uses)
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses;

-- name: find_active_code(code, now, limited)^
-- Everybody's view of a code, with what the cache must know of it: by which address it may be found, if by any. The code of a
-- suspended account is not active.
SELECT c.code, c.expires_at, c.referrer_id, u.username AS referrer_username, u.name AS referrer_name,
       CASE WHEN cast(:limited as bigint) = 0 OR u.email_verified_at IS NOT NULL THEN u.email_key END AS email_key
FROM codes c JOIN users u ON u.id = c.referrer_id
WHERE c.code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  )
  AND c.revoked_at IS NULL AND c.expires_at > :now AND (c.max_uses IS NULL OR c.uses < c.max_uses)
  AND u.suspended_at IS NULL;

-- name: find_active_code_by_email(email_key, now, limited)^
-- Whoever registers with an address does not speak for it before it is verified, where that is limited.
SELECT c.code, c.expires_at, c.referrer_id, u.username AS referrer_username, u.name AS referrer_name, u.email_key
FROM users u JOIN codes c ON c.referrer_id = u.id
WHERE u.email_key = :email_key AND (cast(:limited as bigint) = 0 OR u.email_verified_at IS NOT NULL)
  AND u.suspended_at IS NULL
  AND c.revoked_at IS NULL AND c.expires_at > :now AND (c.max_uses IS NULL OR c.uses < c.max_uses);

-- name: find_code(code)^
-- Any code, whatever became of it: to say why one is refused and whose it is.
SELECT code, created_at, expires_at, revoked_at, max_uses, uses, referrer_id FROM codes
WHERE code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  );

-- name: find_told_code(code)^
-- As it is announced: with its owner, and whether that is suspended.
SELECT c.code, c.created_at, c.expires_at, c.revoked_at, c.max_uses, c.uses, c.referrer_id, u.suspended_at
FROM codes c JOIN users u ON u.id = c.referrer_id
WHERE c.code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  );

-- name: find_current_code(referrer_id, now)^
SELECT code, created_at, expires_at, revoked_at, max_uses, uses FROM codes
WHERE referrer_id = :referrer_id AND revoked_at IS NULL AND expires_at > :now;

-- name: list_codes(referrer_id, before_time, before_code, page_size)
-- Newest first, from the cursor on.
SELECT code, created_at, expires_at, revoked_at, max_uses, uses FROM codes
WHERE referrer_id = :referrer_id AND (created_at, code) < (:before_time, :before_code)
ORDER BY created_at DESC, code DESC
LIMIT :page_size;

-- name: find_code_count(referrer_id)^
-- The total of the list, without counting.
SELECT code_count FROM users WHERE id = :referrer_id;

-- name: update_code(code, owner_id, set_expiry, expires_at, set_max_uses, max_uses)^
-- owner_id is null for an admin, who may edit anybody's. A violation of codes_uses when fewer uses are allowed than were made.
UPDATE codes SET
    expires_at = CASE WHEN cast(:set_expiry as bigint) = 1 THEN cast(:expires_at as bigint) ELSE expires_at END,
    max_uses = CASE WHEN cast(:set_max_uses as bigint) = 1 THEN cast(:max_uses as bigint) ELSE max_uses END
WHERE code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  )
  AND revoked_at IS NULL
  AND (cast(:owner_id as text) IS NULL OR referrer_id = cast(:owner_id as text))
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses, referrer_id;

-- name: update_current_code(referrer_id, now, set_expiry, expires_at, set_max_uses, max_uses)^
UPDATE codes SET
    expires_at = CASE WHEN cast(:set_expiry as bigint) = 1 THEN cast(:expires_at as bigint) ELSE expires_at END,
    max_uses = CASE WHEN cast(:set_max_uses as bigint) = 1 THEN cast(:max_uses as bigint) ELSE max_uses END
WHERE referrer_id = :referrer_id AND revoked_at IS NULL AND expires_at > :now
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses;

-- name: revoke_code(code, owner_id, now)^
-- owner_id is null for an admin. Ending a code twice keeps the first time.
UPDATE codes SET revoked_at = coalesce(revoked_at, :now)
WHERE code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  )
  AND (cast(:owner_id as text) IS NULL OR referrer_id = cast(:owner_id as text))
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses, referrer_id;

-- name: revoke_current_code(referrer_id, now)^
UPDATE codes SET revoked_at = :now
WHERE referrer_id = :referrer_id AND revoked_at IS NULL AND expires_at > :now
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses;

-- name: revoke_any_code(referrer_id, now)^
-- The account's end: whatever is unrevoked, expired or not.
UPDATE codes SET revoked_at = :now WHERE referrer_id = :referrer_id AND revoked_at IS NULL
RETURNING code;

-- name: take_use_back(user_id)^
-- Of a user whose referral is taken back.
UPDATE codes SET uses = uses - 1 WHERE code = (SELECT r.code FROM referrals r WHERE r.user_id = :user_id)
RETURNING code;

-- name: use_code(code, now)^
-- The limit is part of the update: of two uses at once of a last use, one finds no row.
UPDATE codes SET uses = uses + 1
WHERE code = coalesce(
    (SELECT e.code FROM codes e WHERE e.code = :code),
    (SELECT k.code FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  )
  AND revoked_at IS NULL AND expires_at > :now AND (max_uses IS NULL OR uses < max_uses)
RETURNING code, created_at, expires_at, revoked_at, max_uses, uses, referrer_id;
