DROP TABLE transfers;
DROP TABLE reversals;
DROP TABLE redemptions;
DROP TABLE accounts;
