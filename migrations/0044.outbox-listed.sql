-- depends: 0043.contracting-migrations
-- transactional: false
-- Operators look at all mail, newest first.
CREATE INDEX CONCURRENTLY outbox_by_time ON outbox (created_at, id);

-- And at that which failed.
CREATE INDEX CONCURRENTLY outbox_failed ON outbox (created_at, id) WHERE failed_at IS NOT NULL;
