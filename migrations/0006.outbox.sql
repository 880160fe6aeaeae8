-- depends: 0001.users
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
    CONSTRAINT outbox_kind CHECK (kind IN ('verify-email', 'reset-password', 'code')),
    CONSTRAINT outbox_user CHECK (user_id IS NOT NULL OR kind = 'reset-password')
);

-- The worker takes what is due, oldest first.
CREATE INDEX outbox_due ON outbox (next_attempt_at) WHERE failed_at IS NULL;

-- The account's end takes its mail along, by user and, for password resets, by address.
CREATE INDEX outbox_of_user ON outbox (user_id);
CREATE INDEX outbox_of_recipient ON outbox (recipient);
