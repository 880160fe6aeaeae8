-- name: insert_mail(id, kind, user_id, recipient, language, params, now)!
INSERT INTO outbox (id, kind, user_id, recipient, language, params, created_at, next_attempt_at)
VALUES (:id, :kind, :user_id, :recipient, :language, :params, :now, :now);

-- name: delete_mail(id)!
DELETE FROM outbox WHERE id = :id;

-- name: postpone_mail(id, next_attempt_at, attempts, error)!
UPDATE outbox SET next_attempt_at = :next_attempt_at, attempts = :attempts, last_error = :error WHERE id = :id;

-- name: fail_mail(id, now, error)!
UPDATE outbox SET failed_at = :now, last_error = :error WHERE id = :id;

-- name: find_next_mail_time()^
-- When the worker must wake up at the latest.
SELECT min(next_attempt_at) AS due_at FROM outbox WHERE failed_at IS NULL;

-- name: delete_mail_of_user(user_id, email_key)!
-- With the account, whatever waits for it. Password resets are queued by address; without one they stay.
DELETE FROM outbox WHERE user_id = :user_id OR recipient = :email_key;

-- name: delete_resets(kind, email_key)!
-- Asked for before another one set the password: the link would undo that.
DELETE FROM outbox WHERE kind = :kind AND recipient = :email_key;

-- name: delete_mail_of_kind(user_id, kind)!
DELETE FROM outbox WHERE user_id = :user_id AND kind = :kind;

-- name: hold_mail(id)^
-- Whoever wants to delete it waits until the transaction ends.
UPDATE outbox SET attempts = attempts WHERE id = :id RETURNING id;

-- name: list_mail_of_user(user_id)
SELECT kind, recipient, created_at FROM outbox WHERE user_id = :user_id ORDER BY created_at, id;

-- name: find_mail()
-- All that waits and all that failed, oldest first, for the operator.
SELECT id, kind, recipient, attempts, created_at, next_attempt_at, failed_at, last_error FROM outbox ORDER BY created_at, id;

-- name: list_outbox(before_time, before_id, page_size)
-- What waits and what failed, newest first, from the cursor on.
SELECT id, kind, recipient, attempts, created_at, next_attempt_at, failed_at, last_error FROM outbox
WHERE (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: list_failed_mail(before_time, before_id, page_size)
SELECT id, kind, recipient, attempts, created_at, next_attempt_at, failed_at, last_error FROM outbox
WHERE failed_at IS NOT NULL AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: list_waiting_mail(before_time, before_id, page_size)
SELECT id, kind, recipient, attempts, created_at, next_attempt_at, failed_at, last_error FROM outbox
WHERE failed_at IS NULL AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: find_queued_mail(id)^
SELECT id, kind, recipient, attempts, created_at, next_attempt_at, failed_at, last_error FROM outbox WHERE id = :id;

-- name: count_outbox(sample_size)^
-- No further than so many, of each status; along the index of each.
SELECT (SELECT count(*) FROM (SELECT 1 AS one FROM outbox WHERE failed_at IS NULL AND next_attempt_at >= 0 LIMIT :sample_size) AS w) AS waiting,
       (SELECT count(*) FROM (SELECT 1 AS one FROM outbox WHERE failed_at IS NOT NULL AND created_at >= 0 LIMIT :sample_size) AS f) AS failed;

-- name: retry_mail(id, now)^
-- From the beginning: it has all its attempts and all the time before it is given up again.
UPDATE outbox SET failed_at = NULL, attempts = 0, created_at = :now, next_attempt_at = :now WHERE id = :id RETURNING id;

-- name: retry_failed_mail(now)
UPDATE outbox SET failed_at = NULL, attempts = 0, created_at = :now, next_attempt_at = :now
WHERE failed_at IS NOT NULL
RETURNING id;

-- name: delete_failed_mail(before)!
DELETE FROM outbox WHERE failed_at < :before;

-- name: count_waiting_mail(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM outbox WHERE failed_at IS NULL AND next_attempt_at >= 0 LIMIT :sample_size
) AS found;

-- name: count_failed_mail(sample_size)^
-- Among the oldest, which is where those that failed are.
SELECT count(*) AS total FROM (
    SELECT failed_at FROM outbox WHERE id >= '' ORDER BY id LIMIT :sample_size
) AS found WHERE found.failed_at IS NOT NULL;
