-- depends: 0002.codes
-- Who came by whom. The referred user is the key: at most one referrer a user, and for good.
-- users.referral_count is kept in the transaction that inserts here.
CREATE TABLE referrals (
    user_id TEXT NOT NULL PRIMARY KEY REFERENCES users (id),
    referrer_id TEXT NOT NULL REFERENCES users (id),
    code TEXT NOT NULL REFERENCES codes (code),
    joined_at BIGINT NOT NULL,
    CONSTRAINT referrals_not_self CHECK (user_id <> referrer_id)
);

-- A referrer's referrals, newest first: a page starts at its cursor, however deep it lies.
CREATE INDEX referrals_of_referrer ON referrals (referrer_id, joined_at, user_id);
