-- Looking a user of the product's up and locking, as SQLite does it: a write transaction excludes every other one.

-- name: lock_user_by_external_id(external_id)^
SELECT u.id FROM users u WHERE u.external_id = :external_id;
