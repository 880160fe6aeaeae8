-- depends: 0020.audit-of-strangers
-- A password change begins another generation of its session. Of the former ones, only the access tokens go on that came with
-- the refresh token whose hash begins so.
ALTER TABLE sessions ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN kept_refresh TEXT NOT NULL DEFAULT '';

-- The refresh token that goes on with it is used once, which no time tells: two uses may be of one millisecond.
ALTER TABLE refresh_tokens ADD COLUMN uses BIGINT NOT NULL DEFAULT 0;

UPDATE refresh_tokens SET uses = 1 WHERE used_at IS NOT NULL;
