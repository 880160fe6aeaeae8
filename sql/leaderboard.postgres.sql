-- name: list_listed_users(user_ids)
-- Those of them who may be listed.
SELECT u.id, u.metadata FROM users u
WHERE u.id IN (SELECT jsonb_array_elements_text(cast(:user_ids as jsonb))) AND u.erased_at IS NULL AND u.suspended_at IS NULL;
