ALTER TABLE sessions DROP COLUMN delegated;
