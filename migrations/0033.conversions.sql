-- depends: 0032.rules
-- By what a user came, what a review says of it, and whether it has led to anything: conversions counts the events that convert
-- and are not wholly refunded, and converted_at is when the first of them happened, null while there are none.
ALTER TABLE referrals ADD COLUMN source TEXT NOT NULL DEFAULT 'code' CONSTRAINT referrals_source CHECK (
    source = lower(source) AND length(source) BETWEEN 3 AND 20
);
ALTER TABLE referrals ADD COLUMN review TEXT NOT NULL DEFAULT 'none' CONSTRAINT referrals_review CHECK (
    review = lower(review) AND length(review) BETWEEN 3 AND 20
);
ALTER TABLE referrals ADD COLUMN conversions BIGINT NOT NULL DEFAULT 0 CONSTRAINT referrals_conversions CHECK (conversions >= 0);
ALTER TABLE referrals ADD COLUMN converted_at BIGINT CONSTRAINT referrals_converted CHECK (
    (converted_at IS NULL) = (conversions = 0)
);

-- How many referrals of a user are converted, kept in the transactions that convert and retract them. Tiers go by it.
ALTER TABLE users ADD COLUMN converted_count BIGINT NOT NULL DEFAULT 0 CONSTRAINT users_converted_count CHECK (converted_count >= 0);

-- What an event met, by which rules decide: by whom its user had come and when, how many converted referrals that referrer had
-- with this one, and who of both was barred from earning (words: `rejected`, `referrer`, `referee`). converts says that the
-- event counts as a conversion of its user's referral. outcome is what it caused, as JSON, for whoever reports it again.
ALTER TABLE events ADD COLUMN referrer_id TEXT;
ALTER TABLE events ADD COLUMN joined_at BIGINT;
ALTER TABLE events ADD COLUMN tier BIGINT;
ALTER TABLE events ADD COLUMN barred TEXT;
ALTER TABLE events ADD COLUMN converts BIGINT NOT NULL DEFAULT 0 CONSTRAINT events_converts CHECK (converts IN (0, 1));
ALTER TABLE events ADD COLUMN outcome TEXT;

-- Those that were reported before.
UPDATE events SET
    referrer_id = (SELECT r.referrer_id FROM referrals r WHERE r.user_id = events.user_id AND r.joined_at <= events.received_at),
    joined_at = (SELECT r.joined_at FROM referrals r WHERE r.user_id = events.user_id AND r.joined_at <= events.received_at);
UPDATE events SET converts = 1 WHERE type = 'purchase' AND referrer_id IS NOT NULL;
UPDATE referrals SET
    conversions = (
        SELECT count(*) FROM events e
        WHERE e.user_id = referrals.user_id AND e.converts = 1 AND NOT (coalesce(e.amount, 0) > 0 AND e.refunded = e.amount)
    ),
    converted_at = (
        SELECT min(e.occurred_at) FROM events e
        WHERE e.user_id = referrals.user_id AND e.converts = 1 AND NOT (coalesce(e.amount, 0) > 0 AND e.refunded = e.amount)
    );
UPDATE users SET converted_count = (
    SELECT count(*) FROM referrals r WHERE r.referrer_id = users.id AND r.conversions > 0
) WHERE referral_count > 0;
