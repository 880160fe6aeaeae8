-- depends: 0023.former-addresses-owner
-- The database belongs to one key, of whatever algorithm: services that sign by different ones refuse each other's access tokens,
-- too. Of several keys that were accepted before, the latest stays.
CREATE TABLE signing_key (
    id BIGINT NOT NULL PRIMARY KEY,
    algorithm TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    previous TEXT,
    claimed_at BIGINT NOT NULL,
    CONSTRAINT signing_key_one_row CHECK (id = 1),
    CONSTRAINT signing_key_fingerprints CHECK (length(fingerprint) = 64 AND (previous IS NULL OR length(previous) = 64))
);

INSERT INTO signing_key (id, algorithm, fingerprint, previous, claimed_at)
SELECT 1, algorithm, fingerprint, previous, claimed_at FROM signing_keys ORDER BY claimed_at DESC, algorithm LIMIT 1;

DROP TABLE signing_keys;
