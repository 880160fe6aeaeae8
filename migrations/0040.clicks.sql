-- depends: 0039.code-expiries
-- Clicks on share links, and those that pages report. robot says that no person clicked. The page that the link leads to has the
-- id, by which whoever signs up there comes by the code's owner. Nothing here says who it was.
CREATE TABLE clicks (
    id TEXT NOT NULL PRIMARY KEY,
    code TEXT NOT NULL REFERENCES codes (code),
    clicked_at BIGINT NOT NULL,
    robot BIGINT NOT NULL,
    CONSTRAINT clicks_robot CHECK (robot IN (0, 1))
);

-- Housekeeping deletes the old ones.
CREATE INDEX clicks_by_time ON clicks (clicked_at);

-- The key of each day's HMACs of visitors, by the day's first millisecond. It is deleted before it is 48 hours old: what it made
-- says nothing to anybody from then on, and is deleted, too.
CREATE TABLE click_keys (
    day BIGINT NOT NULL PRIMARY KEY,
    secret TEXT NOT NULL,
    CONSTRAINT click_keys_day CHECK (day % 86400000 = 0),
    CONSTRAINT click_keys_secret CHECK (length(secret) = 64)
);

-- Visitors of a code on a day, each once: the HMAC of code, address and agent.
CREATE TABLE click_visitors (
    day BIGINT NOT NULL,
    code TEXT NOT NULL,
    hash TEXT NOT NULL,
    CONSTRAINT click_visitors_pkey PRIMARY KEY (day, code, hash),
    CONSTRAINT click_visitors_hash CHECK (length(hash) = 32)
);

-- How often a code was clicked on a day, for ever: by people, by how many of them, by how many of their clicks from a QR code, and
-- by robots. Kept in the transactions that insert the clicks. referrer_id is the code's, and refers to no user's row: clicks wait for
-- nobody who has that.
CREATE TABLE click_days (
    code TEXT NOT NULL REFERENCES codes (code),
    day BIGINT NOT NULL,
    referrer_id TEXT NOT NULL,
    clicks BIGINT NOT NULL,
    visitors BIGINT NOT NULL,
    qr BIGINT NOT NULL,
    robots BIGINT NOT NULL,
    CONSTRAINT click_days_pkey PRIMARY KEY (code, day),
    CONSTRAINT click_days_day CHECK (day % 86400000 = 0),
    CONSTRAINT click_days_counts CHECK (visitors BETWEEN 0 AND clicks AND qr BETWEEN 0 AND clicks AND robots >= 0)
);

-- The days of all codes of a referrer.
CREATE INDEX click_days_of_referrer ON click_days (referrer_id, day);

-- When a referrer's referrals converted, and when those who came by them signed up.
CREATE INDEX referrals_converted_of_referrer ON referrals (referrer_id, converted_at) WHERE converted_at IS NOT NULL;
CREATE INDEX events_signups_of_referrer ON events (referrer_id, occurred_at) WHERE type = 'signup' AND referrer_id IS NOT NULL;
