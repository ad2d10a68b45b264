-- What steps say while they run, apart from history: log lines, and one row a step for its progress and what its
-- lines amount to. `step_id` is empty for the function's own code.

CREATE TABLE step_logs (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    n INTEGER NOT NULL,
    step_id TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    level TEXT NOT NULL,
    logger TEXT NOT NULL,
    message TEXT NOT NULL,
    fields BLOB,
    PRIMARY KEY (shard, run_id, n)
) WITHOUT ROWID;

CREATE TABLE step_reports (
    shard INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    step_id TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    progress REAL,
    message TEXT NOT NULL,
    at INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    dropped INTEGER NOT NULL,
    PRIMARY KEY (shard, run_id, step_id)
) WITHOUT ROWID;
