-- depends: 0017.suspension
-- Which signing key the database belongs to, one for each algorithm: its fingerprint, from which nobody learns the key, and the
-- one before it. Two services with a secret each would refuse each other's access tokens: the first one's key claims the
-- database, and the primary key lets only one be the first.
CREATE TABLE signing_keys (
    algorithm TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    previous TEXT,
    claimed_at BIGINT NOT NULL,
    CONSTRAINT signing_keys_fingerprints CHECK (length(fingerprint) = 64 AND (previous IS NULL OR length(previous) = 64))
);
