CREATE TABLE schedules (
    project  INTEGER NOT NULL,
    workflow TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    row      TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, name)
) STRICT, WITHOUT ROWID;

-- One answer to a tick.
CREATE TABLE ticks (
    project    INTEGER NOT NULL,
    workflow   TEXT    NOT NULL,
    schedule   TEXT    NOT NULL,
    tick       INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    row        TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, schedule, tick)
) STRICT, WITHOUT ROWID;
CREATE INDEX ticks_by_age ON ticks (decided_at);
