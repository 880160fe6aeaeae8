-- depends: 0016.former-addresses
-- Suspension: an admin's decision, with the reason. A suspended account signs in nowhere and its code is not active, until it
-- is unsuspended. The reason is the operator's own words; it goes with the account, which is not suspended once it is erased.
ALTER TABLE users ADD COLUMN suspended_at BIGINT;
ALTER TABLE users ADD COLUMN suspended_reason TEXT
    CONSTRAINT users_suspension CHECK (
        (suspended_at IS NULL) = (suspended_reason IS NULL) AND (suspended_at IS NULL OR erased_at IS NULL)
    );
