-- Columns are what rows are found, ordered and guarded by; `row` is the whole row as JSON.
-- States are checked by CASE: IN with a list fills a table of its own for each row that is written.

CREATE TABLE store (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    commit_seq INTEGER NOT NULL CHECK (commit_seq >= 0)
) STRICT;
INSERT INTO store (id, epoch, commit_seq) VALUES (1, 0, 0);

CREATE TABLE runs (
    project     INTEGER NOT NULL,
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    workflow    TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    trigger     TEXT    NOT NULL,
    labels      TEXT    NOT NULL CHECK (json_valid(labels)),
    state       TEXT    NOT NULL,
    run_attempt INTEGER NOT NULL CHECK (run_attempt >= 1),
    created_at  INTEGER NOT NULL,
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    CHECK (CASE state
           WHEN 'pending' THEN finished_at IS NULL
           WHEN 'running' THEN finished_at IS NULL
           WHEN 'success' THEN finished_at IS NOT NULL
           WHEN 'failed' THEN finished_at IS NOT NULL
           WHEN 'cancelled' THEN finished_at IS NOT NULL
           WHEN 'skipped' THEN finished_at IS NOT NULL
           ELSE FALSE END),
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
-- Lists of all runs, and of all runs of a workflow, merge one walk for each state: every index is a
-- page more in each commit.
CREATE INDEX runs_by_state ON runs (state, project, created_at, id);
CREATE INDEX runs_by_workflow ON runs (project, workflow, state, created_at, id);
CREATE INDEX runs_by_trigger ON runs (project, trigger, created_at, id);
CREATE INDEX runs_of_drafts ON runs (project, workflow, version) WHERE version < 0;
CREATE INDEX runs_ended ON runs (finished_at, id, project) WHERE finished_at IS NOT NULL;

CREATE TABLE run_labels (
    project    INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    value      TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    run        BLOB    NOT NULL,
    PRIMARY KEY (project, key, value, created_at, run)
) STRICT, WITHOUT ROWID;

CREATE TABLE tasks (
    project     INTEGER NOT NULL,
    run         BLOB    NOT NULL CHECK (length(run) = 16),
    path        TEXT    NOT NULL,
    ordinal     INTEGER NOT NULL CHECK (ordinal >= 0),
    generation  INTEGER NOT NULL CHECK (generation >= 1),
    state       TEXT    NOT NULL,
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    CHECK (CASE state
           WHEN 'pending' THEN finished_at IS NULL
           WHEN 'queued' THEN finished_at IS NULL
           WHEN 'dispatched' THEN finished_at IS NULL
           WHEN 'running' THEN finished_at IS NULL
           WHEN 'deferred' THEN finished_at IS NULL
           WHEN 'stopping' THEN finished_at IS NULL
           WHEN 'success' THEN finished_at IS NOT NULL
           WHEN 'failed' THEN finished_at IS NOT NULL
           WHEN 'skipped' THEN finished_at IS NOT NULL
           WHEN 'upstream_failed' THEN finished_at IS NOT NULL
           WHEN 'cancelled' THEN finished_at IS NOT NULL
           ELSE FALSE END),
    PRIMARY KEY (project, run, path)
) STRICT, WITHOUT ROWID;
CREATE INDEX tasks_by_state ON tasks (project, run, state, ordinal, path);

CREATE TABLE attempts (
    project     INTEGER NOT NULL,
    run         BLOB    NOT NULL CHECK (length(run) = 16),
    path        TEXT    NOT NULL,
    generation  INTEGER NOT NULL CHECK (generation >= 1),
    attempt     INTEGER NOT NULL CHECK (attempt >= 1),
    state       TEXT    NOT NULL,
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    CHECK (CASE state
           WHEN 'dispatched' THEN finished_at IS NULL
           WHEN 'running' THEN finished_at IS NULL
           WHEN 'stopping' THEN finished_at IS NULL
           WHEN 'success' THEN finished_at IS NOT NULL
           WHEN 'not_ready' THEN finished_at IS NOT NULL
           WHEN 'failed' THEN finished_at IS NOT NULL
           WHEN 'cancelled' THEN finished_at IS NOT NULL
           WHEN 'lost' THEN finished_at IS NOT NULL
           ELSE FALSE END),
    PRIMARY KEY (project, run, path, generation, attempt)
) STRICT, WITHOUT ROWID;

-- place = commit_seq * 65536 + position: the order of commits is the order of the table.
CREATE TABLE events (
    place   INTEGER PRIMARY KEY,
    project INTEGER NOT NULL,
    run     BLOB    NOT NULL CHECK (length(run) = 16),
    seq     INTEGER NOT NULL CHECK (seq >= 1),
    row     TEXT    NOT NULL CHECK (json_valid(row))
) STRICT;
CREATE UNIQUE INDEX events_by_run ON events (project, run, seq);

CREATE TABLE workflows (
    project INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    current INTEGER CHECK (current >= 1),
    row     TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX workflows_limited ON workflows (project, name)
    WHERE json_extract(row, '$.limits') IS NOT NULL;

CREATE TABLE versions (
    project    INTEGER NOT NULL,
    workflow   TEXT    NOT NULL,
    version    INTEGER NOT NULL CHECK (version <> 0),
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    bundle     BLOB    CHECK (length(bundle) = 32),
    created_at INTEGER NOT NULL,
    row        TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, version)
) STRICT;
CREATE UNIQUE INDEX versions_by_digest ON versions (project, workflow, version < 0, digest);
CREATE INDEX versions_by_bundle ON versions (bundle) WHERE bundle IS NOT NULL;
CREATE INDEX versions_drafts ON versions (created_at) WHERE version < 0;

CREATE TABLE answers (
    project    INTEGER NOT NULL,
    key        TEXT    NOT NULL,
    run        BLOB    CHECK (length(run) = 16),
    expires_at INTEGER,
    row        TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_run ON answers (project, run) WHERE run IS NOT NULL;
CREATE INDEX answers_by_end ON answers (expires_at) WHERE expires_at IS NOT NULL;

-- The blobs that the rows of a run refer to.
CREATE TABLE run_blobs (
    project INTEGER NOT NULL,
    run     BLOB    NOT NULL CHECK (length(run) = 16),
    digest  BLOB    NOT NULL CHECK (length(digest) = 32),
    PRIMARY KEY (project, run, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_blobs_by_digest ON run_blobs (digest);

-- Runs whose row is gone and whose other rows are being removed.
CREATE TABLE removed (
    project INTEGER NOT NULL,
    run     BLOB    NOT NULL,
    PRIMARY KEY (project, run)
) STRICT, WITHOUT ROWID;

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

CREATE TABLE backfills (
    project     INTEGER NOT NULL,
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX backfills_open ON backfills (project) WHERE finished_at IS NULL;

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

CREATE TABLE pools (
    project INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    row     TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;
