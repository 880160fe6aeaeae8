-- Webhooks: made, changed and ended by admins. A deleted one is seen by nobody but whoever clears up behind it.

-- name: insert_webhook(id, url, types, secret, now)^
-- No row where there is, or was just now, one of this id.
INSERT INTO webhooks (id, url, types, status, secret, created_at) VALUES (:id, :url, :types, 'enabled', :secret, :now)
ON CONFLICT (id) DO NOTHING
RETURNING id;

-- name: count_webhooks()^
SELECT count(*) AS total FROM webhooks WHERE status <> 'deleted';

-- name: list_webhooks(before_time, before_id, page_size)
-- Newest first, from the cursor on.
SELECT id, url, types, status, secret, previous_secret, previous_until, created_at, failing_since, disabled_at, disabled_reason
FROM webhooks
WHERE status <> 'deleted' AND (created_at, id) < (:before_time, :before_id)
ORDER BY created_at DESC, id DESC
LIMIT :page_size;

-- name: find_webhook(webhook_id)^
SELECT id, url, types, status, secret, previous_secret, previous_until, created_at, failing_since, disabled_at, disabled_reason
FROM webhooks WHERE id = :webhook_id AND status <> 'deleted';

-- name: list_all_webhooks()
-- Deleted ones, too: for the workers.
SELECT id, url, types, status, secret, previous_secret, previous_until, created_at, failing_since, disabled_at, disabled_reason
FROM webhooks ORDER BY id;

-- name: update_webhook(webhook_id, url, types)!
-- What another URL did says nothing of this one.
UPDATE webhooks SET failing_since = CASE WHEN url = :url THEN failing_since END, url = :url, types = :types WHERE id = :webhook_id;

-- name: enable_webhook(webhook_id)!
-- The time of failures begins anew.
UPDATE webhooks SET status = 'enabled', disabled_at = NULL, disabled_reason = NULL, failing_since = NULL
WHERE id = :webhook_id AND status = 'disabled';

-- name: disable_webhook(webhook_id, status, reason, now)^
-- Once: of two that disable one, one finds no row. A deleted one keeps the time when it was disabled.
UPDATE webhooks SET status = :status, disabled_at = coalesce(disabled_at, :now), disabled_reason = :reason
WHERE id = :webhook_id AND (status = 'enabled' OR (cast(:status as text) = 'deleted' AND status = 'disabled'))
RETURNING id;

-- name: update_webhook_secrets(webhook_id, secret, previous_secret, previous_until)!
UPDATE webhooks SET secret = :secret, previous_secret = :previous_secret, previous_until = :previous_until
WHERE id = :webhook_id;

-- name: note_webhook_success(webhook_id)!
UPDATE webhooks SET failing_since = NULL WHERE id = :webhook_id AND failing_since IS NOT NULL;

-- name: note_webhook_failure(webhook_id, now)^
-- Since when everything fails. A clock that was set back does not make that time longer.
UPDATE webhooks SET failing_since = CASE WHEN failing_since <= :now THEN failing_since ELSE :now END
WHERE id = :webhook_id AND status = 'enabled'
RETURNING failing_since;

-- name: delete_webhook(webhook_id)!
DELETE FROM webhooks WHERE id = :webhook_id AND status = 'deleted';

-- name: find_replay(webhook_id)^
SELECT webhook_id, since, types, next_seq, last_seq FROM replays WHERE webhook_id = :webhook_id;

-- name: list_replays()
SELECT webhook_id, since, types, next_seq, last_seq FROM replays ORDER BY webhook_id;

-- name: insert_replay(webhook_id, since, types, next_seq, last_seq)^
-- No row while another replay of the webhook is under way.
INSERT INTO replays (webhook_id, since, types, next_seq, last_seq) VALUES (:webhook_id, :since, :types, :next_seq, :last_seq)
ON CONFLICT (webhook_id) DO NOTHING
RETURNING webhook_id;

-- name: advance_replay(webhook_id, next_seq)!
UPDATE replays SET next_seq = :next_seq WHERE webhook_id = :webhook_id;

-- name: delete_replay(webhook_id)!
DELETE FROM replays WHERE webhook_id = :webhook_id;

-- name: count_ailing_webhooks()^
SELECT count(*) AS total FROM webhooks WHERE status = 'disabled' OR (status = 'enabled' AND failing_since IS NOT NULL);
