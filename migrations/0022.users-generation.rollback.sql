-- To the version before, a row is a link of the account that it names.
DELETE FROM one_time_tokens WHERE address_hash IS NOT NULL;

DROP INDEX one_time_tokens_of_address;

ALTER TABLE one_time_tokens DROP COLUMN address_hash;
ALTER TABLE one_time_tokens DROP COLUMN generation;
ALTER TABLE users DROP COLUMN generation;
