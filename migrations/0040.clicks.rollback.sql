DROP INDEX events_signups_of_referrer;
DROP INDEX referrals_converted_of_referrer;

DROP TABLE click_days;
DROP TABLE click_visitors;
DROP TABLE click_keys;
DROP TABLE clicks;
