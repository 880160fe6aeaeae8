-- depends: 0007.profiles
-- Accounts that the enrichment provider is still to be asked about. A row is written in the registration's transaction and
-- deleted once the provider's answer is kept, the look-up is given up, or the account is erased.
CREATE TABLE profile_lookups (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0
);

-- The worker takes what is due, oldest first.
CREATE INDEX profile_lookups_due ON profile_lookups (next_attempt_at);
