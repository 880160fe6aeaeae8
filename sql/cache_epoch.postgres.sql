-- name: find_epoch()^
-- A standby that was promoted, and a server that crashed, may have lost commits: each has its own start.
SELECT epoch, redis, cast(extract(epoch FROM pg_postmaster_start_time()) AS text) AS server FROM cache_epoch WHERE id = 1;

-- name: hold_belief(redis)^
-- Until the end of the transaction nobody makes another Redis the believed one.
SELECT epoch FROM cache_epoch WHERE id = 1 AND redis = :redis FOR SHARE;
