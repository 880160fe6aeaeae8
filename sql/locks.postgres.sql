-- Locks that PostgreSQL needs. SQLite has none of them: a write transaction excludes every other one.

-- name: lock_user(user_id)^
-- Before statements that rely on what the user's rows say together: two new codes at once, a code or a session for an account
-- that is being erased, a session by a password that is being changed. Not FOR UPDATE: references to the user from other
-- transactions need not wait.
SELECT id FROM users WHERE id = :user_id FOR NO KEY UPDATE;

-- name: lock_users(user_ids)
-- Several users at once, in one order, so that two transactions never wait for each other.
SELECT u.id FROM users u WHERE u.id IN (SELECT m.id FROM jsonb_array_elements_text(cast(:user_ids as jsonb)) AS m (id))
ORDER BY u.id
FOR NO KEY UPDATE;

-- name: hold_address(user_id)^
-- Before a link is kept that is mailed to the user's address: nobody changes the address before the link is there. That takes
-- the key of the row, and nothing else does.
SELECT id FROM users WHERE id = :user_id FOR KEY SHARE;

-- name: lock_referrers()^
-- Before a referrer is set after registration. A cycle can be closed by links that several transactions make at once, each of
-- which sees none of the others: they go one by one.
SELECT id FROM referrers_lock WHERE id = 1 FOR NO KEY UPDATE;

-- name: hold_rules()!
-- Before a transaction reads rules by which it makes rewards, or gives back what void ones took of a rule's limits: no rule is
-- changed until its end. It is the weakest lock of a table that keeps `change_rules` out, and writes nothing.
LOCK TABLE rules IN ROW SHARE MODE;

-- name: change_rules()!
-- Before a rule is changed: every reward by the version before is there, and is counted in the new limits. Waiting for it, this
-- lets no others pass, so that a busy service can be given other rules, too.
LOCK TABLE rules IN EXCLUSIVE MODE;

-- name: lock_reward(reward_id)^
SELECT id FROM rewards WHERE id = :reward_id FOR NO KEY UPDATE;

-- name: lock_rewards_of_event(event_id)
-- In one order, before any account is moved.
SELECT id FROM rewards WHERE event_id = :event_id ORDER BY id FOR NO KEY UPDATE;

-- name: lock_rewards_of_referral(user_id)
SELECT id FROM rewards WHERE referral_user_id = :user_id ORDER BY id FOR NO KEY UPDATE;

-- name: lock_redemption(redemption_id)^
SELECT id FROM redemptions WHERE id = :redemption_id FOR NO KEY UPDATE;

-- name: lock_account(user_id, unit)^
-- Before a balance is read that the same transaction changes.
SELECT unit FROM accounts WHERE user_id = :user_id AND unit = :unit FOR NO KEY UPDATE;

-- name: lock_accounts(accounts)
-- Before several accounts are moved: in one order, so that two transactions never wait for each other.
SELECT a.user_id FROM accounts a
JOIN jsonb_to_recordset(cast(:accounts as jsonb)) AS m (user_id text, unit text) ON m.user_id = a.user_id AND m.unit = a.unit
ORDER BY a.user_id, a.unit
FOR NO KEY UPDATE OF a;

-- name: lock_usage(given)
-- Before limits are given back: in the order in which events take them, rule by rule, the referrer's before the budget.
SELECT g.rule_id FROM rule_usage g
WHERE EXISTS (
    SELECT 1 FROM jsonb_to_recordset(cast(:given as jsonb)) AS m (rule_id text, referrer_id text, made_at bigint)
    WHERE m.rule_id = g.rule_id AND g.subject IN ('budget', m.referrer_id) AND g.starts_at <= m.made_at AND g.ends_at > m.made_at
)
ORDER BY g.rule_id, CASE g.subject WHEN 'budget' THEN 1 ELSE 0 END, g.subject, g.starts_at
FOR NO KEY UPDATE;

-- name: lock_webhook(webhook_id)^
-- Before deliveries of a webhook are claimed: one worker at a time looks whether another one has some.
SELECT id FROM webhooks WHERE id = :webhook_id FOR NO KEY UPDATE;

-- name: lock_code_expiries()^
-- Before expired codes are told: one worker tells each once.
SELECT id FROM code_expiries WHERE id = 1 FOR NO KEY UPDATE;

-- name: lock_webhooks()
-- All of them, in one order. Before they are counted, and before what their receivers answered about a user is forgotten: no
-- attempt is marked meanwhile, and none is claimed, so that neither waits for the other in the middle.
SELECT id FROM webhooks ORDER BY id FOR NO KEY UPDATE;
