-- name: insert_former_address(address_hash, user_id, now)!
INSERT INTO former_addresses (address_hash, user_id, left_at) VALUES (:address_hash, :user_id, :now)
ON CONFLICT (address_hash) DO UPDATE SET left_at = excluded.left_at, user_id = excluded.user_id;

-- name: find_former_address(current_hash, previous_hash, user_id, since)^
-- By the key of today and the one before it.
SELECT left_at FROM former_addresses
WHERE address_hash IN (:current_hash, :previous_hash) AND left_at > :since AND (user_id IS NULL OR user_id <> :user_id)
LIMIT 1;

-- name: disown_former_addresses(user_id)!
-- With the account.
UPDATE former_addresses SET user_id = NULL WHERE user_id = :user_id;

-- name: delete_former_addresses(before)!
DELETE FROM former_addresses WHERE left_at <= :before;
