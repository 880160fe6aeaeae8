-- name: list_listed_users(user_ids)
-- Those of them who may be listed.
SELECT u.id, u.metadata FROM users u
WHERE u.id IN (SELECT value FROM json_each(:user_ids)) AND u.erased_at IS NULL AND u.suspended_at IS NULL;
