-- depends: 0042.referrers-lock
-- Which applied migrations contract the schema: a version that does not know one of them must not serve on it. Any other one only
-- expands it, which is the rule: a version goes on serving on what a later one has added.
ALTER TABLE _yoyo_migration ADD COLUMN contracts BIGINT NOT NULL DEFAULT 0
    CONSTRAINT _yoyo_migration_contracts CHECK (contracts IN (0, 1));
