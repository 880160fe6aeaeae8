DROP TABLE profile_lookups;
