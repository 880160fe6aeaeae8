-- depends: 0012.referrals-covering
-- The words of these columns are open: the program lists them, and a test holds the list. SQLite cannot alter a CHECK, so that
-- a CHECK that lists words would have a table copied for each new one. What remains a rule of the schema is a word's shape.
-- Copied twice, by way of a table without rules: PostgreSQL gives the names of keys away for as long as a table has them.

CREATE TABLE copied AS SELECT * FROM audit_events;
DROP TABLE audit_events;

-- Security events, for whoever asks afterwards what happened. user_id is whose account or code it is about, actor_id who did
-- it: the same person, an admin, or null for somebody who was not signed in. email stands only where no account is known by
-- it; detail is a small JSON object. Neither ever holds a password or a token.
--
-- Rows are only ever added. Portable DDL knows no trigger that would refuse the rest: no statement changes a row but those
-- of an account's erasure, and none deletes one but that of the retention. No foreign keys: no account's row is ever deleted,
-- and looking one up would make a refused sign-in cost more for a known account than for an unknown one. For the same reason
-- no index here is partial.
CREATE TABLE audit_events (
    id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    event TEXT NOT NULL,
    actor_id TEXT,
    user_id TEXT,
    email TEXT,
    address TEXT,
    request_id TEXT,
    detail TEXT NOT NULL,
    CONSTRAINT audit_events_event CHECK (
        event = lower(event) AND length(event) BETWEEN 3 AND 40 AND event NOT LIKE '% %' AND event NOT LIKE '-%'
    ),
    CONSTRAINT audit_events_email CHECK (email IS NULL OR user_id IS NULL)
);

INSERT INTO audit_events (id, at, event, actor_id, user_id, email, address, request_id, detail)
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM copied;
DROP TABLE copied;

-- The latest events, those since a time, and those that are old enough to go. Events of one kind are found by reading back
-- along it, too: an index that only an operator's question needs would be paid for by every request that writes.
CREATE INDEX audit_events_by_time ON audit_events (at);

-- What somebody did, what happened to their account, and what was tried with their address: for an operator's question, and
-- for the account's erasure.
CREATE INDEX audit_events_of_actor ON audit_events (actor_id);
CREATE INDEX audit_events_of_user ON audit_events (user_id);
CREATE INDEX audit_events_of_email ON audit_events (email);

CREATE TABLE copied AS SELECT * FROM outbox;
DROP TABLE outbox;

-- Mail that waits to be sent. A row is written in the transaction that causes the mail and deleted once the mail is handed
-- over. Messages are composed when they are sent: no link token ever lies here. user_id is null for a password reset, whose
-- account is looked up by the worker, so that asking for one costs the same whether or not there is such an account.
CREATE TABLE outbox (
    id TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id TEXT REFERENCES users (id),
    recipient TEXT NOT NULL,
    language TEXT NOT NULL,
    params TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    next_attempt_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    last_error TEXT,
    failed_at BIGINT,
    CONSTRAINT outbox_kind CHECK (
        kind = lower(kind) AND length(kind) BETWEEN 3 AND 40 AND kind NOT LIKE '% %' AND kind NOT LIKE '-%'
    ),
    CONSTRAINT outbox_user CHECK (user_id IS NOT NULL OR kind = 'reset-password')
);

INSERT INTO outbox (
    id, kind, user_id, recipient, language, params, created_at, next_attempt_at, attempts, last_error, failed_at
)
SELECT id, kind, user_id, recipient, language, params, created_at, next_attempt_at, attempts, last_error, failed_at
FROM copied;
DROP TABLE copied;

-- The worker takes what is due, oldest first.
CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE failed_at IS NULL;

-- The account's end takes its mail along, by user and, for password resets, by address.
CREATE INDEX outbox_of_user ON outbox (user_id);
CREATE INDEX outbox_of_recipient ON outbox (recipient);

CREATE TABLE copied AS SELECT * FROM one_time_tokens;
DROP TABLE one_time_tokens;

-- The tokens of mailed links, as SHA-256 hashes. Using one deletes it.
CREATE TABLE one_time_tokens (
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    purpose TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    CONSTRAINT one_time_tokens_purpose CHECK (
        purpose = lower(purpose) AND length(purpose) BETWEEN 3 AND 40 AND purpose NOT LIKE '% %' AND purpose NOT LIKE '-%'
    )
);

INSERT INTO one_time_tokens (token_hash, user_id, purpose, created_at, expires_at)
SELECT token_hash, user_id, purpose, created_at, expires_at FROM copied;
DROP TABLE copied;

-- A used reset token ends its siblings, and the account's end ends all.
CREATE INDEX one_time_tokens_of_user ON one_time_tokens (user_id);

-- Housekeeping deletes what has expired.
CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at);
