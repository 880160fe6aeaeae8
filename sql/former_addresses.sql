-- name: insert_former_address(address_hash, now)!
INSERT INTO former_addresses (address_hash, left_at) VALUES (:address_hash, :now)
ON CONFLICT (address_hash) DO UPDATE SET left_at = :now;

-- name: find_former_address(current_hash, previous_hash, since)^
-- By the key of today and the one before it.
SELECT left_at FROM former_addresses
WHERE address_hash IN (:current_hash, :previous_hash) AND left_at > :since
LIMIT 1;

-- name: delete_former_addresses(before)!
DELETE FROM former_addresses WHERE left_at <= :before;
