-- depends: 0030.event-contexts
-- A session that somebody else opened for the user: a service key, or the product's identity provider by token exchange. It never
-- carries the role of an admin, whatever becomes of the account.
ALTER TABLE sessions ADD COLUMN delegated BIGINT NOT NULL DEFAULT 0;
