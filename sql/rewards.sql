-- Rewards: made, released, voided, reversed and fulfilled. What moves money is in ledger.sql.

-- name: insert_reward(id, user_id, side, kind, label, unit, value, by_percentage, status, rule_id, rule_version, event_id, referral_user_id, referrer_id, ordinal, times, needs_approval, release_at, due_at, created_at, approved_at, reason, caller_id, body_hash)!
-- That a reward is given once, and no more often than it may be, is the schema's business. Deferred.
INSERT INTO rewards (id, user_id, side, kind, label, unit, value, by_percentage, status, rule_id, rule_version, event_id,
    referral_user_id, referrer_id, ordinal, times, needs_approval, release_at, due_at, created_at, approved_at, reason, caller_id,
    body_hash)
VALUES (:id, :user_id, :side, :kind, :label, :unit, :value, :by_percentage, :status, :rule_id, :rule_version, :event_id,
    :referral_user_id, :referrer_id, :ordinal, :times, :needs_approval, :release_at, :due_at, :created_at, :approved_at, :reason,
    :caller_id, :body_hash);

-- name: find_reward(reward_id)^
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.id = :reward_id;

-- name: find_reward_by_caller_id(caller_id)^
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.caller_id = :caller_id;

-- name: list_rewards_of_event(event_id)
-- All that an event brought, in the order of their making.
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.event_id = :event_id
ORDER BY w.id;

-- name: list_rewards_of_referral(user_id)
-- All that a user's referral brought, to either side.
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.referral_user_id = :user_id
ORDER BY w.id;

-- name: list_rewards(before_id, page_size)
-- Newest first, from the cursor on: their ids have the time of their making.
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.id < :before_id
ORDER BY w.id DESC
LIMIT :page_size;

-- name: list_rewards_of_user(user_id, rule_id, event_id, status, before_time, before_id, page_size)
-- With null for what does not matter.
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.user_id = :user_id AND (cast(:rule_id as text) IS NULL OR w.rule_id = cast(:rule_id as text))
  AND (cast(:event_id as text) IS NULL OR w.event_id = cast(:event_id as text)) AND (cast(:status as text) IS NULL OR w.status = cast(:status as text))
  AND (w.created_at, w.id) < (:before_time, :before_id)
ORDER BY w.created_at DESC, w.id DESC
LIMIT :page_size;

-- name: list_rewards_of_rule(rule_id, status, before_time, before_id, page_size)
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.rule_id = :rule_id AND (cast(:status as text) IS NULL OR w.status = cast(:status as text))
  AND (w.created_at, w.id) < (:before_time, :before_id)
ORDER BY w.created_at DESC, w.id DESC
LIMIT :page_size;

-- name: list_rewards_in_state(status, before_time, before_id, page_size)
SELECT w.id, w.user_id, w.side, w.kind, w.label, w.unit, w.value, w.by_percentage, w.reversed, w.reversed_by_hand, w.status,
       w.rule_id, w.rule_version, v.definition, w.event_id, w.referral_user_id, w.referrer_id, w.needs_approval, w.release_at,
       w.created_at, w.approved_at, w.fulfilled_at, w.reason, w.reference, w.caller_id, w.body_hash, f.review,
       u.suspended_at
FROM rewards w JOIN users u ON u.id = w.user_id
LEFT JOIN rule_versions v ON v.rule_id = w.rule_id AND v.version = w.rule_version
LEFT JOIN referrals f ON f.user_id = w.referral_user_id
WHERE w.status = :status AND (w.created_at, w.id) < (:before_time, :before_id)
ORDER BY w.created_at DESC, w.id DESC
LIMIT :page_size;

-- name: count_rewards(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM rewards w
    WHERE w.id > ''
    LIMIT :sample_size
) AS found;

-- name: count_rewards_of_user(user_id, rule_id, event_id, status, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM rewards w
    WHERE w.user_id = :user_id AND (cast(:rule_id as text) IS NULL OR w.rule_id = cast(:rule_id as text))
      AND (cast(:event_id as text) IS NULL OR w.event_id = cast(:event_id as text)) AND (cast(:status as text) IS NULL OR w.status = cast(:status as text))
    LIMIT :sample_size
) AS found;

-- name: count_rewards_of_rule(rule_id, status, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM rewards w
    WHERE w.rule_id = :rule_id AND (cast(:status as text) IS NULL OR w.status = cast(:status as text))
    LIMIT :sample_size
) AS found;

-- name: count_rewards_in_state(status, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM rewards w
    WHERE w.status = :status
    LIMIT :sample_size
) AS found;

-- name: remember_approval(reward_id, release_at, due_at)!
-- Somebody approved it, and it goes on waiting for something else.
UPDATE rewards SET needs_approval = 0, release_at = :release_at, due_at = cast(:due_at as bigint)
WHERE id = :reward_id AND status = 'pending';

-- name: fulfil_reward(reward_id, reference, now)^
UPDATE rewards SET status = 'fulfilled', fulfilled_at = :now, reference = cast(:reference as text)
WHERE id = :reward_id AND status = 'approved'
RETURNING id;

-- name: find_next_due_reward()^
SELECT min(due_at) AS due_at FROM rewards WHERE due_at IS NOT NULL;

-- name: park_waiting_reward(reward_id)!
-- What waits for the end of a suspension or a review is due at no time; that end makes it due again. Conditional: it may have
-- ended since the reward was claimed.
UPDATE rewards SET due_at = NULL
WHERE id = :reward_id AND (
    EXISTS (SELECT 1 FROM users u WHERE u.id = rewards.user_id AND u.suspended_at IS NOT NULL)
    OR EXISTS (SELECT 1 FROM referrals f WHERE f.user_id = rewards.referral_user_id AND f.review = 'open')
);

-- name: park_reward(reward_id)!
UPDATE rewards SET due_at = NULL WHERE id = :reward_id;

-- name: resume_rewards_of_user(user_id, soon)!
-- What waited for the end of the user's suspension is due at its time again; so is what is due `soon`, which a worker may be about
-- to leave alone at this moment.
UPDATE rewards SET due_at = release_at
WHERE user_id = :user_id AND status = 'pending' AND needs_approval = 0 AND (due_at IS NULL OR due_at <= :soon);

-- name: resume_rewards_of_referral(user_id, soon)!
-- As resume_rewards_of_user, what waited for the end of the referral's review.
UPDATE rewards SET due_at = release_at
WHERE referral_user_id = :user_id AND status = 'pending' AND needs_approval = 0 AND (due_at IS NULL OR due_at <= :soon);

-- name: forget_rewards_of_user(user_id)!
-- With the user, what may be personal.
UPDATE rewards SET reason = NULL, reference = NULL, body_hash = NULL
WHERE user_id = :user_id AND (reason IS NOT NULL OR reference IS NOT NULL OR body_hash IS NOT NULL);

-- name: insert_reversal(id, reward_id, amount, reason, now, outcome, body_hash)!
INSERT INTO reversals (id, reward_id, amount, reason, created_at, outcome, body_hash)
VALUES (:id, :reward_id, :amount, :reason, :now, :outcome, :body_hash);

-- name: forget_reversals_of_user(user_id)!
-- With the user, what may be personal; who took back what stays.
UPDATE reversals SET reason = NULL, body_hash = NULL
WHERE reward_id IN (SELECT w.id FROM rewards w WHERE w.user_id = :user_id);

-- name: find_reversal(id)^
SELECT id, reward_id, amount, outcome, body_hash FROM reversals WHERE id = :id;
