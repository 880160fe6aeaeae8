-- Second factors of accounts, and the recovery codes beside them.

-- name: insert_second_factor(user_id, secret, now)^
-- One that nobody has confirmed makes room for another; no row where one is switched on.
INSERT INTO second_factors (user_id, secret, created_at) VALUES (:user_id, :secret, :now)
ON CONFLICT (user_id) DO UPDATE SET secret = excluded.secret, created_at = excluded.created_at, last_step = 0
WHERE second_factors.confirmed_at IS NULL
RETURNING user_id;

-- name: find_second_factor(user_id)^
SELECT f.user_id, f.secret, f.created_at, f.confirmed_at, f.last_step,
       (SELECT count(*) FROM recovery_codes r WHERE r.user_id = f.user_id AND r.used_at IS NULL) AS recovery_codes
FROM second_factors f WHERE f.user_id = :user_id;

-- name: confirm_second_factor(user_id, secret, step, now)^
UPDATE second_factors SET confirmed_at = :now, last_step = :step
WHERE user_id = :user_id AND secret = :secret AND confirmed_at IS NULL
RETURNING user_id;

-- name: use_step(user_id, step)^
-- Of many at once with one code, one finds a row.
UPDATE second_factors SET last_step = :step
WHERE user_id = :user_id AND confirmed_at IS NOT NULL AND last_step < cast(:step as bigint)
RETURNING user_id;

-- name: insert_recovery_code(user_id, code_hash)!
INSERT INTO recovery_codes (user_id, code_hash) VALUES (:user_id, :code_hash);

-- name: use_recovery_code(user_id, code_hash, now)^
UPDATE recovery_codes SET used_at = :now WHERE user_id = :user_id AND code_hash = :code_hash AND used_at IS NULL
RETURNING user_id;

-- name: delete_second_factor(user_id)^
DELETE FROM second_factors WHERE user_id = :user_id
RETURNING confirmed_at;

-- name: list_second_factors()
-- For the rotation of keys.
SELECT f.user_id, f.secret, f.created_at, f.confirmed_at, f.last_step, cast(0 as bigint) AS recovery_codes
FROM second_factors f ORDER BY f.user_id;

-- name: update_second_factor_secret(user_id, secret, former)!
-- The same secret, sealed anew, unless it was replaced meanwhile.
UPDATE second_factors SET secret = :secret WHERE user_id = :user_id AND secret = :former;
