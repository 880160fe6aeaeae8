-- People as admins see them: of a list of ids, which is a JSON array. Those who were erased are there, without what named them.

-- name: list_people(user_ids)
SELECT u.id, u.name, u.email, u.external_id, u.username, u.erased_at, u.role, u.created_at, u.signed_up_at, u.email_verified_at,
       u.metadata, u.suspended_at, u.suspended_reason, u.referral_count, u.converted_count,
       r.referrer_id, w.name AS referrer_name, w.email AS referrer_email, w.external_id AS referrer_external_id,
       w.username AS referrer_username, w.erased_at AS referrer_erased_at, r.joined_at, r.source, r.code, r.review,
       r.converted_at
FROM users u
LEFT JOIN referrals r ON r.user_id = u.id
LEFT JOIN users w ON w.id = r.referrer_id
WHERE u.id IN (SELECT jsonb_array_elements_text(cast(:user_ids as jsonb)));

-- name: list_names(user_ids)
-- What they are called.
SELECT u.id, u.name, u.email, u.external_id, u.username, u.erased_at FROM users u WHERE u.id IN (SELECT jsonb_array_elements_text(cast(:user_ids as jsonb)));
