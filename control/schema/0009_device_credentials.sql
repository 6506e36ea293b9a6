-- What devices prove in handshakes who they are by: a pre-shared key, sealed by the installation's secrets key, under an identity; and
-- certificates of their own, as a JSON array. NULL: none.
ALTER TABLE principal ADD COLUMN psk_identity TEXT;
ALTER TABLE principal ADD COLUMN psk BLOB;
ALTER TABLE principal ADD COLUMN certificates TEXT;
CREATE UNIQUE INDEX principal_by_psk_identity ON principal (psk_identity) WHERE psk_identity IS NOT NULL;

-- Whose a certificate is: each is registered for one principal.
CREATE TABLE principal_certificate (
  fingerprint BLOB PRIMARY KEY, -- SHA-256 of its DER form
  kind        TEXT NOT NULL,
  id          TEXT NOT NULL
);
