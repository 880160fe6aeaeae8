-- name: ping()^
-- Readiness: a statement that reads the schema, so that a corrupt or unmigrated database does not look healthy.
SELECT count(*) AS found FROM users WHERE id = '';
