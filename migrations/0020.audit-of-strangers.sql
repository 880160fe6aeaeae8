-- depends: 0019.codes-folded
-- Events that belong to no account are deleted sooner than others. They are found along the index of users, by time.
DROP INDEX audit_events_of_user;

-- What happened to an account, for an operator's question and for the account's erasure; and what belongs to none, oldest first,
-- for the retention.
CREATE INDEX audit_events_of_user ON audit_events (user_id, at);

-- An event has the service's own id of its request. Clients' ids, which stood here before, may hold anything, an address, too.
UPDATE audit_events SET request_id = NULL WHERE request_id NOT LIKE '________-____-7___-____-____________';
