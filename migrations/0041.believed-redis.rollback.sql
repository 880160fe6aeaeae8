ALTER TABLE cache_epoch DROP COLUMN redis;
