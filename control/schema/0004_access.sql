-- Decisions: how their actor is known, from where, for which request, and the fields that changed (JSON objects; empty: none).
ALTER TABLE audit ADD COLUMN noun TEXT NOT NULL DEFAULT ''; -- of the action, before its dot
ALTER TABLE audit ADD COLUMN via TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN request TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN was TEXT NOT NULL DEFAULT '';
ALTER TABLE audit ADD COLUMN became TEXT NOT NULL DEFAULT '';
UPDATE audit SET noun = 'api' WHERE action LIKE 'api.%';
UPDATE audit SET noun = 'app' WHERE action LIKE 'app.%';
UPDATE audit SET noun = 'device' WHERE action LIKE 'device.%';
CREATE INDEX audit_by_time ON audit (time, id);
CREATE INDEX audit_by_actor ON audit (actor, time, id);
CREATE INDEX audit_by_noun ON audit (noun, time, id);
CREATE INDEX audit_by_action ON audit (action, time, id);
CREATE INDEX audit_by_target ON audit (target, time, id);

CREATE TABLE operator_account (
  name     TEXT PRIMARY KEY,
  role     TEXT NOT NULL,
  state    TEXT NOT NULL, -- invited, active or disabled
  password TEXT NOT NULL, -- Argon2id in the PHC string format; empty until it is set
  version  BIGINT NOT NULL, -- of the row, for If-Match
  created  BIGINT NOT NULL,
  seen     BIGINT NOT NULL -- the last request, to the minute; 0: never
);

-- One-time tokens: the first sign-in, and invitations. account is empty before the installation is claimed.
CREATE TABLE operator_link (
  hash    BLOB PRIMARY KEY, -- SHA-256
  account TEXT NOT NULL,
  expires BIGINT NOT NULL
);
CREATE INDEX operator_link_by_account ON operator_link (account);
CREATE INDEX operator_link_by_expiry ON operator_link (expires);

CREATE TABLE operator_session (
  id      TEXT PRIMARY KEY,
  hash    BLOB NOT NULL, -- SHA-256 of what the cookie holds
  account TEXT NOT NULL, -- empty before the installation is claimed
  kind    TEXT NOT NULL, -- setup, invited or operator
  source  TEXT NOT NULL,
  agent   TEXT NOT NULL, -- what the browser calls itself
  created BIGINT NOT NULL,
  used    BIGINT NOT NULL, -- to the minute
  expires BIGINT NOT NULL
);
CREATE UNIQUE INDEX operator_session_by_hash ON operator_session (hash);
CREATE INDEX operator_session_by_account ON operator_session (account, id);
CREATE INDEX operator_session_by_expiry ON operator_session (expires);

CREATE TABLE operator_token (
  id      TEXT PRIMARY KEY,
  hash    BLOB NOT NULL, -- SHA-256
  account TEXT NOT NULL, -- "operator" for those that the token of a data directory made
  name    TEXT NOT NULL,
  scopes  TEXT NOT NULL, -- separated by spaces
  created BIGINT NOT NULL,
  used    BIGINT NOT NULL, -- to the minute; 0: never
  expires BIGINT NOT NULL,
  revoked BIGINT NOT NULL -- 0: it is not
);
CREATE UNIQUE INDEX operator_token_by_hash ON operator_token (hash);
CREATE INDEX operator_token_by_account ON operator_token (account, id);
