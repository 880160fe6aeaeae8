-- depends: 0026.users-without-a-password
-- Keys by which a product's back end calls. Only the SHA-256 of a key is kept. scope is read, write or admin, each of which may
-- what the one before may. last_used_at is kept to the minute.
CREATE TABLE service_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    key_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_used_at BIGINT,
    CONSTRAINT service_keys_scope CHECK (scope = lower(scope) AND length(scope) BETWEEN 3 AND 40 AND scope NOT LIKE '% %'),
    CONSTRAINT service_keys_hash CHECK (length(key_hash) = 64)
);

-- Each request with a key that is not cached.
CREATE UNIQUE INDEX service_keys_key_hash ON service_keys (key_hash);
