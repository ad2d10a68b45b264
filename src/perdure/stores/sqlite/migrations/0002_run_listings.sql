-- Listings of runs by time, for pages and APIs. Together they cost a run about 1 µs and 90 bytes: a run that has no such
-- time yet is not in the first two, and one that ended well is not in the third. The order of creation needs none: it is
-- that of the ids.
CREATE INDEX runs_by_start ON runs (started_at, id) WHERE started_at IS NOT NULL;
CREATE INDEX runs_by_end ON runs (ended_at, id) WHERE ended_at IS NOT NULL;
CREATE INDEX runs_not_completed ON runs (status, id) WHERE ended_at IS NOT NULL AND status <> 'COMPLETED';
