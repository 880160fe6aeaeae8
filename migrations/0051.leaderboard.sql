-- depends: 0050.programme-stats-triggers
-- transactional: false
-- Who referred the most, of all time and in a period, for the leaderboard.

-- Who has the most referrals.
CREATE INDEX CONCURRENTLY users_by_referrals ON users (referral_count DESC, id)
    WHERE referral_count > 0 AND erased_at IS NULL AND suspended_at IS NULL;

-- Who has the most converted ones.
CREATE INDEX CONCURRENTLY users_by_converted ON users (converted_count DESC, id)
    WHERE converted_count > 0 AND erased_at IS NULL AND suspended_at IS NULL;

-- By whom users came in a period.
CREATE INDEX CONCURRENTLY referrals_by_time ON referrals (joined_at, referrer_id);

-- By whom those came who converted in a period.
CREATE INDEX CONCURRENTLY referrals_by_conversion ON referrals (converted_at, referrer_id) WHERE converted_at IS NOT NULL;

-- What users bought in a period, by whom they had come.
CREATE INDEX CONCURRENTLY events_purchases_by_time ON events (unit, occurred_at, referrer_id, amount)
    WHERE type = 'purchase' AND referrer_id IS NOT NULL;
