-- Answers to requests that carried an Idempotency-Key.
CREATE TABLE request (
  id     BLOB PRIMARY KEY, -- derived from the key and who asked
  digest BLOB NOT NULL, -- SHA-256 of what was asked
  answer BLOB NOT NULL, -- encrypted by a secret that is derived from the key
  made   BIGINT NOT NULL
);
CREATE INDEX request_by_time ON request (made);

-- What lists are filtered by.
CREATE INDEX principal_by_firmware ON principal (kind, firmware, id);
-- The contact that the document names, and the protocols by which it can be called, separated by spaces; empty: not read yet.
ALTER TABLE contract ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE contract ADD COLUMN description TEXT NOT NULL DEFAULT '';
ALTER TABLE contract ADD COLUMN protocols TEXT NOT NULL DEFAULT '';

-- Imports that register all devices or none, and their lines until they are registered. One that is decided is carried out to its
-- end, whatever happens to the node that began it.
CREATE TABLE import_job (
  id      TEXT PRIMARY KEY,
  decided INTEGER NOT NULL, -- 1: every line is good, and will be registered
  after   BIGINT NOT NULL, -- sequence of the directory when it began
  updated BIGINT NOT NULL
);
CREATE TABLE import_line (
  job      TEXT NOT NULL,
  line     BIGINT NOT NULL,
  id       TEXT NOT NULL,
  model    TEXT NOT NULL,
  firmware TEXT NOT NULL,
  PRIMARY KEY (job, line)
);
CREATE UNIQUE INDEX import_line_by_id ON import_line (id, job);
