-- Simulated devices: what they send goes the way of every reading, but makes exercises only, never an actual alert.
-- A constant default is kept in the catalogue: no row is written, however many devices there are.
ALTER TABLE devices ADD COLUMN exercise boolean NOT NULL DEFAULT false;
