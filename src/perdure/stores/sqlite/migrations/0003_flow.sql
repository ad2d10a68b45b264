-- Queues by part and place, what rules remember under keys (in place of `dedupe`), and further events of batches.

ALTER TABLE functions ADD COLUMN paused TEXT NOT NULL DEFAULT '';
ALTER TABLE functions ADD COLUMN overrides BLOB;
ALTER TABLE runs ADD COLUMN flow BLOB;
ALTER TABLE runs ADD COLUMN batch_id TEXT;
ALTER TABLE runs ADD COLUMN cron TEXT;
ALTER TABLE waits ADD COLUMN until INTEGER NOT NULL DEFAULT 0;

ALTER TABLE items ADD COLUMN part TEXT NOT NULL DEFAULT '';
ALTER TABLE items ADD COLUMN rank INTEGER NOT NULL DEFAULT 0;
UPDATE items SET rank = due, part = CASE kind WHEN 'request' THEN 'r' WHEN 'sleep' THEN 't' WHEN 'wait' THEN 't' ELSE 'c' END;
DROP INDEX items_queued;
CREATE INDEX items_queued ON items (shard, function_id, part, rank, run_id, n) WHERE in_flight = 0;

CREATE TABLE keys (
    shard INTEGER NOT NULL,
    kind TEXT NOT NULL,
    owner TEXT NOT NULL,
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (shard, kind, owner, key)
) WITHOUT ROWID;
INSERT INTO keys SELECT shard, 'taken', function_id, key, CAST(run_id AS BLOB), expires_at FROM dedupe;
DROP TABLE dedupe;

CREATE TABLE run_events (
    shard INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (shard, event_id, run_id)
) WITHOUT ROWID;
