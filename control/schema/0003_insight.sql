-- Rollups by day, who was seen when, and the findings that are open.

-- Of all control nodes one counts at a time: holder, which renews its turn. Empty: the turn is free.
ALTER TABLE ingest_stream ADD COLUMN holder TEXT NOT NULL DEFAULT '';
ALTER TABLE ingest_stream ADD COLUMN renewal BIGINT NOT NULL DEFAULT 0;
ALTER TABLE ingest_stream ADD COLUMN newest BIGINT NOT NULL DEFAULT 0; -- time of the newest record that is counted

-- Numbers below next that have not arrived, as "first-end,first-end" without the ends; lost are those that nobody waits for any more.
ALTER TABLE ingest_node ADD COLUMN gaps TEXT NOT NULL DEFAULT '';

-- Where the stream stood in each of the last minutes, so that a live view can begin in the past.
CREATE TABLE ingest_mark (
  minute   BIGINT PRIMARY KEY, -- its beginning, in seconds since 1970
  sequence BIGINT NOT NULL
);

-- Exchanges by time span: span is its length in seconds (60, 3600 or 86400), start its beginning in seconds since 1970.
-- operations holds the same by operation, with findings, packed: a row an operation would make a query of a month read a
-- hundred thousand rows. latencies, which is much larger and seldom read, comes last.
CREATE TABLE traffic (
  span       INTEGER NOT NULL,
  start      BIGINT NOT NULL,
  api        TEXT NOT NULL,
  version    TEXT NOT NULL,
  protocol   INTEGER NOT NULL,
  exchanges  BIGINT NOT NULL,
  refused    BIGINT NOT NULL, -- status 4xx
  failed     BIGINT NOT NULL, -- status 5xx
  bytes_in   BIGINT NOT NULL,
  bytes_out  BIGINT NOT NULL,
  operations BLOB,
  latencies  BLOB,
  PRIMARY KEY (span, start, api, version, protocol)
);
-- The same of all APIs together.
CREATE TABLE traffic_total (
  span       INTEGER NOT NULL,
  start      BIGINT NOT NULL,
  protocol   INTEGER NOT NULL,
  exchanges  BIGINT NOT NULL,
  refused    BIGINT NOT NULL,
  failed     BIGINT NOT NULL,
  bytes_in   BIGINT NOT NULL,
  bytes_out  BIGINT NOT NULL,
  PRIMARY KEY (span, start, protocol)
);
INSERT INTO traffic (span, start, api, version, protocol, exchanges, refused, failed, bytes_in, bytes_out)
  SELECT span, start, api, version, protocol, SUM(exchanges), SUM(CASE class WHEN 4 THEN exchanges ELSE 0 END),
    SUM(CASE WHEN class > 4 THEN exchanges ELSE 0 END), SUM(bytes_in), SUM(bytes_out)
  FROM rollup GROUP BY span, start, api, version, protocol;
INSERT INTO traffic (span, start, api, version, protocol, exchanges, refused, failed, bytes_in, bytes_out)
  SELECT 86400, start - start % 86400, api, version, protocol, SUM(exchanges), SUM(refused), SUM(failed), SUM(bytes_in), SUM(bytes_out)
  FROM traffic WHERE span = 3600 GROUP BY start - start % 86400, api, version, protocol;
INSERT INTO traffic_total (span, start, protocol, exchanges, refused, failed, bytes_in, bytes_out)
  SELECT span, start, protocol, SUM(exchanges), SUM(refused), SUM(failed), SUM(bytes_in), SUM(bytes_out)
  FROM traffic GROUP BY span, start, protocol;

-- Distinct callers in an hour or a day; version and operation are empty in the row of a whole API.
CREATE TABLE callers (
  span      INTEGER NOT NULL,
  start     BIGINT NOT NULL,
  api       TEXT NOT NULL,
  version   TEXT NOT NULL,
  operation TEXT NOT NULL,
  sketch    BLOB NOT NULL, -- HyperLogLog
  PRIMARY KEY (span, start, api, version, operation)
);

-- Which models and firmware versions call a version, a day: uses is packed by operation.
CREATE TABLE firmware_use (
  start   BIGINT NOT NULL,
  api     TEXT NOT NULL,
  version TEXT NOT NULL,
  uses    BLOB NOT NULL,
  PRIMARY KEY (start, api, version)
);

-- Findings by operation, open while they were seen within a day. severity: 3 bad, 2 warning, 1 notice.
CREATE TABLE finding (
  api        TEXT NOT NULL,
  version    TEXT NOT NULL,
  operation  TEXT NOT NULL,
  finding    TEXT NOT NULL,
  severity   INTEGER NOT NULL,
  first_seen BIGINT NOT NULL, -- since it is open
  last_seen  BIGINT NOT NULL,
  protocol   INTEGER NOT NULL, -- this and what follows: of the newest example
  route      TEXT NOT NULL,
  detail     TEXT NOT NULL,
  kind       TEXT NOT NULL,
  principal  TEXT NOT NULL,
  instance   TEXT NOT NULL,
  PRIMARY KEY (api, version, operation, finding)
);
CREATE INDEX finding_by_severity ON finding (severity, first_seen, api, version, operation, finding);
CREATE INDEX finding_by_first_seen ON finding (first_seen);

INSERT INTO finding (api, version, operation, finding, severity, first_seen, last_seen, protocol, route, detail, kind, principal, instance)
  SELECT api, version, operation, finding,
    CASE WHEN finding IN ('invalid-response', 'upstream', 'dropped') THEN 3 WHEN finding IN ('deprecated', 'rate-limited', 'shadowed') THEN 1 ELSE 2 END,
    MIN(start) * 1000, MAX(start) * 1000, 0, '', MAX(example), '', '', ''
  FROM rollup_finding GROUP BY api, version, operation, finding;

DROP TABLE rollup;
DROP TABLE rollup_callers;
DROP TABLE rollup_finding;

-- Who was seen when. day is that of exchanges and refusals, in days since 1970.
CREATE TABLE presence (
  kind       TEXT NOT NULL,
  id         TEXT NOT NULL,
  last_seen  BIGINT NOT NULL,
  protocol   INTEGER NOT NULL,
  source     TEXT NOT NULL,
  node       TEXT NOT NULL,
  day        BIGINT NOT NULL,
  exchanges  BIGINT NOT NULL,
  refusals   BIGINT NOT NULL,
  refusal    TEXT NOT NULL, -- code of the newest one
  refused_at BIGINT NOT NULL, -- 0: never
  PRIMARY KEY (kind, id)
);
CREATE INDEX presence_by_last_seen ON presence (kind, protocol, last_seen, id);

-- When a device model or firmware version was first seen in traffic; subject is model or firmware.
CREATE TABLE first_seen (
  subject TEXT NOT NULL,
  model   TEXT NOT NULL,
  name    TEXT NOT NULL, -- the firmware version; empty for a model
  time    BIGINT NOT NULL,
  PRIMARY KEY (subject, model, name)
);
CREATE INDEX first_seen_by_time ON first_seen (time);
