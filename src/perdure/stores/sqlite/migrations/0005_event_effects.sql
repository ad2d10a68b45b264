-- What an event did to runs, by the event: started them with others (`trigger`), ended a wait (`wait`), cancelled them
-- (`cancel`).

ALTER TABLE run_events RENAME TO older_run_events;
CREATE TABLE run_events (
    shard INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    how TEXT NOT NULL,
    run_id TEXT NOT NULL,
    PRIMARY KEY (shard, event_id, how, run_id)
) WITHOUT ROWID;
INSERT INTO run_events SELECT shard, event_id, 'trigger', run_id FROM older_run_events;
DROP TABLE older_run_events;
