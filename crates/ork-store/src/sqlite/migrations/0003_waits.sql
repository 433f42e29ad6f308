-- An attempt may end without a verdict: what it looks for is not there yet.
CREATE TABLE attempts_2 (
    project     INTEGER NOT NULL,
    run         BLOB    NOT NULL CHECK (length(run) = 16),
    path        TEXT    NOT NULL,
    generation  INTEGER NOT NULL CHECK (generation >= 1),
    attempt     INTEGER NOT NULL CHECK (attempt >= 1),
    state       TEXT    NOT NULL
                CHECK (state IN ('dispatched', 'running', 'stopping',
                                 'success', 'not_ready', 'failed', 'cancelled', 'lost')),
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    CHECK ((state IN ('dispatched', 'running', 'stopping')) = (finished_at IS NULL)),
    PRIMARY KEY (project, run, path, generation, attempt)
) STRICT, WITHOUT ROWID;
INSERT INTO attempts_2 SELECT * FROM attempts;
DROP TABLE attempts;
ALTER TABLE attempts_2 RENAME TO attempts;
CREATE INDEX attempts_open ON attempts (project, run) WHERE finished_at IS NULL;

-- What is paused, or was; an empty workflow stands for the project.
CREATE TABLE pauses (
    project  INTEGER NOT NULL,
    workflow TEXT    NOT NULL,
    row      TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow)
) STRICT, WITHOUT ROWID;

-- Successes that may be reused; they go with their run.
CREATE TABLE cache (
    project    INTEGER NOT NULL,
    workflow   TEXT    NOT NULL,
    task       TEXT    NOT NULL,
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    run        BLOB    NOT NULL CHECK (length(run) = 16),
    at         INTEGER NOT NULL,
    expires_at INTEGER,
    row        TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, task, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX cache_by_time ON cache (project, workflow, task, at);
CREATE INDEX cache_by_run ON cache (project, run);
CREATE INDEX cache_by_end ON cache (expires_at) WHERE expires_at IS NOT NULL;
