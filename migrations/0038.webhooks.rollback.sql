DROP TABLE replays;
DROP TABLE delivery_failures;
DROP TABLE deliveries;
DROP TABLE webhooks;
