ALTER TABLE event_contexts DROP COLUMN referrer_id;
ALTER TABLE event_contexts DROP COLUMN at;
