-- depends: 0001.users
-- A session is one sign-in; its refresh tokens are one family (RFC 9700 section 4.14). Access tokens name their session, and
-- a session that is gone or revoked ends them. Only SHA-256 hashes of refresh tokens are kept.
CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

-- All sessions of a user end with a password change, a reset and the account.
CREATE INDEX sessions_of_user ON sessions (user_id);

-- Housekeeping deletes what has expired.
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE refresh_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    used_at BIGINT
);

-- The end of a session takes its tokens along.
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (session_id);
