-- Every table starts with the shard that owns the row, then the columns of the row tuples of perdure.shard.rows.
-- Tables whose rows carry bodies keep a rowid: a key tree holds at most 1 KB of a row in its page, and spends a page of
-- its own on the rest. The others are one tree (WITHOUT ROWID) and so one page less to write for each change.

CREATE TABLE shards (
    shard INTEGER PRIMARY KEY,
    epoch INTEGER NOT NULL,
    owner TEXT NOT NULL
);

CREATE TABLE apps (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    sdk TEXT NOT NULL,
    framework TEXT NOT NULL,
    app_version TEXT NOT NULL,
    method TEXT NOT NULL,
    checksum TEXT NOT NULL,
    error TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    synced_at INTEGER NOT NULL,
    archived_at INTEGER,
    PRIMARY KEY (shard, id)
) WITHOUT ROWID;

CREATE TABLE functions (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    app_id TEXT NOT NULL,
    slug TEXT NOT NULL,
    name TEXT NOT NULL,
    config BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    archived_at INTEGER,
    PRIMARY KEY (shard, id)
);

-- `internal_id` may repeat: a duplicate is stored and listed, it only starts no run.
CREATE TABLE events (
    shard INTEGER NOT NULL,
    receipt INTEGER NOT NULL,
    internal_id TEXT NOT NULL,
    name TEXT NOT NULL,
    id TEXT NOT NULL,
    ts INTEGER NOT NULL,
    received_at INTEGER NOT NULL,
    internal INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (shard, receipt)
);
-- Each of these two costs some 0.6 µs and 50 to 75 bytes an event; they hold the columns that a listing filters by, so that
-- walking over the server's own events reads no bodies.
CREATE INDEX events_by_internal_id ON events (internal_id, internal, received_at);
CREATE INDEX events_by_name ON events (name, internal_id, received_at) WHERE internal = 0;

CREATE TABLE runs (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    function_id TEXT NOT NULL,
    status TEXT NOT NULL,
    event_id TEXT NOT NULL,
    event_ids TEXT NOT NULL,
    receipts TEXT NOT NULL,
    event_name TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    version INTEGER NOT NULL,
    parallel INTEGER NOT NULL,
    correlation TEXT,
    original_run_id TEXT,
    output BLOB,
    PRIMARY KEY (shard, id)
);
CREATE INDEX runs_by_event ON runs (event_id, id);
CREATE INDEX runs_by_function ON runs (function_id, id);

CREATE TABLE steps (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    op TEXT NOT NULL,
    at INTEGER NOT NULL,
    memo BLOB NOT NULL,
    PRIMARY KEY (shard, run_id, step_id)
);

CREATE TABLE items (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    function_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    step_id TEXT NOT NULL,
    name TEXT NOT NULL,
    due INTEGER NOT NULL,
    queued_at INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    recoveries INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    grp INTEGER NOT NULL,
    data BLOB,
    PRIMARY KEY (shard, run_id, n)
) WITHOUT ROWID;
CREATE INDEX items_queued ON items (shard, function_id, due, run_id, n) WHERE in_flight = 0;
CREATE INDEX items_in_flight ON items (shard, run_id) WHERE in_flight = 1;

CREATE TABLE waits (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    kind TEXT NOT NULL,
    event TEXT NOT NULL,
    path TEXT NOT NULL,
    value TEXT NOT NULL,
    expression TEXT,
    since INTEGER NOT NULL,
    PRIMARY KEY (shard, run_id, n)
) WITHOUT ROWID;
CREATE INDEX waits_by_event ON waits (shard, event, path, value, run_id, n);

CREATE TABLE dedupe (
    shard INTEGER NOT NULL,
    function_id TEXT NOT NULL,
    key TEXT NOT NULL,
    run_id TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (shard, function_id, key)
) WITHOUT ROWID;

CREATE TABLE history (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (shard, run_id, n)
);

CREATE TABLE outbox (
    shard INTEGER NOT NULL,
    receipt INTEGER NOT NULL,
    cursor TEXT NOT NULL,
    PRIMARY KEY (shard, receipt)
) WITHOUT ROWID;

CREATE TABLE quarantine (
    shard INTEGER NOT NULL,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    run_id TEXT,
    command TEXT NOT NULL,
    traceback TEXT NOT NULL,
    PRIMARY KEY (shard, id)
);
