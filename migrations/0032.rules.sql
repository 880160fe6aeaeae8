-- depends: 0031.sessions-delegated
-- Rules by which events are rewarded. Each change of a rule is another version of it; `version` is the one that holds now.
-- on_type is the type of its events, and side whom it rewards.
CREATE TABLE rules (
    id TEXT NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    on_type TEXT NOT NULL,
    side TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    CONSTRAINT rules_version CHECK (version >= 1)
);

-- Which rules an event meets, the oldest first.
CREATE INDEX rules_of_type ON rules (on_type, id);

-- All rules, newest first.
CREATE INDEX rules_by_time ON rules (created_at, id);

-- What a rule said in each of its versions, as JSON. A version is never changed: rewards keep theirs.
CREATE TABLE rule_versions (
    rule_id TEXT NOT NULL REFERENCES rules (id),
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    definition TEXT NOT NULL,
    CONSTRAINT rule_versions_pkey PRIMARY KEY (rule_id, version),
    CONSTRAINT rule_versions_version CHECK (version >= 1)
);

-- How much of a rule's limits is used up, in a period from starts_at to before ends_at (ms). The subject is `budget`, of which
-- `used` counts the value of rewards in the unit, or the id of a referrer, of whom it counts rewards. It is the sum over the rule's rewards
-- that were made in the period and are not void, kept in their transactions. `most` is the limit when it was last used; one that
-- was lowered since below what is used up keeps it, and nothing more is taken.
CREATE TABLE rule_usage (
    rule_id TEXT NOT NULL REFERENCES rules (id),
    subject TEXT NOT NULL,
    starts_at BIGINT NOT NULL,
    ends_at BIGINT NOT NULL,
    unit TEXT,
    used BIGINT NOT NULL,
    most BIGINT NOT NULL,
    CONSTRAINT rule_usage_pkey PRIMARY KEY (rule_id, subject, starts_at),
    CONSTRAINT rule_usage_period CHECK (starts_at < ends_at),
    CONSTRAINT rule_usage_unit CHECK ((unit IS NOT NULL) = (subject = 'budget')),
    CONSTRAINT rule_usage_used CHECK (used >= 0 AND used <= most)
);
