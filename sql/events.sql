-- Events that were reported of users. Those of the audit are in audit.sql.

-- name: insert_event_of_user(id, type, user_id, received_at, occurred_at, unit, amount, refunds, code, click_id, metadata, attribution, reason, ignored, body_hash, referrer_id, joined_at, tier, barred, converts, outcome)^
-- No row when the id is taken: of equal reports at once, one is recorded.
INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunds, code, click_id, metadata, attribution,
    reason, ignored, body_hash, referrer_id, joined_at, tier, barred, converts, outcome)
VALUES (:id, :type, :user_id, :received_at, :occurred_at, :unit, :amount, :refunds, :code, :click_id, :metadata, :attribution,
    :reason, :ignored, :body_hash, :referrer_id, :joined_at, :tier, :barred, :converts, :outcome)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: insert_event_once(id, type, user_id, received_at, occurred_at, unit, amount, refunds, code, click_id, metadata, attribution, reason, ignored, body_hash, referrer_id, joined_at, tier, barred, converts, outcome)!
-- A violation of events_pkey when the id is taken. Deferred: whoever reports an event expects that of any statement of theirs.
INSERT INTO events (id, type, user_id, received_at, occurred_at, unit, amount, refunds, code, click_id, metadata, attribution,
    reason, ignored, body_hash, referrer_id, joined_at, tier, barred, converts, outcome)
VALUES (:id, :type, :user_id, :received_at, :occurred_at, :unit, :amount, :refunds, :code, :click_id, :metadata, :attribution,
    :reason, :ignored, :body_hash, :referrer_id, :joined_at, :tier, :barred, :converts, :outcome);

-- name: find_reported_event(id)^
SELECT id, type, user_id, received_at, occurred_at, unit, amount, refunded, refunds, code, click_id, metadata, attribution,
       reason, ignored, body_hash, converts, outcome
FROM events WHERE id = :id;

-- name: refund_event(id, amount)^
-- Conditional on what is left: of two refunds at once of the same rest, one finds no row. With null, all that is left.
UPDATE events SET refunded = refunded + coalesce(cast(:amount as bigint), amount - refunded)
WHERE id = :id AND amount - refunded >= coalesce(cast(:amount as bigint), 1)
RETURNING refunded;

-- name: has_bought(user_id, before)^
-- By when it happened: reports may come in another order. Of two at the same time, the one reported first counts as the first.
SELECT id FROM events WHERE user_id = :user_id AND type = 'purchase' AND occurred_at <= :before LIMIT 1;

-- name: list_events(since, before_time, before_id, page_size)
-- Newest first, from the cursor on, of all types.
SELECT id, type, user_id, received_at, occurred_at, unit, amount, refunded, refunds, code, click_id, metadata, attribution,
       reason, ignored, body_hash, converts, outcome
FROM events
WHERE received_at >= :since AND (received_at, id) < (:before_time, :before_id)
ORDER BY received_at DESC, id DESC
LIMIT :page_size;

-- name: list_events_of_type(type, since, before_time, before_id, page_size)
SELECT id, type, user_id, received_at, occurred_at, unit, amount, refunded, refunds, code, click_id, metadata, attribution,
       reason, ignored, body_hash, converts, outcome
FROM events
-- PostgreSQL would read all types by time for a rare one, but for the comparison that begins with the type. SQLite bounds what it
-- reads by the other one.
WHERE type = :type AND received_at >= :since AND received_at <= :before_time
  AND (type, received_at, id) < (:type, :before_time, :before_id)
ORDER BY type DESC, received_at DESC, id DESC
LIMIT :page_size;

-- name: list_events_of_user(user_id, type, since, before_time, before_id, page_size)
SELECT id, type, user_id, received_at, occurred_at, unit, amount, refunded, refunds, code, click_id, metadata, attribution,
       reason, ignored, body_hash, converts, outcome
FROM events
WHERE user_id = :user_id AND (cast(:type as text) IS NULL OR type = cast(:type as text)) AND received_at >= :since
  AND (received_at, id) < (:before_time, :before_id)
ORDER BY received_at DESC, id DESC
LIMIT :page_size;

-- name: count_events(since, sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM events WHERE received_at >= :since LIMIT :sample_size
) AS found;

-- name: count_events_of_type(type, since, sample_size)^
-- In the order of the index: else PostgreSQL would read all of the table for a rare type.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM events WHERE type = :type AND received_at >= :since ORDER BY type, received_at LIMIT :sample_size
) AS found;

-- name: count_events_of_user(user_id, type, since, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM events
    WHERE user_id = :user_id AND (cast(:type as text) IS NULL OR type = cast(:type as text)) AND received_at >= :since
    LIMIT :sample_size
) AS found;

-- name: forget_events_of_user(user_id, before_time, before_id, batch_size)
-- With the user, what is personal of the events, so many at a time. The id, the type, the times and the value stay, and a code by
-- which the user came, which is the referrer's.
UPDATE events SET metadata = NULL, body_hash = NULL, click_id = NULL,
    code = CASE WHEN attribution = 'attributed' THEN code END
WHERE id IN (
    SELECT e.id FROM events e
    WHERE e.user_id = :user_id AND (e.received_at, e.id) < (:before_time, :before_id)
    ORDER BY e.received_at DESC, e.id DESC
    LIMIT :batch_size
)
RETURNING received_at, id;

-- name: list_past_events(type, after_time, after_id, page_size)
-- In the order of their reports, with what they met.
SELECT id, user_id, received_at, occurred_at, type, unit, amount, refunds, metadata, referrer_id, joined_at, tier, barred
FROM events
WHERE type = :type AND received_at >= :after_time AND (type, received_at, id) > (:type, :after_time, :after_id)
ORDER BY type, received_at, id
LIMIT :page_size;

-- name: forget_conversions(user_id)!
-- The user came by nobody: none of their events converts a referral.
UPDATE events SET converts = 0 WHERE user_id = :user_id AND converts = 1;
