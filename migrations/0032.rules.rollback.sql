DROP TABLE rule_usage;
DROP TABLE rule_versions;
DROP TABLE rules;
