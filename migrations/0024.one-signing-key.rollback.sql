CREATE TABLE signing_keys (
    algorithm TEXT NOT NULL PRIMARY KEY,
    fingerprint TEXT NOT NULL,
    previous TEXT,
    claimed_at BIGINT NOT NULL,
    CONSTRAINT signing_keys_fingerprints CHECK (length(fingerprint) = 64 AND (previous IS NULL OR length(previous) = 64))
);

INSERT INTO signing_keys (algorithm, fingerprint, previous, claimed_at)
SELECT algorithm, fingerprint, previous, claimed_at FROM signing_key;

DROP TABLE signing_key;
