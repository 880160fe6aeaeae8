-- name: claim_signing_key(algorithm, fingerprint, now)!
-- Of two services that are the first at once, one claims the database.
INSERT INTO signing_keys (algorithm, fingerprint, claimed_at) VALUES (:algorithm, :fingerprint, :now)
ON CONFLICT (algorithm) DO NOTHING;

-- name: find_signing_key(algorithm)^
SELECT fingerprint, previous FROM signing_keys WHERE algorithm = :algorithm;

-- name: rotate_signing_key(algorithm, fingerprint, previous, now)!
-- Conditional on the key that is replaced: of two services with a new key each, one finds that it was.
UPDATE signing_keys SET fingerprint = :fingerprint, previous = :previous, claimed_at = :now
WHERE algorithm = :algorithm AND fingerprint = :previous;

-- name: accept_signing_key(algorithm, fingerprint, now)!
-- Whichever key was there before.
INSERT INTO signing_keys (algorithm, fingerprint, claimed_at) VALUES (:algorithm, :fingerprint, :now)
ON CONFLICT (algorithm) DO UPDATE SET fingerprint = :fingerprint, previous = NULL, claimed_at = :now;
