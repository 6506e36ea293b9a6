CREATE TABLE counter (
  name  TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO counter (name, value) VALUES ('directory', 0), ('snapshot', 0), ('audit', 0), ('exchanges', 0), ('routes_overflow', 0);

CREATE TABLE audit (
  id     BIGINT PRIMARY KEY,
  time   BIGINT NOT NULL,
  actor  TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  detail TEXT NOT NULL
);

-- Devices and apps. sequence is that of their newest change, so that the table is its own change feed.
CREATE TABLE principal (
  kind        TEXT NOT NULL,
  id          TEXT NOT NULL,
  sequence    BIGINT NOT NULL,
  state       INTEGER NOT NULL,
  name        TEXT NOT NULL,
  model       TEXT NOT NULL,
  firmware    TEXT NOT NULL,
  scopes      TEXT NOT NULL, -- separated by spaces
  credentials BLOB NOT NULL, -- SHA-256 hashes one after the other, oldest first
  created     BIGINT NOT NULL,
  updated     BIGINT NOT NULL,
  PRIMARY KEY (kind, id)
);
CREATE UNIQUE INDEX principal_by_sequence ON principal (sequence);
CREATE INDEX principal_by_model ON principal (kind, model, id);
CREATE INDEX principal_by_state ON principal (kind, state, id);

CREATE TABLE contract (
  api        TEXT NOT NULL,
  version    TEXT NOT NULL,
  change     BIGINT NOT NULL, -- snapshot version of its newest change
  title      TEXT NOT NULL,
  kind       TEXT NOT NULL,
  state      TEXT NOT NULL,
  digest     TEXT NOT NULL,
  operations INTEGER NOT NULL,
  document   BLOB NOT NULL,
  compiled   BLOB NOT NULL, -- the encoded fieldgate.Contract that gateways fetch
  content    TEXT NOT NULL, -- its key, the SHA-256 of compiled
  published  BIGINT NOT NULL, -- snapshot version of its publication, which orders the versions of an API
  created    BIGINT NOT NULL,
  PRIMARY KEY (api, version)
);
CREATE INDEX contract_by_content ON contract (content);

-- How far each run of a node has been counted, and the stream of records up to which all has been counted.
CREATE TABLE ingest_node (
  node  TEXT NOT NULL,
  epoch TEXT NOT NULL, -- decimal: it may exceed a signed BIGINT
  next  BIGINT NOT NULL, -- number of the first record that is not counted yet
  lost  BIGINT NOT NULL, -- records that never arrived
  seen  BIGINT NOT NULL,
  PRIMARY KEY (node, epoch)
);
CREATE TABLE ingest_stream (
  name     TEXT PRIMARY KEY,
  created  BIGINT NOT NULL, -- nanoseconds; tells a stream from its successor of the same name
  sequence BIGINT NOT NULL
);

-- Exchanges by time span: span is its length in seconds (60 or 3600), start its beginning in seconds since 1970.
CREATE TABLE rollup (
  span      INTEGER NOT NULL,
  start     BIGINT NOT NULL,
  api       TEXT NOT NULL,
  version   TEXT NOT NULL,
  operation TEXT NOT NULL,
  class     INTEGER NOT NULL, -- status divided by 100
  protocol  INTEGER NOT NULL,
  firmware  TEXT NOT NULL,
  exchanges BIGINT NOT NULL,
  bytes_in  BIGINT NOT NULL,
  bytes_out BIGINT NOT NULL,
  latency   BLOB NOT NULL, -- DDSketch of microseconds
  PRIMARY KEY (span, start, api, version, operation, class, protocol, firmware)
);

-- Distinct callers of an operation in an hour.
CREATE TABLE rollup_callers (
  start     BIGINT NOT NULL,
  api       TEXT NOT NULL,
  version   TEXT NOT NULL,
  operation TEXT NOT NULL,
  callers   BLOB NOT NULL, -- HyperLogLog
  PRIMARY KEY (start, api, version, operation)
);

CREATE TABLE rollup_finding (
  start     BIGINT NOT NULL,
  api       TEXT NOT NULL,
  version   TEXT NOT NULL,
  operation TEXT NOT NULL,
  finding   TEXT NOT NULL,
  exchanges BIGINT NOT NULL,
  example   TEXT NOT NULL,
  PRIMARY KEY (start, api, version, operation, finding)
);

-- Routes and topics that no contract explains.
CREATE TABLE route (
  protocol   INTEGER NOT NULL,
  method     INTEGER NOT NULL,
  route      TEXT NOT NULL,
  api        TEXT NOT NULL, -- the pass-through API that let it pass; empty when it was refused
  exchanges  BIGINT NOT NULL,
  principal  TEXT NOT NULL,
  first_seen BIGINT NOT NULL,
  last_seen  BIGINT NOT NULL,
  PRIMARY KEY (protocol, method, route, api)
);
