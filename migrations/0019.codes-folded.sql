-- depends: 0018.signing-keys
-- Codes compare by Crockford's folding: O is 0, and I and L are 1. code_key is the folded text, which the service makes; it is
-- null for a code of a version that did not fold, if it would be another one's. Such a code is found by its own text, which
-- comes before any key. Of codes that fold alike the one has the key that is not revoked and ends last.
ALTER TABLE codes ADD COLUMN code_key TEXT CONSTRAINT codes_code_key_folded CHECK (
    code_key = replace(replace(replace(code, 'O', '0'), 'I', '1'), 'L', '1') AND code_key <> 'BY-EMA11'
);

UPDATE codes SET code_key = replace(replace(replace(code, 'O', '0'), 'I', '1'), 'L', '1')
WHERE code IN (
    SELECT ranked.code FROM (
        SELECT code, row_number() OVER (
            PARTITION BY replace(replace(replace(code, 'O', '0'), 'I', '1'), 'L', '1')
            ORDER BY CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END, expires_at DESC, created_at, code
        ) AS place
        FROM codes
    ) AS ranked
    WHERE ranked.place = 1
) AND replace(replace(replace(code, 'O', '0'), 'I', '1'), 'L', '1') <> 'BY-EMA11';

-- One code a folded text; the look-up of a code that somebody has misread.
CREATE UNIQUE INDEX codes_code_key ON codes (code_key);

-- How many codes a user ever made: the total of the list, which costs the same however many there are. It is kept in the
-- transaction that inserts the code.
ALTER TABLE users ADD COLUMN code_count BIGINT NOT NULL DEFAULT 0 CONSTRAINT users_code_count CHECK (code_count >= 0);

UPDATE users SET code_count = (SELECT count(*) FROM codes WHERE codes.referrer_id = users.id)
WHERE id IN (SELECT referrer_id FROM codes);
