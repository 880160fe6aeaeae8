-- name: ping()^
-- Readiness: a statement that reads the schema, so that a corrupt or unmigrated database does not look healthy.
SELECT count(*) FROM users WHERE id = '';
