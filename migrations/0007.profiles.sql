-- depends: 0001.users
-- What an enrichment provider knows of a user, as JSON in the API's shape; deleted with the account.
CREATE TABLE profiles (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    provider TEXT NOT NULL,
    profile TEXT NOT NULL,
    fetched_at BIGINT NOT NULL
);
