ALTER TABLE _yoyo_migration DROP COLUMN contracts;
