-- depends: 0051.leaderboard
-- Sessions of the back office are held by a cookie instead of tokens. Its text is random, and only its SHA-256 hash is kept; it
-- ends with its session.
CREATE TABLE session_cookies (
    token_hash TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL
);

-- The end of a session takes its cookie along; a session has one.
CREATE UNIQUE INDEX session_cookies_of_session ON session_cookies (session_id);
