-- name: advance_epoch()!
-- In the transaction of the change that Redis was not told of.
UPDATE cache_epoch SET epoch = epoch + 1 WHERE id = 1;

-- name: propose_redis(redis, candidate)^
-- Ends the belief in another Redis. The first one of all is believed at once: nobody can still believe another.
UPDATE cache_epoch SET
    epoch = epoch + 1,
    redis = CASE
        WHEN redis IS NULL THEN cast(:redis as text)
        WHEN redis LIKE 'next ' || :redis || ' %' THEN redis
        ELSE cast(:candidate as text)
    END
WHERE id = 1 AND (redis IS NULL OR redis <> :redis)
RETURNING redis;

-- name: accept_redis(redis, candidate)!
UPDATE cache_epoch SET redis = :redis WHERE id = 1 AND redis = :candidate;
