DROP TABLE referrers_lock;
