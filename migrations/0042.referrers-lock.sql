-- depends: 0041.believed-redis
-- A row to lock before a referrer is set after registration: such changes go one by one, whatever engine has PostgreSQL's
-- protocol. It is locked and never changed.
CREATE TABLE referrers_lock (
    id BIGINT NOT NULL PRIMARY KEY,
    CONSTRAINT referrers_lock_one_row CHECK (id = 1)
);

INSERT INTO referrers_lock (id) VALUES (1);
