-- name: insert_event(id, at, event, actor_id, user_id, email, address, request_id, detail)!
-- Deferred, and so a statement that breaks no rule whatever it is given: where an account is known the e-mail is left out, and
-- an id that stands already is this very event.
INSERT INTO audit_events (id, at, event, actor_id, user_id, email, address, request_id, detail)
VALUES (:id, :at, :event, :actor_id, :user_id,
        CASE WHEN cast(:user_id as text) IS NULL THEN cast(:email as text) END,
        :address, :request_id, :detail)
ON CONFLICT (id) DO NOTHING;

-- name: count_left_out(id, at, user_id, address, detail)!
-- Deferred, and so a statement that breaks no rule. The one event of the record that changes: its count grows, also when of two
-- transactions the one with the greater count comes first.
INSERT INTO audit_events (id, at, event, user_id, address, detail)
VALUES (:id, :at, 'events-left-out', :user_id, :address, :detail)
ON CONFLICT (id) DO UPDATE SET detail = excluded.detail
WHERE length(excluded.detail) > length(audit_events.detail)
   OR (length(excluded.detail) = length(audit_events.detail) AND excluded.detail > audit_events.detail);

-- name: find_events(event, since, page_size)
-- Newest first, of one kind or, with null, of all.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE at >= :since AND (cast(:event as text) IS NULL OR event = cast(:event as text))
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: find_events_of_user(user_id, email_key, event, since, page_size)
-- What a user did, what befell their account, and what was tried with their address while no account was known by it.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE (actor_id = :user_id OR user_id = :user_id OR email = :email_key)
  AND at >= :since AND (cast(:event as text) IS NULL OR event = cast(:event as text))
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: list_events_about_user(user_id, before_time, before_id, page_size)
-- For the user's own export: newest first, from the cursor on.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE (actor_id = :user_id OR user_id = :user_id) AND (at, id) < (:before_time, :before_id)
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: list_audit(event, since, before_time, before_id, page_size)
-- Newest first, from the cursor on: of one kind or, with null, of all. What is rare is found by reading back by time.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE at >= :since AND at <= :before_time AND (at, id) < (:before_time, :before_id)
  AND (cast(:event as text) IS NULL OR event = cast(:event as text))
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: list_audit_of_user(user_id, event, since, before_time, before_id, page_size)
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE (actor_id = :user_id OR user_id = :user_id) AND at >= :since AND (at, id) < (:before_time, :before_id)
  AND (cast(:event as text) IS NULL OR event = cast(:event as text))
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: list_acts_on_reward(user_id, reward_id, page_size)
-- What was done to one reward by hand. The user's own events are read, no others.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM (
    SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
    WHERE user_id = :user_id AND event LIKE 'reward-%' AND detail LIKE '%"' || cast(:reward_id as text) || '"%'
    ORDER BY at DESC, id DESC
    LIMIT :page_size
) AS found
ORDER BY at, id;

-- name: count_audit(event, since, sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM audit_events
    WHERE at >= :since AND (cast(:event as text) IS NULL OR event = cast(:event as text))
    LIMIT :sample_size
) AS found;

-- name: count_audit_of_user(user_id, event, since, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM audit_events
    WHERE (actor_id = :user_id OR user_id = :user_id) AND at >= :since
      AND (cast(:event as text) IS NULL OR event = cast(:event as text))
    LIMIT :sample_size
) AS found;

-- name: erase_addresses(user_id)!
-- With the account, from where it was used and tried, and why it was suspended, which is an operator's own words. The events
-- stay, and so does the address of an admin who had to do with it.
UPDATE audit_events SET
    address = CASE WHEN actor_id IS NULL OR actor_id = :user_id THEN NULL ELSE address END,
    detail = CASE WHEN event = 'account-suspended' AND user_id = :user_id THEN '{}' ELSE detail END
WHERE actor_id = :user_id OR (user_id = :user_id AND (actor_id IS NULL OR event = 'account-suspended'));

-- name: adopt_events(user_id, email_key)!
-- The account gets another address: what was tried with the former one is found by the account from now on, and goes with it.
UPDATE audit_events SET user_id = :user_id, email = NULL WHERE email = :email_key;

-- name: erase_email(email_key)!
-- With the account, what was tried with its e-mail address. Apart from the above: most events have none, and a plan for both
-- would read them all.
UPDATE audit_events SET email = NULL, address = NULL WHERE email = :email_key;

-- name: delete_old_events_of_nobody(before, batch_size)
-- As below, what belongs to no account.
DELETE FROM audit_events WHERE id IN (
    SELECT id FROM audit_events WHERE user_id IS NULL AND at < :before ORDER BY at LIMIT :batch_size
)
RETURNING id;

-- name: delete_old_events(before, batch_size)
-- So many at a time: a shorter retention must not hold everybody's writes up while a year goes.
DELETE FROM audit_events WHERE id IN (SELECT id FROM audit_events WHERE at < :before ORDER BY at LIMIT :batch_size)
RETURNING id;
