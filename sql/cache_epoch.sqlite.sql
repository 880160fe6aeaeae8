-- name: find_epoch()^
-- One file has one server for ever.
SELECT epoch, redis, '' AS server FROM cache_epoch WHERE id = 1;

-- name: hold_belief(redis)^
-- A write transaction excludes every other one.
SELECT epoch FROM cache_epoch WHERE id = 1 AND redis = :redis;
