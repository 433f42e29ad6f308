CREATE TABLE pools (
    project INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    row     TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX workflows_limited ON workflows (project, name)
    WHERE json_extract(row, '$.limits') IS NOT NULL;
