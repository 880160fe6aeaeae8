ALTER TABLE refresh_tokens DROP COLUMN uses;
ALTER TABLE sessions DROP COLUMN kept_refresh;
ALTER TABLE sessions DROP COLUMN generation;
