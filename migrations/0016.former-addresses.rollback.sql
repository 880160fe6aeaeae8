ALTER TABLE users DROP COLUMN unattributable_at;

DROP TABLE former_addresses;
