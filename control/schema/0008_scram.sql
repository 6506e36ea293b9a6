-- What proves a token in a SCRAM-SHA-256 exchange: StoredKey and ServerKey, 64 bytes for each of the credentials in their order, zeros
-- for one that has none; NULL where no token has any.
ALTER TABLE principal ADD COLUMN verifiers BLOB;
