-- Addresses that services register for an upstream, for as long as they renew them. The counter "targets" grows with each change of what
-- gateways are told.
CREATE TABLE upstream_target (
  upstream   TEXT NOT NULL,
  address    TEXT NOT NULL, -- in the one form for all ways to write it
  zone       TEXT NOT NULL,
  priority   INTEGER NOT NULL,
  weight     INTEGER NOT NULL,
  ttl        BIGINT NOT NULL, -- milliseconds that a registration counts
  registrar  TEXT NOT NULL, -- who registered or changed it: an account, or token and its name
  registered BIGINT NOT NULL,
  renewed    BIGINT NOT NULL,
  version    BIGINT NOT NULL, -- value of the counter when it was registered or changed, for If-Match
  PRIMARY KEY (upstream, address)
);
CREATE INDEX upstream_target_by_renewal ON upstream_target (renewed);
INSERT INTO counter (name, value) VALUES ('targets', 0);
