-- Reviews of suspicious referrals, and the signals that open them.

-- name: list_signals(user_id)
-- The oldest first.
SELECT kind, reference, weight, evidence, at, judged FROM signals WHERE user_id = :user_id ORDER BY at, kind, reference;

-- name: open_review(user_id, score, now)!
-- The referral's first one, or the one that was decided, again. The referee is locked. Deferred.
INSERT INTO reviews (user_id, status, score, opened_at) VALUES (:user_id, 'open', :score, :now)
ON CONFLICT (user_id) DO UPDATE SET status = 'open', score = excluded.score, opened_at = excluded.opened_at, reminded_at = NULL,
    decided_at = NULL, decided_by_user = NULL, decided_by_key = NULL, reason = NULL, suspends = 0;

-- name: update_score(user_id, score)!
-- Further signals of an open review. Deferred.
UPDATE reviews SET score = :score WHERE user_id = :user_id AND status = 'open';

-- name: set_review(user_id, review)!
-- The referral has the word of its review. Deferred.
UPDATE referrals SET review = :review WHERE user_id = :user_id;

-- name: find_review(user_id)^
SELECT v.user_id, u.username, u.name, u.external_id, f.referrer_id, w.username AS referrer_username, w.name AS referrer_name,
       v.status, v.score, v.opened_at, v.reminded_at, v.decided_at, v.decided_by_user, d.username AS decider_username,
       d.name AS decider_name, v.decided_by_key, v.reason, v.suspends
FROM reviews v JOIN referrals f ON f.user_id = v.user_id JOIN users u ON u.id = v.user_id JOIN users w ON w.id = f.referrer_id
LEFT JOIN users d ON d.id = v.decided_by_user
WHERE v.user_id = :user_id;

-- name: list_reviews(before_time, before_id, page_size)
-- Newest first, from the cursor on.
SELECT v.user_id, u.username, u.name, u.external_id, f.referrer_id, w.username AS referrer_username, w.name AS referrer_name,
       v.status, v.score, v.opened_at, v.reminded_at, v.decided_at, v.decided_by_user, d.username AS decider_username,
       d.name AS decider_name, v.decided_by_key, v.reason, v.suspends
FROM reviews v JOIN referrals f ON f.user_id = v.user_id JOIN users u ON u.id = v.user_id JOIN users w ON w.id = f.referrer_id
LEFT JOIN users d ON d.id = v.decided_by_user
WHERE (v.opened_at, v.user_id) < (:before_time, :before_id)
ORDER BY v.opened_at DESC, v.user_id DESC
LIMIT :page_size;

-- name: list_reviews_in_state(status, before_time, before_id, page_size)
SELECT v.user_id, u.username, u.name, u.external_id, f.referrer_id, w.username AS referrer_username, w.name AS referrer_name,
       v.status, v.score, v.opened_at, v.reminded_at, v.decided_at, v.decided_by_user, d.username AS decider_username,
       d.name AS decider_name, v.decided_by_key, v.reason, v.suspends
FROM reviews v JOIN referrals f ON f.user_id = v.user_id JOIN users u ON u.id = v.user_id JOIN users w ON w.id = f.referrer_id
LEFT JOIN users d ON d.id = v.decided_by_user
WHERE v.status = :status AND (v.opened_at, v.user_id) < (:before_time, :before_id)
ORDER BY v.opened_at DESC, v.user_id DESC
LIMIT :page_size;

-- name: count_reviews(sample_size)^
-- No further than so many.
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM reviews v WHERE v.opened_at >= 0 LIMIT :sample_size
) AS found;

-- name: count_reviews_in_state(status, sample_size)^
SELECT count(*) AS total FROM (
    SELECT 1 AS one FROM reviews v WHERE v.status = :status LIMIT :sample_size
) AS found;

-- name: decide_review(user_id, status, now, decided_by_user, decided_by_key, reason, suspends)!
-- The referee is locked.
UPDATE reviews SET status = :status, decided_at = :now, decided_by_user = :decided_by_user, decided_by_key = :decided_by_key,
    reason = :reason, suspends = :suspends
WHERE user_id = :user_id AND status = 'open';

-- name: judge_signals(user_id)!
-- Whoever decides has seen them.
UPDATE signals SET judged = 1 WHERE user_id = :user_id AND judged = 0;

-- name: reject_referral(user_id)!
-- It is converted by nothing any more.
UPDATE referrals SET review = 'rejected', conversions = 0, converted_at = NULL WHERE user_id = :user_id;

-- name: find_first_unreminded()^
SELECT min(opened_at) AS opened_at FROM reviews WHERE decided_at IS NULL AND reminded_at IS NULL;

-- name: mark_reminded(before, now, batch_size)
-- Each once: of two workers that find one, the second sees that it is marked.
UPDATE reviews SET reminded_at = :now
WHERE decided_at IS NULL AND reminded_at IS NULL AND user_id IN (
    SELECT v.user_id FROM reviews v WHERE v.decided_at IS NULL AND v.reminded_at IS NULL AND v.opened_at <= :before
    ORDER BY v.opened_at
    LIMIT :batch_size
)
RETURNING user_id;

-- name: forget_old_evidence(kind, before, batch_size)
-- So many at a time.
UPDATE signals SET evidence = NULL WHERE (user_id, kind, reference) IN (
    SELECT s.user_id, s.kind, s.reference FROM signals s
    WHERE s.kind = :kind AND s.at < :before AND s.evidence IS NOT NULL
    ORDER BY s.at
    LIMIT :batch_size
)
RETURNING user_id;

-- name: forget_signals_of_user(user_id)!
-- With the user, what shows why they were suspected. The verdict stays.
UPDATE signals SET evidence = NULL WHERE user_id = :user_id AND evidence IS NOT NULL;

-- name: forget_reason_of_review(user_id)!
UPDATE reviews SET reason = NULL WHERE user_id = :user_id AND reason IS NOT NULL;

-- name: list_longest_waiting(status, after_time, after_id, page_size)
-- The oldest first, from the cursor on.
SELECT v.user_id, u.username, u.name, u.external_id, f.referrer_id, w.username AS referrer_username, w.name AS referrer_name,
       v.status, v.score, v.opened_at, v.reminded_at, v.decided_at, v.decided_by_user, d.username AS decider_username,
       d.name AS decider_name, v.decided_by_key, v.reason, v.suspends
FROM reviews v JOIN referrals f ON f.user_id = v.user_id JOIN users u ON u.id = v.user_id JOIN users w ON w.id = f.referrer_id
LEFT JOIN users d ON d.id = v.decided_by_user
WHERE v.status = :status AND (v.opened_at, v.user_id) > (:after_time, :after_id)
ORDER BY v.opened_at, v.user_id
LIMIT :page_size;

-- name: list_undone(user_id, at)
-- A reward has one transfer by a rejection at most.
SELECT t.reward_id, t.user_id, t.unit, t.debit, t.amount, t.available_after
FROM rewards w JOIN transfers t ON t.reward_id = w.id
WHERE w.referral_user_id = :user_id AND t.at = :at AND t.kind IN ('void', 'retraction')
ORDER BY t.reward_id;
