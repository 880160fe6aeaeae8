-- name: find_live_identity(issuer, subject)^
-- On each request with a token of the product's own whose subject is an identity.
SELECT u.id AS user_id, u.suspension_ended_at FROM identities i JOIN users u ON u.id = i.user_id
WHERE i.issuer = :issuer AND i.subject = :subject AND u.erased_at IS NULL AND u.suspended_at IS NULL;

-- name: find_live_external_user(external_id)^
-- The same where the subject is the product's own id.
SELECT u.id AS user_id, u.suspension_ended_at FROM users u
WHERE u.external_id = :external_id AND u.erased_at IS NULL AND u.suspended_at IS NULL;

-- name: find_identity(issuer, subject)^
SELECT user_id FROM identities WHERE issuer = :issuer AND subject = :subject;

-- name: insert_identity(issuer, subject, user_id, now)^
-- No row when the subject is somebody already: of many first calls at once one joins it.
INSERT INTO identities (issuer, subject, user_id, created_at) VALUES (:issuer, :subject, :user_id, :now)
ON CONFLICT (issuer, subject) DO NOTHING
RETURNING user_id;

-- name: list_identities(user_id)
SELECT issuer, subject, created_at FROM identities WHERE user_id = :user_id ORDER BY created_at, issuer, subject;

-- name: delete_identities(user_id)!
DELETE FROM identities WHERE user_id = :user_id;
