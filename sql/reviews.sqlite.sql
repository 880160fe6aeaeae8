-- Several signals at once, which SQLite reads from a JSON array.

-- name: insert_signals(user_id, signals, now)!
-- Those that are not there yet. Deferred.
INSERT INTO signals (user_id, kind, reference, weight, evidence, at)
SELECT :user_id, s.value ->> '$.kind', s.value ->> '$.reference', s.value ->> '$.weight', s.value ->> '$.evidence', :now
FROM json_each(:signals) AS s WHERE true
ON CONFLICT (user_id, kind, reference) DO NOTHING;

-- name: list_kinds_of_signals(user_ids)
-- With what one of them shows that people wrote themselves.
SELECT s.user_id, s.kind, min(CASE WHEN s.kind = 'reported' THEN s.evidence END) AS evidence FROM signals s
WHERE s.user_id IN (SELECT value FROM json_each(:user_ids))
GROUP BY s.user_id, s.kind ORDER BY s.user_id, s.kind;

-- name: list_money_of_referrals(user_ids)
-- What is left of the rewards that referrals brought.
SELECT w.referral_user_id AS user_id, w.unit, w.status, count(*) AS number, sum(coalesce(w.value, 0) - w.reversed) AS amount
FROM rewards w WHERE w.referral_user_id IN (SELECT value FROM json_each(:user_ids)) AND w.status IN ('pending', 'approved', 'fulfilled')
GROUP BY w.referral_user_id, w.unit, w.status
ORDER BY w.referral_user_id, w.unit, w.status;

-- name: list_money_undone(user_ids, reason)
-- What rejections took of rewards, which are void or reversed for this reason. What the product delivers has no transfer.
SELECT w.referral_user_id AS user_id, t.unit, w.status, count(*) AS number, coalesce(sum(t.amount), 0) AS amount
FROM reviews v JOIN rewards w ON w.referral_user_id = v.user_id
LEFT JOIN transfers t ON t.reward_id = w.id AND t.at = v.decided_at AND t.kind IN ('void', 'retraction')
WHERE v.user_id IN (SELECT value FROM json_each(:user_ids)) AND v.status = 'rejected'
  AND w.status IN ('void', 'reversed') AND w.reason = :reason
GROUP BY w.referral_user_id, t.unit, w.status
ORDER BY w.referral_user_id, t.unit, w.status;
