-- depends: 0004.sessions
-- What the owner of an account is shown of a session: when it was last refreshed, from which address, by which client. The
-- last two are personal data and go with the row. Sessions from before this step have been used when they were made, from
-- nobody knows where.
ALTER TABLE sessions ADD COLUMN last_used_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN address TEXT;
ALTER TABLE sessions ADD COLUMN client TEXT;

UPDATE sessions SET last_used_at = created_at;

-- A user's sessions page by page, newest first; and all of them, as before, when they end together.
CREATE INDEX sessions_of_user_by_time ON sessions (user_id, created_at, id);

DROP INDEX sessions_of_user;
