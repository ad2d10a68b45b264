-- What happened in a span of time (`span` ms from `at` on), summed up for each function. `body` is
-- reading.rollups.Rollup; the row with span 0 holds the time up to which things have been summed up.

CREATE TABLE rollups (
    shard INTEGER NOT NULL,
    span INTEGER NOT NULL,
    at INTEGER NOT NULL,
    function_id TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (shard, span, at, function_id)
) WITHOUT ROWID;
