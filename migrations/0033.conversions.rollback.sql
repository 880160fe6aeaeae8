ALTER TABLE events DROP COLUMN outcome;
ALTER TABLE events DROP COLUMN converts;
ALTER TABLE events DROP COLUMN barred;
ALTER TABLE events DROP COLUMN tier;
ALTER TABLE events DROP COLUMN joined_at;
ALTER TABLE events DROP COLUMN referrer_id;

ALTER TABLE users DROP COLUMN converted_count;

ALTER TABLE referrals DROP COLUMN converted_at;
ALTER TABLE referrals DROP COLUMN conversions;
ALTER TABLE referrals DROP COLUMN review;
ALTER TABLE referrals DROP COLUMN source;
