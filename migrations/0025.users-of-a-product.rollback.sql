DROP INDEX users_suspended;
DROP INDEX users_by_time;
DROP INDEX users_by_name;
DROP INDEX users_external_id;

ALTER TABLE users DROP COLUMN suspension_ended_at;
ALTER TABLE users DROP COLUMN signed_up_at;
ALTER TABLE users DROP COLUMN metadata;
ALTER TABLE users DROP COLUMN name_key;
ALTER TABLE users DROP COLUMN name;
ALTER TABLE users DROP COLUMN external_id;
