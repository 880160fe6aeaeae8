DROP TABLE event_contexts;
DROP TABLE context_keys;
