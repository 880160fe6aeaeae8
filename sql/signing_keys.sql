-- name: claim_signing_key(algorithm, fingerprint, now)!
-- Of two services that are the first at once, one claims the database.
INSERT INTO signing_key (id, algorithm, fingerprint, claimed_at) VALUES (1, :algorithm, :fingerprint, :now)
ON CONFLICT (id) DO NOTHING;

-- name: find_signing_key()^
SELECT fingerprint, previous FROM signing_key WHERE id = 1;

-- name: rotate_signing_key(fingerprint, previous, now)!
-- Conditional on the key that is replaced: of two services with a new key each, one finds that it was.
UPDATE signing_key SET fingerprint = :fingerprint, previous = :previous, claimed_at = :now
WHERE id = 1 AND fingerprint = :previous;

-- name: accept_signing_key(algorithm, fingerprint, now)!
-- Whichever key was there before.
INSERT INTO signing_key (id, algorithm, fingerprint, claimed_at) VALUES (1, :algorithm, :fingerprint, :now)
ON CONFLICT (id) DO UPDATE SET algorithm = :algorithm, fingerprint = :fingerprint, previous = NULL, claimed_at = :now;
