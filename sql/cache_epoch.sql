-- name: find_epoch()^
SELECT epoch FROM cache_epoch WHERE id = 1;

-- name: advance_epoch()!
-- In the transaction of the change that Redis was not told of.
UPDATE cache_epoch SET epoch = epoch + 1 WHERE id = 1;
