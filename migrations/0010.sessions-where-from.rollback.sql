-- All sessions of a user end with a password change, a reset and the account.
CREATE INDEX sessions_of_user ON sessions (user_id);

DROP INDEX sessions_of_user_by_time;

ALTER TABLE sessions DROP COLUMN client;
ALTER TABLE sessions DROP COLUMN address;
ALTER TABLE sessions DROP COLUMN last_used_at;
