-- depends: 0046.contexts-alike
-- From which network a click came: an HMAC by a key of context_keys, and which key. Both are null where nobody knows, and once
-- the key is thrown away.
ALTER TABLE clicks ADD COLUMN network TEXT;
ALTER TABLE clicks ADD COLUMN network_key TEXT;
