DROP INDEX referrals_of_referrer;

-- A referrer's referrals, newest first: a page starts at its cursor, however deep it lies.
CREATE INDEX referrals_of_referrer ON referrals (referrer_id, joined_at, user_id);
