-- Webhooks to which changes are queued.

-- name: hold_enabled_webhooks()
-- None of them is taken away before the commit, and so before what is queued for it.
SELECT id, url, types, status, secret, previous_secret, previous_until, created_at, failing_since, disabled_at, disabled_reason
FROM webhooks WHERE status = 'enabled' ORDER BY id FOR KEY SHARE;
