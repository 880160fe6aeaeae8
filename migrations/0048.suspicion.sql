-- depends: 0047.clicks-networks
-- transactional: false

-- Which other referrals of a referrer have the same context.
CREATE INDEX CONCURRENTLY event_contexts_of_referrals ON event_contexts (hash, referrer_id, at);

-- Whether the referrer has it.
CREATE INDEX CONCURRENTLY event_contexts_alike ON event_contexts (hash, user_id, at);

-- Housekeeping forgets those of a key whose secret is gone.
CREATE INDEX CONCURRENTLY clicks_of_key ON clicks (network_key) WHERE network_key IS NOT NULL;

-- How many purchases the referrals of a referrer made, and how many of these were refunded wholly.
CREATE INDEX CONCURRENTLY events_purchases_of_referrer ON events (referrer_id, (amount - refunded))
    WHERE type = 'purchase' AND referrer_id IS NOT NULL;
