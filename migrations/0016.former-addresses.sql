-- depends: 0015.one-time-tokens-address
-- Addresses that an account had and has no more, as keyed hashes, for as long as whoever comes again by one comes by nobody:
-- one person must not count for a referrer again and again. Nobody without the key learns an address from a row.
CREATE TABLE former_addresses (
    address_hash TEXT NOT NULL PRIMARY KEY,
    left_at BIGINT NOT NULL
);

-- Housekeeping deletes what is old enough.
CREATE INDEX former_addresses_by_time ON former_addresses (left_at);

-- Since when it stands that the user comes by nobody, whatever becomes of their address later; null for whoever can come by
-- somebody.
ALTER TABLE users ADD COLUMN unattributable_at BIGINT;
