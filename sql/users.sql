-- name: insert_user(id, email, email_key, username, username_key, password_hash, role, created_at)!
-- Uniqueness of the e-mail and of the username is the indexes' business.
INSERT INTO users (id, email, email_key, username, username_key, password_hash, role, created_at)
VALUES (:id, :email, :email_key, :username, :username_key, :password_hash, :role, :created_at);

-- name: refuse_attribution(user_id, now)!
UPDATE users SET unattributable_at = :now WHERE id = :user_id;

-- name: is_attributable(user_id)^
SELECT id FROM users WHERE id = :user_id AND unattributable_at IS NULL;

-- name: find_account(user_id, now)^
-- A user's own view in one round trip. The code is the current one: unrevoked and unexpired.
SELECT u.id, u.email, u.email_verified_at, u.username, u.role, u.created_at, u.referral_count,
       r.referrer_id, w.username AS referrer_username, w.name AS referrer_name,
       c.code AS code_text, c.created_at AS code_created_at, c.expires_at AS code_expires_at,
       c.revoked_at AS code_revoked_at, c.max_uses AS code_max_uses, c.uses AS code_uses,
       p.profile, u.external_id, u.name, u.metadata, u.signed_up_at, u.suspended_at
FROM users u
LEFT JOIN referrals r ON r.user_id = u.id
LEFT JOIN users w ON w.id = r.referrer_id
LEFT JOIN codes c ON c.referrer_id = u.id AND c.revoked_at IS NULL AND c.expires_at > :now
LEFT JOIN profiles p ON p.user_id = u.id
WHERE u.id = :user_id AND u.erased_at IS NULL;

-- name: find_credentials_by_email(email_key)^
-- For a sign-in: what a password is checked against.
SELECT id AS user_id, role, password_hash, generation, suspended_at,
       CASE WHEN EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL)
       THEN 1 ELSE 0 END AS has_second_factor
FROM users WHERE email_key = :email_key;

-- name: find_credentials_by_username(username_key)^
SELECT id AS user_id, role, password_hash, generation, suspended_at,
       CASE WHEN EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL)
       THEN 1 ELSE 0 END AS has_second_factor
FROM users WHERE username_key = :username_key;

-- name: find_credentials_by_id(user_id)^
SELECT id AS user_id, role, password_hash, generation, suspended_at,
       CASE WHEN EXISTS (SELECT 1 FROM second_factors f WHERE f.user_id = users.id AND f.confirmed_at IS NOT NULL)
       THEN 1 ELSE 0 END AS has_second_factor
FROM users WHERE id = :user_id AND erased_at IS NULL;

-- name: find_contact(user_id)^
-- Where to write to a user.
SELECT id AS user_id, email, username, email_verified_at, suspended_at, external_id FROM users WHERE id = :user_id AND erased_at IS NULL;

-- name: find_contact_by_email(email_key)^
SELECT id AS user_id, email, username, email_verified_at, suspended_at, external_id FROM users WHERE email_key = :email_key;

-- name: find_referral_count(user_id)^
-- The total of a list of referrals, without counting.
SELECT referral_count FROM users WHERE id = :user_id AND erased_at IS NULL;

-- name: update_username(user_id, username, username_key)!
UPDATE users SET username = :username, username_key = :username_key
WHERE id = :user_id AND erased_at IS NULL;

-- name: update_password(user_id, old_hash, new_hash)^
-- Conditional on the hash that was checked, null for an account without a password: of two changes at once, one finds the
-- password changed under it.
UPDATE users SET password_hash = :new_hash
WHERE id = :user_id AND erased_at IS NULL
  AND (password_hash = cast(:old_hash as text) OR (password_hash IS NULL AND cast(:old_hash as text) IS NULL))
RETURNING id;

-- name: reset_password(user_id, email_key, new_hash, now)^
-- A link that reached the mailbox proves the address, too: the one that it was mailed to, unless nobody knows which.
UPDATE users SET password_hash = :new_hash, email_verified_at = coalesce(email_verified_at, :now)
WHERE id = :user_id AND (cast(:email_key as text) IS NULL OR email_key = cast(:email_key as text)) AND erased_at IS NULL
  AND suspended_at IS NULL
RETURNING id;

-- name: verify_email(user_id, email_key, now)^
UPDATE users SET email_verified_at = coalesce(email_verified_at, :now)
WHERE id = :user_id AND (cast(:email_key as text) IS NULL OR email_key = cast(:email_key as text)) AND erased_at IS NULL
  AND suspended_at IS NULL
RETURNING id;

