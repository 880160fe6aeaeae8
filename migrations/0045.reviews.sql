-- depends: 0044.outbox-listed
-- What makes a referral look suspicious. user_id is who came by somebody; of each kind there is one signal for a reference, which
-- tells several of a kind apart. The evidence, as JSON, goes before the signal does. judged says that whoever decided the review saw
-- it. A referral that is taken back takes its signals and its review along.
CREATE TABLE signals (
    user_id TEXT NOT NULL REFERENCES referrals (user_id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    weight BIGINT NOT NULL,
    evidence TEXT,
    at BIGINT NOT NULL,
    judged BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT signals_pkey PRIMARY KEY (user_id, kind, reference),
    CONSTRAINT signals_kind CHECK (kind = lower(kind) AND length(kind) BETWEEN 3 AND 40),
    CONSTRAINT signals_weight CHECK (weight BETWEEN 0 AND 1000),
    CONSTRAINT signals_judged CHECK (judged IN (0, 1))
);

-- Evidence that is only kept for a time.
CREATE INDEX signals_with_evidence ON signals (kind, at) WHERE evidence IS NOT NULL;

-- The review of a referral, which somebody decides. score is what its signals come to: now while it is open, then what they came to
-- when it was decided. Who decided is a user, or a key by its name. suspends says that the referrer was suspended with it.
-- referrals.review has the same word as status, and is changed in the same transaction.
CREATE TABLE reviews (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES referrals (user_id) ON DELETE CASCADE,
    status TEXT NOT NULL,
    score BIGINT NOT NULL,
    opened_at BIGINT NOT NULL,
    reminded_at BIGINT,
    decided_at BIGINT,
    decided_by_user TEXT REFERENCES users (id),
    decided_by_key TEXT,
    reason TEXT,
    suspends BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT reviews_status CHECK (status = lower(status) AND length(status) BETWEEN 3 AND 20),
    CONSTRAINT reviews_score CHECK (score >= 0),
    CONSTRAINT reviews_decided CHECK ((status = 'open') = (decided_at IS NULL)),
    CONSTRAINT reviews_decider CHECK (
        (decided_at IS NULL) = (decided_by_user IS NULL AND decided_by_key IS NULL)
        AND (decided_by_user IS NULL OR decided_by_key IS NULL) AND (decided_at IS NOT NULL OR reason IS NULL)
    ),
    CONSTRAINT reviews_suspends CHECK (suspends = 0 OR (suspends = 1 AND decided_at IS NOT NULL))
);

-- Reviews, newest first, of all states or of one.
CREATE INDEX reviews_by_time ON reviews (opened_at, user_id);
CREATE INDEX reviews_in_state ON reviews (status, opened_at, user_id);

-- Those that somebody is to be reminded of.
CREATE INDEX reviews_unreminded ON reviews (opened_at) WHERE decided_at IS NULL AND reminded_at IS NULL;

-- Whose referrals are suspicious by themselves: values of a kind (such as addresses), in the form in which they are compared.
CREATE TABLE blocks (
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    note TEXT,
    created_at BIGINT NOT NULL,
    CONSTRAINT blocks_pkey PRIMARY KEY (kind, value),
    CONSTRAINT blocks_kind CHECK (kind = lower(kind) AND length(kind) BETWEEN 3 AND 20)
);

-- All of them, or those of a kind, newest first.
CREATE INDEX blocks_by_time ON blocks (created_at, kind, value);
CREATE INDEX blocks_of_kind ON blocks (kind, created_at, value);
