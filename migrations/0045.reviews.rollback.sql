DROP TABLE blocks;
DROP TABLE reviews;
DROP TABLE signals;