-- name: take_address(user_id)^
-- Of an account that another one's owner was named as. Conditional: it may have been verified meanwhile.
UPDATE users SET email = NULL, email_key = NULL WHERE id = :user_id AND email_verified_at IS NULL AND erased_at IS NULL
RETURNING id;

-- name: take_password(user_id)!
-- Of an account that a stranger may have made: nobody signs in by it until its owner sets one by a mailed link.
UPDATE users SET password_hash = NULL WHERE id = :user_id AND erased_at IS NULL;

-- name: begin_account_generation(user_id)!
UPDATE users SET generation = generation + 1 WHERE id = :user_id;

-- name: update_email(user_id, generation, email, email_key, now)^
-- By a link that reached the new mailbox, which ends all others. Uniqueness is the index's business.
UPDATE users SET email = :email, email_key = :email_key, email_verified_at = :now, generation = generation + 1
WHERE id = :user_id AND generation = cast(:generation as bigint) AND suspended_at IS NULL AND erased_at IS NULL
RETURNING id;

-- name: increment_code_count(user_id)!
-- In the transaction that inserts the code, so that the count always equals the rows.
UPDATE users SET code_count = code_count + 1 WHERE id = :user_id;

-- name: increment_referral_count(code)^
-- In the transaction that inserts the referral, so that the count always equals the rows. Before the code itself is used:
-- whatever changes both takes the user first, so that two transactions never wait for each other. No row for the code of a
-- suspended account.
UPDATE users SET referral_count = referral_count + 1
WHERE id = coalesce(
    (SELECT e.referrer_id FROM codes e WHERE e.code = :code),
    (SELECT k.referrer_id FROM codes k WHERE k.code_key = replace(replace(replace(:code, 'O', '0'), 'I', '1'), 'L', '1'))
  ) AND suspended_at IS NULL
RETURNING id;

-- name: add_to_referral_count(user_id)!
-- As increment_referral_count, of a referrer who is locked. Deferred.
UPDATE users SET referral_count = referral_count + 1 WHERE id = :user_id;

-- name: decrement_referral_count(user_id)^
UPDATE users SET referral_count = referral_count - 1
WHERE id = (SELECT r.referrer_id FROM referrals r WHERE r.user_id = :user_id)
RETURNING id;

-- name: erase_unverified_user(user_id, now)^
-- Disowned by whoever reads the mailbox. Conditional, too: the owner may have verified it meanwhile.
UPDATE users SET erased_at = :now, email = NULL, email_key = NULL, email_verified_at = NULL,
    username = NULL, username_key = NULL, password_hash = NULL, suspended_at = NULL, suspended_reason = NULL,
    external_id = NULL, name = NULL, name_key = NULL, metadata = NULL, signed_up_at = NULL, suspension_ended_at = NULL
WHERE id = :user_id AND email_verified_at IS NULL AND erased_at IS NULL
RETURNING id;

-- name: erase_user(user_id, old_hash, now)^
-- The row stays, nameless, for the referrer's history. Conditional on the password hash that was checked, unless that is null:
-- somebody else erases the account, or it has no password.
UPDATE users SET erased_at = :now, email = NULL, email_key = NULL, email_verified_at = NULL,
    username = NULL, username_key = NULL, password_hash = NULL, suspended_at = NULL, suspended_reason = NULL,
    external_id = NULL, name = NULL, name_key = NULL, metadata = NULL, signed_up_at = NULL, suspension_ended_at = NULL
WHERE id = :user_id AND (cast(:old_hash as text) IS NULL OR password_hash = cast(:old_hash as text)) AND erased_at IS NULL
RETURNING id;

-- name: find_any_user()^
SELECT id FROM users LIMIT 1;

-- name: list_admins()
-- For the operator.
SELECT id, email, username, created_at, suspended_at FROM users WHERE role = 'admin' AND erased_at IS NULL
ORDER BY created_at, id;

-- name: update_role(user_id, role)^
-- No row for an account that has the role already.
UPDATE users SET role = :role WHERE id = :user_id AND role <> :role AND erased_at IS NULL
RETURNING id;

-- name: suspend_user(user_id, reason, now)^
-- No row for an account that is suspended already: the first time and reason stay.
UPDATE users SET suspended_at = :now, suspended_reason = :reason
WHERE id = :user_id AND suspended_at IS NULL AND erased_at IS NULL
RETURNING id;

-- name: unsuspend_user(user_id, now)^
-- Tokens that were issued until now stay ended.
UPDATE users SET suspended_at = NULL, suspended_reason = NULL, suspension_ended_at = :now WHERE id = :user_id AND suspended_at IS NOT NULL
RETURNING id;
