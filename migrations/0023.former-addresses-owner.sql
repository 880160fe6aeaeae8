-- depends: 0022.users-generation
-- Whoever left an address by a change, and not by the account's end: they may come back to it, and it is known of others only.
ALTER TABLE former_addresses ADD COLUMN user_id TEXT REFERENCES users (id);

-- An account's end forgets which addresses it left.
CREATE INDEX former_addresses_of_user ON former_addresses (user_id) WHERE user_id IS NOT NULL;
