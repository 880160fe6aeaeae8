-- depends: 0024.one-signing-key
-- Users of a product, which names them by its own ids. external_id is compared as it is, letter case included. name_key is the
-- folded name, by whose beginning a user is found. metadata is a JSON object of the product's. signed_up_at is the user's age as
-- the product tells it: null where the account itself is as old. suspension_ended_at ends tokens that were issued before, which
-- lie in nobody's table here. All of it goes with the account.
ALTER TABLE users ADD COLUMN external_id TEXT;
ALTER TABLE users ADD COLUMN name TEXT;
ALTER TABLE users ADD COLUMN name_key TEXT CONSTRAINT users_name_pair CHECK ((name IS NULL) = (name_key IS NULL));
ALTER TABLE users ADD COLUMN metadata TEXT;
ALTER TABLE users ADD COLUMN signed_up_at BIGINT;
ALTER TABLE users ADD COLUMN suspension_ended_at BIGINT CONSTRAINT users_product_data CHECK (
    erased_at IS NULL OR (external_id IS NULL AND name IS NULL AND metadata IS NULL)
);

-- One user an id of the product's.
CREATE UNIQUE INDEX users_external_id ON users (external_id);

-- Users whose names begin alike.
CREATE INDEX users_by_name ON users (name_key, id) WHERE name_key IS NOT NULL;

-- All users, newest first.
CREATE INDEX users_by_time ON users (created_at, id) WHERE erased_at IS NULL;

-- Those few of them that are suspended.
CREATE INDEX users_suspended ON users (created_at, id) WHERE suspended_at IS NOT NULL;
