-- depends: 0001.users
-- The tokens of mailed links, as SHA-256 hashes. Using one deletes it.
CREATE TABLE one_time_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    purpose TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT one_time_tokens_purpose CHECK (purpose IN ('verify-email', 'reset-password'))
);

-- A used reset token ends its siblings, and the account's end ends all.
CREATE INDEX one_time_tokens_of_user ON one_time_tokens (user_id);

-- Housekeeping deletes what has expired.
CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at);
