-- depends: 0045.reviews
-- When the event happened, and by whom its user had come then: whoever has the same context as another referral of one referrer.
-- Both are null for contexts from before.
ALTER TABLE event_contexts ADD COLUMN at BIGINT;
ALTER TABLE event_contexts ADD COLUMN referrer_id TEXT;
