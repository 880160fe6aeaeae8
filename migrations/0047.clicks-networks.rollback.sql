ALTER TABLE clicks DROP COLUMN network_key;
ALTER TABLE clicks DROP COLUMN network;
