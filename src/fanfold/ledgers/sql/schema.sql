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
-- Ends by choice, large fan-outs, re-runs, chains, and one reconciler at a time.

-- `early`: the tolerance may end it before every task is terminal. `sealed`: all of its tasks are written; `opening` tells
-- whose plan is being written until then. `sent`: the queue has accepted a message for every task. `ended`: why it did.
ALTER TABLE fan_outs ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fan_outs ADD COLUMN parent TEXT;
ALTER TABLE fan_outs ADD COLUMN early INTEGER NOT NULL DEFAULT 0;
ALTER TABLE fan_outs ADD COLUMN min_succeeded INTEGER;
ALTER TABLE fan_outs ADD COLUMN tolerated_failures INTEGER;
ALTER TABLE fan_outs ADD COLUMN cancel_rest INTEGER NOT NULL DEFAULT 1;
ALTER TABLE fan_outs ADD COLUMN deadline_at REAL;
ALTER TABLE fan_outs ADD COLUMN order_by TEXT;
ALTER TABLE fan_outs ADD COLUMN keep REAL NOT NULL DEFAULT 1209600;
ALTER TABLE fan_outs ADD COLUMN sealed INTEGER NOT NULL DEFAULT 1;
ALTER TABLE fan_outs ADD COLUMN opening TEXT;
ALTER TABLE fan_outs ADD COLUMN sent INTEGER NOT NULL DEFAULT 1;
ALTER TABLE fan_outs ADD COLUMN ended TEXT;
ALTER TABLE fan_outs ADD COLUMN purge_at REAL;
UPDATE fan_outs SET ended = 'complete', purge_at = completed_at + keep WHERE completed_at IS NOT NULL;

DROP INDEX fan_outs_open;
DROP INDEX fan_outs_completed;
CREATE INDEX fan_outs_open ON fan_outs (touched_at) WHERE completed_at IS NULL AND sealed = 1;
CREATE INDEX fan_outs_unsent ON fan_outs (touched_at) WHERE completed_at IS NULL AND sealed = 1 AND sent = 0;
CREATE INDEX fan_outs_overdue ON fan_outs (deadline_at)
    WHERE completed_at IS NULL AND sealed = 1 AND deadline_at IS NOT NULL;
CREATE INDEX fan_outs_purge ON fan_outs (purge_at) WHERE purge_at IS NOT NULL;
CREATE INDEX fan_outs_entity ON fan_outs (entity_id, number);
CREATE INDEX fan_outs_parent ON fan_outs (parent, number) WHERE parent IS NOT NULL;

CREATE TABLE leaders (role TEXT PRIMARY KEY, holder TEXT NOT NULL, expires_at REAL NOT NULL) WITHOUT ROWID;

-- What readers see of a fan-out: nothing before it is sealed.
CREATE VIEW summaries AS
SELECT number, fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, completed_at, generation, parent, ended,
    deadline_at, min_succeeded, tolerated_failures, order_by, fold_begun, touched_at, sent, purge_at
FROM fan_outs WHERE sealed = 1;

-- name: version_3
-- Folds that began and aren't over: few, whatever else there is.
CREATE INDEX tasks_folding ON tasks (updated_at) WHERE position = -1 AND state IN ('pending', 'running', 'failed');

-- name: version_4
-- Starting an attempt changes nothing that an index of its table speaks of, or each start would write to the index:
-- `stage` says where a task stands while it is open, and `terminal` is its state once that is final. The former name of
-- `stage` is gone, so that a Fanfold that knows nothing of `terminal` starts and ends nothing here, and says so.
DROP INDEX tasks_states;
DROP INDEX tasks_folding;
ALTER TABLE tasks RENAME COLUMN state TO stage;
ALTER TABLE tasks ADD COLUMN terminal TEXT;
UPDATE tasks SET terminal = stage WHERE stage IN ('succeeded', 'dead', 'cancelled');

-- "Is any name not terminal?", and "how many have ended so?".
CREATE INDEX tasks_ends ON tasks (fan_out, terminal, position);
CREATE INDEX tasks_folding ON tasks (updated_at) WHERE position = -1 AND terminal IS NULL;
