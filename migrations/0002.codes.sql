-- depends: 0001.users
-- Codes. The text is the key and rows are never deleted: a text is taken for good.
CREATE TABLE codes (
    code TEXT NOT NULL PRIMARY KEY,
    referrer_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    revoked_at BIGINT,
    max_uses BIGINT,
    uses BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT codes_text CHECK (code = upper(code) AND length(code) BETWEEN 4 AND 32),
    CONSTRAINT codes_not_reserved CHECK (code NOT IN ('CURRENT', 'BY-EMAIL')),
    CONSTRAINT codes_expiry CHECK (expires_at > created_at),
    CONSTRAINT codes_max_uses CHECK (max_uses >= 1),
    CONSTRAINT codes_uses CHECK (uses >= 0 AND (max_uses IS NULL OR uses <= max_uses))
);

-- At most one unrevoked code a user; the user's own view and the look-up of a code by its owner's e-mail.
CREATE UNIQUE INDEX codes_one_unrevoked ON codes (referrer_id) WHERE revoked_at IS NULL;

-- The list of all codes a user ever had, newest first, page by page.
CREATE INDEX codes_of_referrer ON codes (referrer_id, created_at, code);
