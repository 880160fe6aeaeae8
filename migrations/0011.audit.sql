-- depends: 0009.cache-epoch
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
    CONSTRAINT audit_events_event CHECK (event IN (
        'registered', 'admin-created', 'signed-in', 'sign-in-refused', 'sign-in-limited', 'refresh-token-reused',
        'signed-out', 'session-ended', 'password-changed', 'password-change-refused', 'reset-requested', 'password-reset',
        'email-verified', 'username-changed', 'code-made', 'code-edited', 'code-ended', 'referrer-set', 'account-erased',
        'erasure-refused'
    )),
    CONSTRAINT audit_events_email CHECK (email IS NULL OR user_id IS NULL)
);

-- The latest events, those since a time, and those that are old enough to go. Events of one kind are found by reading back
-- along it, too: an index that only an operator's question needs would be paid for by every request that writes.
CREATE INDEX audit_events_by_time ON audit_events (at);

-- What somebody did, what happened to their account, and what was tried with their address: for an operator's question, and
-- for the account's erasure.
CREATE INDEX audit_events_of_actor ON audit_events (actor_id);
CREATE INDEX audit_events_of_user ON audit_events (user_id);
CREATE INDEX audit_events_of_email ON audit_events (email);
