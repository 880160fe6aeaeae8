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
