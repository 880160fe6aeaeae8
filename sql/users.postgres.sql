-- Users of a list of ids, which PostgreSQL reads from a JSON array.

-- name: find_accounts(user_ids, now)
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
WHERE u.id IN (SELECT jsonb_array_elements_text(cast(:user_ids as jsonb))) AND u.erased_at IS NULL;
