-- The OSCORE context of a device, as JSON with its secrets sealed by the installation's secrets key, and by which requests name it: the
-- identifiers of its sender and of the context, in hexadecimal. NULL: none.
ALTER TABLE principal ADD COLUMN oscore_name TEXT;
ALTER TABLE principal ADD COLUMN oscore TEXT;
CREATE UNIQUE INDEX principal_by_oscore_name ON principal (oscore_name) WHERE oscore_name IS NOT NULL;
