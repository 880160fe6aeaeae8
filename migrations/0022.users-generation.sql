-- depends: 0021.sessions-generation
-- Whoever is put out of an account, by another password or by its operator, must not take it back by a change of its address
-- that they asked for. Putting out begins another generation of the account; a link that changes the address is good in the
-- generation in which its asker showed the password. Links from before this step are of none.
ALTER TABLE users ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE one_time_tokens ADD COLUMN generation BIGINT;

-- A reset of the password is for whoever reads the mailbox. Whoever holds an account whose address was never verified must not
-- end such links by leaving it: they wait under a keyed hash of the address for the next account that has it.
ALTER TABLE one_time_tokens ADD COLUMN address_hash TEXT;

-- Whoever registers takes over what was left with the address.
CREATE INDEX one_time_tokens_of_address ON one_time_tokens (address_hash) WHERE address_hash IS NOT NULL;
