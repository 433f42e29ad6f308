-- What was done to workflows.
CREATE TABLE history (
    project  INTEGER NOT NULL,
    workflow TEXT    NOT NULL,
    number   INTEGER NOT NULL CHECK (number >= 1),
    row      TEXT    NOT NULL CHECK (json_valid(row)),
    PRIMARY KEY (project, workflow, number)
) STRICT, WITHOUT ROWID;
