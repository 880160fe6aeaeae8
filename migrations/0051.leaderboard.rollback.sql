DROP INDEX CONCURRENTLY events_purchases_by_time;
DROP INDEX CONCURRENTLY referrals_by_conversion;
DROP INDEX CONCURRENTLY referrals_by_time;
DROP INDEX CONCURRENTLY users_by_converted;
DROP INDEX CONCURRENTLY users_by_referrals;
