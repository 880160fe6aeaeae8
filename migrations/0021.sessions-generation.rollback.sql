ALTER TABLE sessions DROP COLUMN kept_refresh;
ALTER TABLE sessions DROP COLUMN generation;
