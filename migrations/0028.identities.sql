-- depends: 0027.service-keys
-- Who somebody is at an identity provider whose subjects are no ids of the product's: RFC 7519's iss and sub. A user may have
-- several. They go with the account.
CREATE TABLE identities (
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at BIGINT NOT NULL,
    CONSTRAINT identities_pkey PRIMARY KEY (issuer, subject)
);

-- Tokens of a user's identities end with suspension, and the identities with the account.
CREATE INDEX identities_of_user ON identities (user_id);
