-- name: insert_lookup(user_id, now)!
-- One that waits already begins anew: the address may be another.
INSERT INTO profile_lookups (user_id, created_at, next_attempt_at) VALUES (:user_id, :now, :now)
ON CONFLICT (user_id) DO UPDATE SET created_at = :now, next_attempt_at = :now, attempts = 0;

-- name: postpone_lookup(user_id, next_attempt_at)!
UPDATE profile_lookups SET next_attempt_at = :next_attempt_at WHERE user_id = :user_id;

-- name: delete_lookup(user_id, created_at)^
-- The one that was begun then or, with null, whichever waits: an answer about a former address is not one about the new.
-- Whoever deletes the row decides what becomes of the profile: a worker stores it in the same transaction, the account's
-- end deletes it. The row's lock keeps them apart, so that no answer on its way is stored for an erased account.
DELETE FROM profile_lookups
WHERE user_id = :user_id AND (cast(:created_at as bigint) IS NULL OR created_at = cast(:created_at as bigint))
RETURNING user_id;

-- name: find_next_lookup_time()^
-- When the worker must wake up at the latest.
SELECT min(next_attempt_at) AS due_at FROM profile_lookups;

-- name: insert_profile(user_id, provider, profile, now)!
INSERT INTO profiles (user_id, provider, profile, fetched_at) VALUES (:user_id, :provider, :profile, :now);

-- name: delete_profile(user_id)!
DELETE FROM profiles WHERE user_id = :user_id;
