-- Where a rerun began that was not to begin at the start, with the step's edited input.

ALTER TABLE runs ADD COLUMN from_step BLOB;
