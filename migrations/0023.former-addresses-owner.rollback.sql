DROP INDEX former_addresses_of_user;

ALTER TABLE former_addresses DROP COLUMN user_id;
