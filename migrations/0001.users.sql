-- Accounts. Times are milliseconds since 1970 (UTC), keys are UUIDv7 texts made by the service, so that this DDL
-- runs unchanged on SQLite and PostgreSQL.
--
-- email_key and username_key are the case-folded forms made by the service: what "without case" means must not depend
-- on a database's locale. An erased account keeps its row, without personal data, for the sake of its referrer's history.
CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT,
    email_key TEXT,
    email_verified_at BIGINT,
    username TEXT,
    username_key TEXT,
    password_hash TEXT,
    role TEXT NOT NULL,
    referral_count BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    erased_at BIGINT,
    CONSTRAINT users_role CHECK (role IN ('user', 'admin')),
    CONSTRAINT users_referral_count CHECK (referral_count >= 0),
    CONSTRAINT users_username_pair CHECK ((username IS NULL) = (username_key IS NULL)),
    CONSTRAINT users_personal_data CHECK (
        (erased_at IS NULL AND email IS NOT NULL AND email_key IS NOT NULL AND password_hash IS NOT NULL)
        OR (erased_at IS NOT NULL AND email IS NULL AND email_key IS NULL AND email_verified_at IS NULL
            AND username IS NULL AND password_hash IS NULL)
    )
);

-- One account an e-mail address; sign-in, password reset and the look-up of a code by e-mail.
CREATE UNIQUE INDEX users_email_key ON users (email_key);

-- One account a username; sign-in by username.
CREATE UNIQUE INDEX users_username_key ON users (username_key);
