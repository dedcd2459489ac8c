-- name: version_1
-- The ledger's tables in PostgreSQL, in the schema that the search path names. Times are seconds since the epoch.

-- One row, made by the migration: which version these tables are of.
CREATE TABLE ledger_version (version integer NOT NULL);
INSERT INTO ledger_version VALUES (1);

-- One row a fan-out. Whoever changes it, or one of its tasks, locks it first, so that what is decided about its end is
-- decided by one at a time. `early`: the tolerance may end it before every task is terminal. `sealed`: all of its tasks
-- are written; `opening` tells whose plan is being written until then. `sent`: the queue has accepted a message for every
-- task. `ended`: why it did. Room is left in the pages, so that a new version of a row finds its place beside the old one.
CREATE TABLE fan_outs (
    number             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    fan_out_id         text NOT NULL UNIQUE,
    entity_id          text NOT NULL,
    event_id           text,
    metadata           text NOT NULL,
    total_tasks        integer NOT NULL,
    created_at         double precision NOT NULL,
    touched_at         double precision NOT NULL,
    completed_at       double precision,
    generation         integer NOT NULL DEFAULT 0,
    parent             text,
    early              boolean NOT NULL,
    min_succeeded      integer,
    tolerated_failures integer,
    cancel_rest        boolean NOT NULL,
    deadline_at        double precision,
    order_by           text,
    keep               double precision NOT NULL,
    sealed             boolean NOT NULL,
    opening            text,
    sent               boolean NOT NULL DEFAULT false,
    fold_begun         boolean NOT NULL DEFAULT false,
    ended              text,
    purge_at           double precision
) WITH (fillfactor = 70);
CREATE INDEX fan_outs_open ON fan_outs (touched_at) WHERE completed_at IS NULL AND sealed;
CREATE INDEX fan_outs_unsent ON fan_outs (touched_at) WHERE completed_at IS NULL AND sealed AND NOT sent;
CREATE INDEX fan_outs_overdue ON fan_outs (deadline_at)
    WHERE completed_at IS NULL AND sealed AND deadline_at IS NOT NULL;
CREATE INDEX fan_outs_unfolded ON fan_outs (completed_at) WHERE completed_at IS NOT NULL AND NOT fold_begun;
CREATE INDEX fan_outs_purge ON fan_outs (purge_at) WHERE purge_at IS NOT NULL;
CREATE INDEX fan_outs_entity ON fan_outs (entity_id, number);
CREATE INDEX fan_outs_parent ON fan_outs (parent, number) WHERE parent IS NOT NULL;

-- One row a task, in the plan's `position`; the fold's own row has position -1 and begins with its first claim. Starting an
-- attempt must change nothing that any index speaks of, or it would write to all of them: so `terminal`, which is the state
-- once it is final, is in the indexes, and `state` in none. There is no foreign key: it would lock the fan-out's row once
-- more for each task, and nothing but the functions below writes here.
CREATE TABLE tasks (
    fan_out     bigint NOT NULL,
    task_name   text NOT NULL,
    position    integer NOT NULL,
    state       text NOT NULL DEFAULT 'pending',
    terminal    text GENERATED ALWAYS AS (CASE WHEN state IN ('succeeded', 'dead', 'cancelled') THEN state END) STORED,
    attempts    integer NOT NULL DEFAULT 0,
    generation  integer NOT NULL DEFAULT 0,
    task_config text NOT NULL,
    result      text,
    failure     text,
    worker      text NOT NULL DEFAULT '',
    updated_at  double precision NOT NULL,
    PRIMARY KEY (fan_out, task_name)
) WITH (fillfactor = 50);
-- "Is any name not terminal?", and "have enough ended so?".
CREATE INDEX tasks_waiting ON tasks (fan_out) WHERE terminal IS NULL;
CREATE INDEX tasks_ended ON tasks (fan_out, terminal) WHERE terminal IS NOT NULL AND position >= 0;

CREATE TABLE leaders (role text PRIMARY KEY, holder text NOT NULL, expires_at double precision NOT NULL);

-- What readers see of a fan-out: nothing before it is sealed.
CREATE VIEW summaries AS
SELECT f.number, f.fan_out_id, f.entity_id, f.event_id, f.metadata, f.total_tasks, f.created_at, f.completed_at,
    f.generation, f.parent, f.ended, f.deadline_at, f.min_succeeded, f.tolerated_failures, f.order_by, f.fold_begun,
    f.touched_at, f.sent, f.purge_at, progress.pending, progress.running, progress.failed, progress.succeeded,
    progress.dead, progress.cancelled, fold.state AS fold_state
FROM fan_outs AS f
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'running') AS running,
        count(*) FILTER (WHERE state = 'failed') AS failed, count(*) FILTER (WHERE state = 'succeeded') AS succeeded,
        count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'cancelled') AS cancelled
    FROM tasks WHERE fan_out = f.number AND position >= 0
) AS progress
LEFT JOIN tasks AS fold ON fold.fan_out = f.number AND fold.task_name = 'fanfold.fold'
WHERE f.sealed;

-- name: version_2
-- Folds that began and aren't over: few, so they are found without their time, which no index may speak of.
CREATE INDEX tasks_folding ON tasks (fan_out) WHERE terminal IS NULL AND position < 0;

-- name: version_3
-- New functions only: `advance`, `run_again`, `forget`. Those of before stay, for workers that still run.
SELECT;

-- name: version_4
-- Functions only: they look up by keys alone, and `forget` clears away what was left half written.
SELECT;
