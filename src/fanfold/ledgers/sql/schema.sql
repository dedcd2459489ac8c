-- name: version_1
-- The ledger's tables, as of its first version. Times are seconds since the epoch.

-- One row a fan-out. `number` grows, so newest-first listings and the tasks' rows stay local.
CREATE TABLE fan_outs (
    number       INTEGER PRIMARY KEY,
    fan_out_id   TEXT NOT NULL UNIQUE,
    entity_id    TEXT NOT NULL,
    event_id     TEXT,
    metadata     TEXT NOT NULL,
    total_tasks  INTEGER NOT NULL,
    created_at   REAL NOT NULL,
    touched_at   REAL NOT NULL,
    completed_at REAL,
    fold_begun   INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX fan_outs_open ON fan_outs (touched_at) WHERE completed_at IS NULL;
CREATE INDEX fan_outs_completed ON fan_outs (completed_at) WHERE completed_at IS NOT NULL;
CREATE INDEX fan_outs_unfolded ON fan_outs (completed_at) WHERE completed_at IS NOT NULL AND fold_begun = 0;

-- One row a task, in the plan's `position`; the fold's own row has position -1 and begins with its first claim.
CREATE TABLE tasks (
    fan_out     INTEGER NOT NULL REFERENCES fan_outs (number),
    task_name   TEXT NOT NULL,
    position    INTEGER NOT NULL,
    state       TEXT NOT NULL DEFAULT 'pending',
    attempts    INTEGER NOT NULL DEFAULT 0,
    generation  INTEGER NOT NULL DEFAULT 0,
    task_config TEXT NOT NULL,
    result      TEXT,
    failure     TEXT,
    worker      TEXT NOT NULL DEFAULT '',
    updated_at  REAL NOT NULL,
    UNIQUE (fan_out, task_name)
);
-- "Is any name not terminal?" and the counts by state are answered from this index alone.
CREATE INDEX tasks_states ON tasks (fan_out, state, position);

-- name: version_2
-- How often a complete fan-out was opened again; its next fold carries the number.
ALTER TABLE fan_outs ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
