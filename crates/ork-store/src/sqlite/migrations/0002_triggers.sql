CREATE TABLE triggers (
    project  INTEGER NOT NULL,
    workflow TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    hook     TEXT,
    row      TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, name)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX triggers_by_hook ON triggers (hook) WHERE hook IS NOT NULL;

-- An end of a run (`source`) that a trigger waited for. It goes with that run.
CREATE TABLE firings (
    project    INTEGER NOT NULL,
    source     BLOB    NOT NULL CHECK (length(source) = 16),
    workflow   TEXT    NOT NULL,
    trigger    TEXT    NOT NULL,
    fired_at   INTEGER NOT NULL,
    decided_at INTEGER,
    row        TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, source, workflow, trigger)
) STRICT, WITHOUT ROWID;
CREATE INDEX firings_open ON firings (fired_at) WHERE decided_at IS NULL;
CREATE INDEX firings_by_trigger ON firings (project, workflow, trigger, fired_at, source);
