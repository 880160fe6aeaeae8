-- depends: 0014.users-email-keys
-- A mailed link proves one address, the one that it was mailed to: a link that is older than a change of the account's address
-- must not speak for the new one, and the link of a change says which address it is to be. A used link stays until it expires,
-- so that a second press of its button can say that it is done. Links from before this step are of the account's own address.
ALTER TABLE one_time_tokens ADD COLUMN email TEXT;
ALTER TABLE one_time_tokens ADD COLUMN used_at BIGINT;
