-- depends: 0052.session-cookies
-- Second factors of accounts: secrets of TOTP (RFC 6238), which have to be read again and so are sealed. One that was begun counts
-- once a code has confirmed it. last_step is the latest time step whose code was taken: no code is good twice.
CREATE TABLE second_factors (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    secret TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    confirmed_at BIGINT,
    last_step BIGINT NOT NULL DEFAULT 0
);

-- Codes for whoever has lost the device, each good once. They are random, and only their SHA-256 hashes are kept.
CREATE TABLE recovery_codes (
    user_id TEXT NOT NULL REFERENCES second_factors (user_id) ON DELETE CASCADE,
    code_hash TEXT NOT NULL,
    used_at BIGINT,
    CONSTRAINT recovery_codes_pkey PRIMARY KEY (user_id, code_hash)
);
