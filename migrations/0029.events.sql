-- depends: 0028.identities
-- What the product reported, and what accounts of the service's own reported of themselves. The id is the caller's, and is
-- remembered for ever. body_hash is the SHA-256 of what was reported, by which a repeated report is told from another one of the
-- same id; it goes with the user, because it is made of personal data, too. amount is in the unit's smallest part. refunded is
-- the sum of what refunds took from this event, kept in their transactions. attribution says what became of the code or click,
-- and reason why it caused nothing. ignored lists what was said of the user and is another's, as JSON.
CREATE TABLE events (
    id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    received_at BIGINT NOT NULL,
    occurred_at BIGINT NOT NULL,
    unit TEXT,
    amount BIGINT,
    refunded BIGINT NOT NULL DEFAULT 0,
    refunds TEXT REFERENCES events (id),
    code TEXT,
    click_id TEXT,
    metadata TEXT,
    attribution TEXT NOT NULL,
    reason TEXT,
    ignored TEXT,
    body_hash TEXT,
    CONSTRAINT events_type CHECK (type = lower(type) AND length(type) BETWEEN 1 AND 64 AND type NOT LIKE '% %'),
    CONSTRAINT events_value CHECK ((unit IS NULL) = (amount IS NULL) AND (amount IS NULL OR amount >= 0)),
    CONSTRAINT events_refunded CHECK (refunded >= 0 AND (refunded = 0 OR (amount IS NOT NULL AND refunded <= amount))),
    CONSTRAINT events_refunds CHECK ((refunds IS NOT NULL) = (type = 'refund') AND (refunds IS NULL OR amount IS NOT NULL)),
    CONSTRAINT events_attribution CHECK (
        attribution = lower(attribution) AND length(attribution) BETWEEN 3 AND 40 AND attribution NOT LIKE '% %'
    )
);

-- What was reported of a user, newest first.
CREATE INDEX events_of_user ON events (user_id, received_at, id);

-- Whether a user has bought something: whoever has is referred by nobody afterwards.
CREATE INDEX events_purchases ON events (user_id) WHERE type = 'purchase';

-- All events, newest first, and those of a type.
CREATE INDEX events_by_time ON events (received_at, id);
CREATE INDEX events_of_type ON events (type, received_at, id);

-- The refunds of an event.
CREATE INDEX events_of_refunded ON events (refunds) WHERE refunds IS NOT NULL;
