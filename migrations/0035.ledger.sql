-- depends: 0034.rewards
-- The ledger's accounts, those of a user and a unit in one row. Each column from programme to spent is the balance of one account,
-- in the unit's smallest part: what the programme gave (which is negative), what is pending, what can be spent, what is reserved
-- and what was spent. Every transfer takes from one of them and gives to another one of the same row, so that their sum is always
-- zero (accounts_balanced): nothing is made or lost, and no transfer has two units. earned and reversed are sums of transfers:
-- what was approved, and what was taken back afterwards. lines counts the lines of the statement.
--
-- Nothing but `available` may be below zero, which is a debt, and the programme. The bounds lie at half of what the type holds, so
-- that no sum of two can pass it.
CREATE TABLE accounts (
    user_id TEXT NOT NULL REFERENCES users (id),
    unit TEXT NOT NULL,
    programme BIGINT NOT NULL DEFAULT 0,
    pending BIGINT NOT NULL DEFAULT 0,
    available BIGINT NOT NULL DEFAULT 0,
    reserved BIGINT NOT NULL DEFAULT 0,
    spent BIGINT NOT NULL DEFAULT 0,
    earned BIGINT NOT NULL DEFAULT 0,
    reversed BIGINT NOT NULL DEFAULT 0,
    lines BIGINT NOT NULL DEFAULT 0,
    CONSTRAINT accounts_pkey PRIMARY KEY (user_id, unit),
    CONSTRAINT accounts_balanced CHECK (programme + pending + available + reserved + spent = 0),
    CONSTRAINT accounts_not_overdrawn CHECK (
        programme <= 0 AND pending >= 0 AND reserved >= 0 AND spent >= 0 AND earned >= 0 AND reversed >= 0 AND lines >= 0
    ),
    CONSTRAINT accounts_bounds CHECK (
        programme >= -4611686018427387904 AND available >= -4611686018427387904
        AND earned <= 4611686018427387904 AND reversed <= 4611686018427387904
    )
);

-- What a user spends, or reserves to spend. The id is the caller's, and is remembered for ever, with the hash of what was asked
-- for. by_user says that the user made it, who may cancel it then. due_at is when a reservation ends by itself. outcome is how it
-- was made, with the balance after it, as JSON, for whoever asks again.
CREATE TABLE redemptions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    amount BIGINT NOT NULL,
    status TEXT NOT NULL,
    reference TEXT,
    note TEXT,
    created_at BIGINT NOT NULL,
    due_at BIGINT,
    by_user BIGINT NOT NULL DEFAULT 0,
    outcome TEXT NOT NULL,
    body_hash TEXT,
    FOREIGN KEY (user_id, unit) REFERENCES accounts (user_id, unit),
    CONSTRAINT redemptions_amount CHECK (amount > 0),
    CONSTRAINT redemptions_status CHECK (status = lower(status) AND length(status) BETWEEN 3 AND 20),
    CONSTRAINT redemptions_by_user CHECK (by_user IN (0, 1)),
    CONSTRAINT redemptions_due CHECK ((due_at IS NOT NULL) = (status = 'reserved'))
);

-- A user's redemptions, newest first.
CREATE INDEX redemptions_of_user ON redemptions (user_id, created_at, id);

-- Which reservations end next.
CREATE INDEX redemptions_due ON redemptions (due_at, id) WHERE due_at IS NOT NULL;

-- What somebody took back of a reward by hand. The id is the caller's, and is remembered for ever. amount is null for a reward
-- without a value. outcome is the reward's state after it, as JSON.
CREATE TABLE reversals (
    id TEXT NOT NULL PRIMARY KEY,
    reward_id TEXT NOT NULL REFERENCES rewards (id),
    amount BIGINT,
    reason TEXT,
    created_at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    body_hash TEXT,
    CONSTRAINT reversals_amount CHECK (amount IS NULL OR amount > 0)
);

-- What was taken back of a reward.
CREATE INDEX reversals_of_reward ON reversals (reward_id);

-- Every movement of the ledger: so much from the account `debit` to the account `credit`, both of one user and unit by the foreign
-- key. What caused it caused it once: reference names that, each in its kind. A row is never changed or deleted; a correction is
-- another row. Where `available` is moved it is a line of the user's statement, the n-th, which says what is available after it.
CREATE TABLE transfers (
    kind TEXT NOT NULL,
    reference TEXT NOT NULL,
    user_id TEXT NOT NULL,
    unit TEXT NOT NULL,
    debit TEXT NOT NULL,
    credit TEXT NOT NULL,
    amount BIGINT NOT NULL,
    at BIGINT NOT NULL,
    line BIGINT,
    available_after BIGINT,
    reward_id TEXT REFERENCES rewards (id),
    redemption_id TEXT REFERENCES redemptions (id),
    CONSTRAINT transfers_pkey PRIMARY KEY (kind, reference),
    FOREIGN KEY (user_id, unit) REFERENCES accounts (user_id, unit),
    CONSTRAINT transfers_amount CHECK (amount > 0),
    CONSTRAINT transfers_legs CHECK (debit <> credit),
    CONSTRAINT transfers_line CHECK (
        (line IS NOT NULL) = (debit = 'available' OR credit = 'available') AND (line IS NULL) = (available_after IS NULL)
    ),
    CONSTRAINT transfers_cause CHECK ((reward_id IS NULL) <> (redemption_id IS NULL))
);

-- The n-th line of a statement is one. A page of it starts at its cursor, however deep it lies.
CREATE UNIQUE INDEX transfers_line_once ON transfers (user_id, unit, line);

-- What moved a reward.
CREATE INDEX transfers_of_reward ON transfers (reward_id) WHERE reward_id IS NOT NULL;
