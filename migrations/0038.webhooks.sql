-- depends: 0037.changes
-- Webhooks: where changes are sent. types is a JSON array of types and groups of types. The secrets sign what is sent; they have
-- to be used, so that they are encrypted here and not hashed. previous_secret signs, too, until previous_until. failing_since is
-- the first failure since the last success. A deleted webhook stays until its deliveries are gone.
CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    url TEXT NOT NULL,
    types TEXT NOT NULL,
    status TEXT NOT NULL,
    secret TEXT NOT NULL,
    previous_secret TEXT,
    previous_until BIGINT,
    created_at BIGINT NOT NULL,
    failing_since BIGINT,
    disabled_at BIGINT,
    disabled_reason TEXT,
    CONSTRAINT webhooks_status CHECK (status = lower(status) AND length(status) BETWEEN 3 AND 20),
    CONSTRAINT webhooks_previous CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CONSTRAINT webhooks_disabled CHECK (
        (status = 'enabled') = (disabled_at IS NULL) AND (disabled_at IS NULL) = (disabled_reason IS NULL)
    )
);

-- All of them, newest first.
CREATE INDEX webhooks_by_time ON webhooks (created_at, id);

-- What is sent of a change to a webhook, once. While it waits, it is sent at next_attempt_at, 0 for at once; who sends it has it
-- until leased_until, and has counted it in attempts. last_status and last_error are those of the last attempt.
CREATE TABLE deliveries (
    seq BIGINT NOT NULL REFERENCES changes (seq),
    webhook_id TEXT NOT NULL REFERENCES webhooks (id),
    status TEXT NOT NULL,
    attempts BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT,
    leased_until BIGINT,
    last_status BIGINT,
    last_error TEXT,
    delivered_at BIGINT,
    CONSTRAINT deliveries_pkey PRIMARY KEY (seq, webhook_id),
    CONSTRAINT deliveries_status CHECK (status = lower(status) AND length(status) BETWEEN 3 AND 20),
    CONSTRAINT deliveries_attempts CHECK (attempts >= 0),
    CONSTRAINT deliveries_waiting CHECK ((status = 'waiting') = (next_attempt_at IS NOT NULL)),
    CONSTRAINT deliveries_leased CHECK (leased_until IS NULL OR status = 'waiting'),
    CONSTRAINT deliveries_delivered CHECK ((status = 'delivered') = (delivered_at IS NOT NULL))
);

-- What is due, in its order.
CREATE INDEX deliveries_due ON deliveries (webhook_id, next_attempt_at, seq) WHERE status = 'waiting';

-- What is being sent.
CREATE INDEX deliveries_leased_until ON deliveries (webhook_id, leased_until) WHERE leased_until IS NOT NULL;

-- Those in a state, newest first.
CREATE INDEX deliveries_in_state ON deliveries (webhook_id, status, seq);

-- Attempts that failed, with the answer's beginning.
CREATE TABLE delivery_failures (
    id TEXT NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    webhook_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    status BIGINT,
    error TEXT NOT NULL,
    milliseconds BIGINT NOT NULL,
    FOREIGN KEY (seq, webhook_id) REFERENCES deliveries (seq, webhook_id),
    CONSTRAINT delivery_failures_milliseconds CHECK (milliseconds >= 0)
);

-- Those of a delivery.
CREATE INDEX delivery_failures_of_delivery ON delivery_failures (seq, webhook_id, at);

-- A webhook that is sent again what it was sent since a time: changes behind next_seq, up to last_seq, are still to be queued.
CREATE TABLE replays (
    webhook_id TEXT NOT NULL PRIMARY KEY REFERENCES webhooks (id),
    since BIGINT NOT NULL,
    types TEXT NOT NULL,
    next_seq BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    CONSTRAINT replays_order CHECK (next_seq >= 0 AND next_seq <= last_seq)
);
