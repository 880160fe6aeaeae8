-- Webhooks to which changes are queued: the write transaction itself keeps them.

-- name: hold_enabled_webhooks()
SELECT id, url, types, status, secret, previous_secret, previous_until, created_at, failing_since, disabled_at, disabled_reason
FROM webhooks WHERE status = 'enabled' ORDER BY id;
