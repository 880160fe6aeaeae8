-- Codes keep their own texts, and compare by these alone again.
ALTER TABLE users DROP COLUMN code_count;

DROP INDEX codes_code_key;

ALTER TABLE codes DROP COLUMN code_key;
