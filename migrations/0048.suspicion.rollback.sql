DROP INDEX CONCURRENTLY event_contexts_of_referrals;
DROP INDEX CONCURRENTLY event_contexts_alike;
DROP INDEX CONCURRENTLY clicks_of_key;
DROP INDEX CONCURRENTLY events_purchases_of_referrer;
