CREATE TABLE backfills (
    project     INTEGER NOT NULL,
    id          BLOB    NOT NULL CHECK (length(id) = 16),
    finished_at INTEGER,
    row         TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX backfills_open ON backfills (project) WHERE finished_at IS NULL;
