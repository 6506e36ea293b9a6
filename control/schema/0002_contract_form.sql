-- Of compiled: contract.Form of the compiler that made it. 0 is before the first that was told.
ALTER TABLE contract ADD COLUMN form INTEGER NOT NULL DEFAULT 0;
