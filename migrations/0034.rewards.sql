-- depends: 0033.conversions
-- Rewards, by a rule for an event, or by hand. user_id is who gets it, referral_user_id whose referral it is for, and referrer_id
-- by whom that user came. value is in the unit's smallest part and never changes; null where the product alone knows what a
-- coupon is worth. by_percentage says that a refund takes from it in proportion. reversed is what refunds, and people
-- (reversed_by_hand), took of it; retracted says that the referral was taken back, and the rest with it.
--
-- One rule gives one side one reward for an event (rewards_once). Of a rule that gives `times` rewards at most for a referral,
-- each has one of the ordinals 1 to `times`, which no other has (rewards_times); one that is void, or was retracted, gives its
-- ordinal back.
--
-- A pending reward is released at release_at, unless it waits for somebody's approval. due_at is when that may be tried: null
-- while something else keeps it. caller_id and body_hash tell a repeated call from another one: who makes a reward by hand gives
-- its id.
CREATE TABLE rewards (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    side TEXT,
    kind TEXT NOT NULL,
    label TEXT,
    unit TEXT,
    value BIGINT,
    by_percentage BIGINT NOT NULL DEFAULT 0,
    reversed BIGINT NOT NULL DEFAULT 0,
    reversed_by_hand BIGINT NOT NULL DEFAULT 0,
    retracted BIGINT NOT NULL DEFAULT 0,
    status TEXT NOT NULL,
    rule_id TEXT,
    rule_version BIGINT,
    event_id TEXT REFERENCES events (id),
    referral_user_id TEXT REFERENCES users (id),
    referrer_id TEXT REFERENCES users (id),
    ordinal BIGINT,
    times BIGINT,
    needs_approval BIGINT NOT NULL DEFAULT 0,
    release_at BIGINT NOT NULL,
    due_at BIGINT,
    created_at BIGINT NOT NULL,
    approved_at BIGINT,
    fulfilled_at BIGINT,
    reason TEXT,
    reference TEXT,
    caller_id TEXT,
    body_hash TEXT,
    FOREIGN KEY (rule_id, rule_version) REFERENCES rule_versions (rule_id, version),
    CONSTRAINT rewards_origin CHECK (
        (rule_id IS NULL) = (rule_version IS NULL) AND (rule_id IS NULL) = (event_id IS NULL)
        AND (rule_id IS NULL) = (side IS NULL) AND (rule_id IS NULL) = (referral_user_id IS NULL)
        AND (rule_id IS NULL) = (referrer_id IS NULL) AND (rule_id IS NULL) = (caller_id IS NOT NULL)
    ),
    CONSTRAINT rewards_value CHECK (
        (unit IS NULL) = (value IS NULL) AND (value IS NULL OR value > 0) AND (kind <> 'balance' OR value IS NOT NULL)
    ),
    CONSTRAINT rewards_reversed CHECK (
        reversed >= 0 AND reversed <= coalesce(value, 0) AND reversed_by_hand >= 0 AND reversed_by_hand <= reversed
        AND retracted IN (0, 1)
    ),
    CONSTRAINT rewards_label CHECK (kind = 'balance' OR label IS NOT NULL),
    CONSTRAINT rewards_ordinal CHECK (
        (ordinal IS NOT NULL) = (rule_id IS NOT NULL AND status <> 'void' AND retracted = 0)
        AND (ordinal IS NULL OR ordinal >= 1) AND (ordinal IS NULL OR times IS NULL OR ordinal <= times)
    ),
    CONSTRAINT rewards_status CHECK (status = lower(status) AND length(status) BETWEEN 3 AND 20),
    CONSTRAINT rewards_approved CHECK ((approved_at IS NULL) = (status IN ('pending', 'void'))),
    CONSTRAINT rewards_fulfilled CHECK (status <> 'fulfilled' OR fulfilled_at IS NOT NULL),
    CONSTRAINT rewards_due CHECK (due_at IS NULL OR (status = 'pending' AND needs_approval = 0))
);

-- One rule gives one side one reward for an event; what an event brought is found by it, too.
CREATE UNIQUE INDEX rewards_once ON rewards (event_id, rule_id, side);

-- No two rewards of a rule for a side of a referral have the same ordinal; what a referral brought is found by it, too.
CREATE UNIQUE INDEX rewards_times ON rewards (referral_user_id, rule_id, side, ordinal);

-- Whoever makes a reward by hand makes it once.
CREATE UNIQUE INDEX rewards_caller_id ON rewards (caller_id) WHERE caller_id IS NOT NULL;

-- Rewards of a user, of a rule or in a state, newest first.
CREATE INDEX rewards_of_user ON rewards (user_id, created_at, id);
CREATE INDEX rewards_of_rule ON rewards (rule_id, created_at, id);
CREATE INDEX rewards_in_state ON rewards (status, created_at, id);

-- Those of a rule in a state, and what they come to.
CREATE INDEX rewards_of_rule_in_state ON rewards (rule_id, status, created_at, id, unit, value);

-- Which rewards are due to be released.
CREATE INDEX rewards_due ON rewards (due_at, id) WHERE due_at IS NOT NULL;
