-- Looking a user of the product's up and locking, as PostgreSQL does it.

-- name: lock_user_by_external_id(external_id)^
-- What else is known of the user is read by the next statement: this one may have waited, and sees only this row as it is then.
-- The rules are held, too, and before: events and refunds take them and their users in this order.
SELECT u.id FROM users u
WHERE u.external_id = :external_id AND NOT EXISTS (SELECT 1 FROM rules h WHERE h.id IS NULL FOR KEY SHARE)
FOR NO KEY UPDATE;
