-- To the version before, a row is a link that can be used.
DELETE FROM one_time_tokens WHERE used_at IS NOT NULL OR purpose = 'change-email';

ALTER TABLE one_time_tokens DROP COLUMN used_at;
ALTER TABLE one_time_tokens DROP COLUMN email;
