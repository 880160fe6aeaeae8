-- depends: 0040.clicks
-- The run id of the Redis process that all workers believe: what another one says counts for nothing. While one takes another's
-- place this is 'next', the run id of the new one and a random word, and nobody believes any. NULL: there was none yet.
ALTER TABLE cache_epoch ADD COLUMN redis TEXT;
