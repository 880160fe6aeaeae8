-- Users as the product's back end knows them: by our id, or by the id that the product gave them.

-- name: insert_product_user(id, external_id, created_at)^
-- No row when there is such a user already: of many requests at once that name a new user, one makes it.
INSERT INTO users (id, external_id, role, created_at) VALUES (:id, :external_id, 'user', :created_at)
ON CONFLICT (external_id) DO NOTHING
RETURNING id;

-- name: find_product_user(user_id)^
SELECT u.id, u.external_id, u.email, u.email_verified_at, u.username, u.name, u.metadata, u.created_at, u.signed_up_at,
       u.suspended_at, u.unattributable_at, u.referral_count, r.referrer_id, r.code AS referral_code, r.joined_at
FROM users u LEFT JOIN referrals r ON r.user_id = u.id
WHERE u.id = :user_id AND u.erased_at IS NULL;

-- name: find_product_user_by_external_id(external_id)^
SELECT u.id, u.external_id, u.email, u.email_verified_at, u.username, u.name, u.metadata, u.created_at, u.signed_up_at,
       u.suspended_at, u.unattributable_at, u.referral_count, r.referrer_id, r.code AS referral_code, r.joined_at
FROM users u LEFT JOIN referrals r ON r.user_id = u.id
WHERE u.external_id = :external_id;

-- name: find_user_id_by_external_id(external_id)^
SELECT id FROM users WHERE external_id = :external_id;

-- name: update_product_user(user_id, external_id, email, email_key, email_verified_at, username, username_key, name, name_key, metadata, signed_up_at)!
-- Uniqueness of the e-mail, the username and the external id is the indexes' business.
UPDATE users SET external_id = :external_id, email = :email, email_key = :email_key, email_verified_at = :email_verified_at,
    username = :username, username_key = :username_key, name = :name, name_key = :name_key, metadata = :metadata,
    signed_up_at = :signed_up_at
WHERE id = :user_id AND erased_at IS NULL;

-- name: find_holder(email_key, username_key, external_id, user_id)^
-- Who has what this user may not get.
SELECT id FROM users
WHERE (email_key = :email_key OR username_key = :username_key OR external_id = :external_id) AND id <> :user_id
LIMIT 1;

-- name: list_users(status, before_time, before_id, page_size)
-- Newest first, from the cursor on; active ones or, with null, all.
SELECT id, created_at FROM users
WHERE erased_at IS NULL AND (created_at, id) < (:before_time, :before_id)
  AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: list_suspended_users(before_time, before_id, page_size)
SELECT id, created_at FROM users
WHERE suspended_at IS NOT NULL AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: count_users(status, before_time, sample_size)^
-- No further than so many: a list's total is not worth reading millions of rows.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM users
    WHERE erased_at IS NULL AND created_at < :before_time AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
    LIMIT :sample_size
) AS found;

-- name: count_suspended_users(before_time, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM users WHERE suspended_at IS NOT NULL AND created_at < :before_time LIMIT :sample_size
) AS found;

-- name: search_suspended(email_low, email_high, name_low, name_high, external_low, external_high, before_time, before_id, page_size)
-- Suspended users one of whose texts begins so, newest first: all of them are few enough to look at each.
SELECT id, created_at FROM users
WHERE suspended_at IS NOT NULL AND (created_at, id) < (:before_time, :before_id)
  AND ((email_key >= :email_low AND email_key < :email_high) OR (username_key >= :name_low AND username_key < :name_high)
    OR (external_id >= :external_low AND external_id < :external_high) OR (name_key >= :name_low AND name_key < :name_high))
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: search_by_email(low, low_id, high, status, page_size)
-- Users whose address begins with a text, from a place on: addresses from `low` to `high`, behind the user of `low_id`.
SELECT id, email_key, username_key, external_id, name_key FROM users
WHERE (email_key, id) > (:low, :low_id) AND email_key < :high
  AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
ORDER BY email_key, id
LIMIT :page_size;

-- name: search_by_username(low, low_id, high, status, page_size)
SELECT id, email_key, username_key, external_id, name_key FROM users
WHERE (username_key, id) > (:low, :low_id) AND username_key < :high
  AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
ORDER BY username_key, id
LIMIT :page_size;

-- name: search_by_external_id(low, low_id, high, status, page_size)
SELECT id, email_key, username_key, external_id, name_key FROM users
WHERE (external_id, id) > (:low, :low_id) AND external_id < :high
  AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
ORDER BY external_id, id
LIMIT :page_size;

-- name: search_by_name(low, low_id, high, status, page_size)
SELECT id, email_key, username_key, external_id, name_key FROM users
WHERE name_key IS NOT NULL AND (name_key, id) > (:low, :low_id) AND name_key < :high
  AND (cast(:status as text) IS NULL OR suspended_at IS NULL)
ORDER BY name_key, id
LIMIT :page_size;

-- name: count_matches(email_low, email_high, name_low, name_high, external_low, external_high, status, sample_size)^
-- No further than so many of each sort, in the order of its index: else PostgreSQL collects all of them first. UNION counts a
-- user once who is found in several ways.
SELECT count(*) AS total FROM (
    SELECT id FROM (
        SELECT id FROM users WHERE email_key >= :email_low AND email_key < :email_high
          AND (cast(:status as text) IS NULL OR suspended_at IS NULL) ORDER BY email_key LIMIT :sample_size
    ) AS by_email
    UNION
    SELECT id FROM (
        SELECT id FROM users WHERE username_key >= :name_low AND username_key < :name_high
          AND (cast(:status as text) IS NULL OR suspended_at IS NULL) ORDER BY username_key LIMIT :sample_size
    ) AS by_username
    UNION
    SELECT id FROM (
        SELECT id FROM users WHERE external_id >= :external_low AND external_id < :external_high
          AND (cast(:status as text) IS NULL OR suspended_at IS NULL) ORDER BY external_id LIMIT :sample_size
    ) AS by_external_id
    UNION
    SELECT id FROM (
        SELECT id FROM users WHERE name_key IS NOT NULL AND name_key >= :name_low AND name_key < :name_high
          AND (cast(:status as text) IS NULL OR suspended_at IS NULL) ORDER BY name_key LIMIT :sample_size
    ) AS by_name
) AS found;
