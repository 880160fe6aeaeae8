DROP INDEX audit_events_of_user;

-- What happened to an account, for an operator's question and for the account's erasure.
CREATE INDEX audit_events_of_user ON audit_events (user_id);
