-- depends: 0029.events
-- Keys of the HMACs below. One is used for a third of `context.keep_days`, and its secret is thrown away when it is as old as
-- that: what it made says nothing to anybody from then on, and is deleted.
CREATE TABLE context_keys (
    id TEXT NOT NULL PRIMARY KEY,
    secret TEXT,
    created_at BIGINT NOT NULL
);

-- From where an event was caused, as HMACs: that two users have the same address, agent, device or means of payment can be seen
-- for as long as the key is kept, and neither of them can be had again.
CREATE TABLE event_contexts (
    event_id TEXT NOT NULL REFERENCES events (id),
    kind TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    key_id TEXT NOT NULL REFERENCES context_keys (id),
    hash TEXT NOT NULL,
    CONSTRAINT event_contexts_pkey PRIMARY KEY (event_id, kind),
    CONSTRAINT event_contexts_hash CHECK (length(hash) = 64)
);

-- Who else has the same one.
CREATE INDEX event_contexts_by_hash ON event_contexts (hash);

-- An account's end takes its own along.
CREATE INDEX event_contexts_of_user ON event_contexts (user_id);

-- Housekeeping deletes those of a key whose secret is gone.
CREATE INDEX event_contexts_of_key ON event_contexts (key_id);
