-- depends: 0007.profiles
-- One number. It grows with every change that could not be told to Redis; what Redis keeps of an earlier epoch is void.
CREATE TABLE cache_epoch (
    id BIGINT NOT NULL PRIMARY KEY,
    epoch BIGINT NOT NULL,
    CONSTRAINT cache_epoch_one_row CHECK (id = 1)
);

INSERT INTO cache_epoch (id, epoch) VALUES (1, 1);
