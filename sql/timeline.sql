-- What happened around a user, as far as no list of the API has it in this order. Each is newest first, from the cursor on.

-- name: list_clicks_of_user(user_id, before_time, before_id, page_size)
-- The clicks that events of the user named, while they are kept.
SELECT c.id, c.clicked_at AS at, c.code, c.robot, k.referrer_id AS owner_id
FROM clicks c LEFT JOIN codes k ON k.code = c.code
WHERE c.id IN (SELECT e.click_id FROM events e WHERE e.user_id = :user_id) AND (c.clicked_at, c.id) < (:before_time, :before_id)
ORDER BY c.clicked_at DESC, c.id DESC
LIMIT :page_size;

-- name: list_approvals_of_user(user_id, before_time, before_id, page_size)
SELECT w.id, w.approved_at AS at, w.kind, w.label, w.unit, w.value, w.created_at
FROM rewards w
WHERE w.user_id = :user_id AND w.approved_at IS NOT NULL AND (w.approved_at, w.id) < (:before_time, :before_id)
ORDER BY w.approved_at DESC, w.id DESC
LIMIT :page_size;

-- name: list_deliveries_of_user(user_id, before_time, before_id, page_size)
SELECT w.id, w.fulfilled_at AS at, w.kind, w.label, w.unit, w.value, w.reference
FROM rewards w
WHERE w.user_id = :user_id AND w.fulfilled_at IS NOT NULL AND (w.fulfilled_at, w.id) < (:before_time, :before_id)
ORDER BY w.fulfilled_at DESC, w.id DESC
LIMIT :page_size;

-- name: list_takings_of_user(user_id, before_time, before_id, page_size)
-- What was taken of the user's rewards: before they were approved (from `pending`), or afterwards. What a rejection took
-- has the time of the decision.
SELECT t.kind || ' ' || t.reference AS id, t.at, t.kind, t.unit, t.amount, t.debit, t.available_after, t.reward_id,
       CASE WHEN t.kind = 'reversal' THEN b.reason ELSE w.reason END AS reason, w.referral_user_id, v.status AS review, v.decided_by_user, v.decided_by_key,
       v.reason AS review_reason
FROM rewards w JOIN transfers t ON t.reward_id = w.id
LEFT JOIN reversals b ON t.kind = 'reversal' AND b.id = t.reference
LEFT JOIN reviews v ON t.kind IN ('void', 'retraction') AND v.user_id = w.referral_user_id AND v.status = 'rejected'
    AND v.decided_at = t.at
WHERE w.user_id = :user_id AND t.credit = 'programme' AND (t.at, t.kind || ' ' || t.reference) < (:before_time, :before_id)
ORDER BY t.at DESC, t.kind || ' ' || t.reference DESC
LIMIT :page_size;

-- name: list_spendings_of_user(user_id, before_time, before_id, page_size)
SELECT d.id, d.created_at AS at, d.unit, d.amount, d.status, d.reference, d.note
FROM redemptions d
WHERE d.user_id = :user_id AND (d.created_at, d.id) < (:before_time, :before_id)
ORDER BY d.created_at DESC, d.id DESC
LIMIT :page_size;

-- name: list_acts_about_user(user_id, before_time, before_id, page_size)
-- What people, and the user, did to the account; not each sign-in.
SELECT id, at, event, actor_id, user_id, email, address, request_id, detail FROM audit_events
WHERE user_id = :user_id AND (at, id) < (:before_time, :before_id) AND event IN (
    'registered', 'account-suspended', 'account-unsuspended', 'email-verified', 'email-changed', 'username-changed',
    'external-id-changed', 'identity-joined', 'stranger-put-out', 'email-disowned', 'admin-created', 'admin-promoted',
    'admin-demoted', 'reward-made', 'reward-approved', 'reward-rejected', 'reward-reversed', 'password-reset',
    'user-exported', 'sessions-ended', 'account-erased', 'account-disowned'
)
ORDER BY at DESC, id DESC
LIMIT :page_size;

-- name: list_decisions_on_referrals(referrer_id, referrals_size, page_size)
-- How the reviews of those whom the user brought were decided, among so many who came last.
SELECT v.user_id AS id, v.decided_at AS at, v.status, v.decided_by_user, v.decided_by_key, v.reason
FROM (
    SELECT f.user_id FROM referrals f WHERE f.referrer_id = :referrer_id
    ORDER BY f.joined_at DESC, f.user_id DESC
    LIMIT :referrals_size
) AS brought JOIN reviews v ON v.user_id = brought.user_id
WHERE v.decided_at IS NOT NULL
ORDER BY v.decided_at DESC, v.user_id DESC
LIMIT :page_size;

-- name: find_joining(user_id)^
-- By whom the user came, for whoever looks at one of both.
SELECT r.joined_at AS at, r.code, r.source, r.review, r.converted_at, w.id AS referrer_id, w.external_id, w.username, w.name,
       w.erased_at
FROM referrals r JOIN users w ON w.id = r.referrer_id
WHERE r.user_id = :user_id;

-- name: find_review_course(user_id)^
-- When the review of the user's referral was opened, and when and by whom it was decided.
SELECT v.status, v.score, v.opened_at, v.decided_at, v.decided_by_user, v.decided_by_key, v.reason, v.suspends
FROM reviews v
WHERE v.user_id = :user_id;
