-- name: open_fan_out
-- Begins a fan-out, unless it is there; answers its number only when it is new. A small one is sealed in the same
-- transaction; a large one says whose plan is being written, until it is, and goes a day after nobody writes it any more.
INSERT INTO fan_outs (fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, touched_at, parent, early,
    min_succeeded, tolerated_failures, cancel_rest, deadline_at, order_by, keep, sealed, opening, sent, purge_at)
VALUES (:fan_out_id, :entity_id, :event_id, :metadata, :total_tasks, :now, :now, :parent, :early, :min_succeeded,
    :tolerated_failures, :cancel_rest, :now + :deadline, :order_by, :keep, :opening IS NULL, :opening, 0,
    CASE WHEN :opening IS NOT NULL THEN :now + 86400 END)
ON CONFLICT (fan_out_id) DO NOTHING
RETURNING number;

-- name: opening
-- A fan-out that is there: its number, generation, and whose plan is being written (none: it is sealed).
SELECT number, generation, opening FROM fan_outs WHERE fan_out_id = ?;

-- name: begin_again
-- Drops the pieces of a plan that another producer left half written; its fan-out follows.
DELETE FROM tasks WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = ? AND sealed = 0);

-- name: drop_unsealed
-- Drops a fan-out that another producer left half written.
DELETE FROM fan_outs WHERE fan_out_id = ? AND sealed = 0;

-- name: add_task_once
-- One name of the sealed set, where two producers may be writing the same plan.
INSERT INTO tasks (fan_out, task_name, position, task_config, updated_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (fan_out, task_name) DO NOTHING;

-- name: still_opening
-- Notes that a plan is still being written.
UPDATE fan_outs SET purge_at = :now + 86400 WHERE number = :number AND opening = :opening;

-- name: seal
-- Makes a fan-out there for everybody: all pieces of this plan are written.
UPDATE fan_outs SET sealed = 1, opening = NULL, touched_at = :now, purge_at = NULL
WHERE number = :number AND opening = :opening;

-- name: sent
-- Notes that the queue has accepted what waits in this generation.
UPDATE fan_outs SET sent = 1, touched_at = ? WHERE fan_out_id = ? AND generation = ? AND sealed = 1;

-- name: add_task
-- One name of the sealed set.
INSERT INTO tasks (fan_out, task_name, position, task_config, updated_at) VALUES (?, ?, ?, ?, ?);

-- name: states
-- Name and state of every task of a fan-out, without the fold's.
SELECT task_name, coalesce(terminal, stage) FROM tasks WHERE fan_out = ? AND position >= 0;

-- name: begin_fold
-- The fold's own row: only once its fan-out is complete, in its generation, and only the first time.
INSERT INTO tasks (fan_out, task_name, position, task_config, generation, updated_at)
SELECT number, :task_name, -1, '{}', generation, :now FROM fan_outs
WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND generation = :generation
ON CONFLICT (fan_out, task_name) DO NOTHING;

-- name: note_fold
-- Takes a fan-out off the list of those whose fold never began.
UPDATE fan_outs SET fold_begun = 1
WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND fold_begun = 0 AND generation = :generation;

-- name: claim
-- Starts an attempt of each task of a list that isn't terminal. A message older than the task's generation starts
-- nothing, nor does one that comes after the deadline of an open fan-out, or the fold of any but the current generation.
-- (`+terminal`: the index by it would read all that waits in the fan-out.)
UPDATE tasks
SET stage = 'running', attempts = attempts + 1, generation = :generation, worker = :worker, updated_at = :now
WHERE fan_out = (
    SELECT number FROM fan_outs
    WHERE fan_out_id = :fan_out_id AND sealed = 1
      AND (deadline_at IS NULL OR deadline_at > :now OR completed_at IS NOT NULL)
  )
  AND task_name IN (SELECT value FROM json_each(:task_names)) AND +terminal IS NULL
  AND generation <= :generation AND (position >= 0 OR generation = :generation)
RETURNING task_name, attempts, failure,
    (SELECT deadline_at FROM fan_outs WHERE fan_out_id = :fan_out_id AND completed_at IS NULL);

-- name: standing
-- Where a task stands, and how far its fan-out is: whether it is complete, and its fold's state.
SELECT coalesce(t.terminal, t.stage), t.attempts, t.generation, t.failure, f.completed_at IS NOT NULL AS complete,
    (SELECT coalesce(terminal, stage) FROM tasks WHERE fan_out = f.number AND task_name = :fold) AS fold_state,
    f.completed_at IS NULL AND f.deadline_at <= :now AS overdue, f.generation
FROM fan_outs AS f LEFT JOIN tasks AS t ON t.fan_out = f.number AND t.task_name = :task_name
WHERE f.fan_out_id = :fan_out_id AND f.sealed = 1;

-- name: finish
-- Ends an attempt, if it is still the current one. A death may also come to a task that isn't running.
UPDATE tasks
SET stage = CASE WHEN ?1 IS NULL THEN 'failed' ELSE stage END, terminal = ?1, result = ?2, failure = ?3, updated_at = ?4
WHERE fan_out = ?5 AND task_name = ?6 AND +terminal IS NULL AND (stage = 'running' OR ?1 = 'dead')
  AND generation = ?7 AND (?8 IS NULL OR attempts = ?8);

-- name: finish_alike
-- The same for a list of tasks of a fan-out that have ended alike, which takes half as long.
UPDATE tasks
SET stage = CASE WHEN ?1 IS NULL THEN 'failed' ELSE stage END, terminal = ?1, result = ?2, failure = ?3, updated_at = ?4
WHERE fan_out = ?5 AND task_name IN (SELECT value FROM json_each(?6)) AND +terminal IS NULL
  AND (stage = 'running' OR ?1 = 'dead') AND generation = ?7 AND (?8 IS NULL OR attempts = ?8);

-- name: finished_so
-- Whether a task already stands as `finish` would have left it: the same write, whose answer was lost.
SELECT 1 FROM tasks
WHERE fan_out = :number AND task_name = :task_name
  AND coalesce(terminal, stage) = :state AND generation = :generation AND attempts = :attempt;

-- name: touch
-- Notes that something happened in an open fan-out; answers its tolerance, and whether a name is left that isn't
-- terminal.
UPDATE fan_outs SET touched_at = :now
WHERE number = :number AND completed_at IS NULL
RETURNING early, min_succeeded, tolerated_failures, cancel_rest, EXISTS (
    SELECT 1 FROM tasks WHERE fan_out = fan_outs.number AND terminal IS NULL
);

-- name: at_least
-- How many tasks of a fan-out have ended in a state, counted up to a limit.
SELECT count(*) FROM tasks
WHERE rowid IN (SELECT rowid FROM tasks WHERE fan_out = ? AND terminal = ? AND position >= 0 LIMIT ?);

-- name: complete
-- Ends an open fan-out.
UPDATE fan_outs SET completed_at = :now, ended = :ended, purge_at = :now + keep
WHERE number = :number AND completed_at IS NULL;

-- name: cancel_rest
-- Cancels what is left of a fan-out.
UPDATE tasks SET terminal = 'cancelled', failure = :failure, updated_at = :now
WHERE fan_out = :number AND terminal IS NULL AND position >= 0
RETURNING task_name;

-- name: cancel_task
-- Cancels one task, if it isn't terminal.
UPDATE tasks SET terminal = 'cancelled', failure = :failure, updated_at = :now
WHERE fan_out = :number AND task_name = :task_name AND +terminal IS NULL AND position >= 0
RETURNING task_name;

-- name: stopped
-- Whether a running attempt isn't wanted any more.
SELECT terminal IS 'cancelled' OR generation > :generation FROM tasks
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name;

-- name: rerun_task
-- Lets a terminal task start anew, in the next generation, with another configuration if there is one.
UPDATE tasks
SET stage = 'pending', terminal = NULL, attempts = 0, result = NULL, failure = NULL, worker = '', updated_at = :now,
    task_config = coalesce(:task_config, task_config),
    generation = (SELECT generation + 1 FROM fan_outs WHERE number = :number)
WHERE fan_out = :number AND task_name = :task_name AND position >= 0
  AND (+terminal IN ('dead', 'cancelled') OR (:failed_only = 0 AND +terminal = 'succeeded'));

-- name: terminal_names
-- The names of a fan-out's tasks that have ended in a state.
SELECT task_name FROM tasks WHERE fan_out = ? AND terminal = ? AND position >= 0;

-- name: reopen
-- Begins a fan-out's next generation: it is open, and ends when every task is terminal.
UPDATE fan_outs
SET generation = generation + 1, completed_at = NULL, ended = NULL, purge_at = NULL, deadline_at = NULL, early = 0,
    fold_begun = 0, sent = 0, touched_at = :now
WHERE number = :number;

-- name: refold
-- Begins the next generation of a complete fan-out whose fold is dead, for the sake of another fold alone.
UPDATE fan_outs SET generation = generation + 1, fold_begun = 0, purge_at = :now + keep
WHERE number = :number AND completed_at IS NOT NULL
  AND EXISTS (SELECT 1 FROM tasks WHERE fan_out = :number AND task_name = :fold AND +terminal = 'dead');

-- name: forget_fold
-- Drops the fold of the generation before.
DELETE FROM tasks WHERE fan_out = ? AND task_name = ?;

-- name: fold_due
-- The generation of a fan-out that is complete and whose fold isn't over; no row for any other.
SELECT f.generation FROM fan_outs AS f
WHERE f.number = :number AND f.completed_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM tasks
    WHERE fan_out = f.number AND task_name = :fold AND +terminal IS NOT NULL
);

-- name: number
-- The number of a fan-out that is sealed.
SELECT number FROM fan_outs WHERE fan_out_id = ? AND sealed = 1;

-- name: fan_out
-- One fan-out.
SELECT * FROM summaries WHERE fan_out_id = ?;

-- name: newest
-- The newest fan-outs first.
SELECT * FROM summaries ORDER BY number DESC LIMIT ?;

-- name: newest_of_entity
-- An entity's fan-outs, the newest first.
SELECT * FROM summaries WHERE entity_id = ? ORDER BY number DESC LIMIT ?;

-- name: newest_of_parent
-- The fan-outs that another's completion enqueued, the newest first.
SELECT * FROM summaries WHERE parent = ? ORDER BY number DESC LIMIT ?;

-- name: open_newest
-- The open fan-outs, those that were touched last first.
SELECT * FROM summaries WHERE completed_at IS NULL ORDER BY touched_at DESC LIMIT ?;

-- name: stalled
-- Open fan-outs in which nothing was written since a time, oldest first.
SELECT * FROM summaries WHERE completed_at IS NULL AND touched_at < ? ORDER BY touched_at LIMIT ?;

-- name: unsent
-- Open fan-outs that nobody noted as sent, untouched since a time, oldest first.
SELECT * FROM summaries WHERE completed_at IS NULL AND sent = 0 AND touched_at < ? ORDER BY touched_at LIMIT ?;

-- name: overdue
-- Open fan-outs whose deadline has come.
SELECT * FROM summaries WHERE completed_at IS NULL AND deadline_at <= ? ORDER BY deadline_at LIMIT ?;

-- name: unfolded
-- Fan-outs completed between two times whose fold was never claimed.
SELECT * FROM summaries
WHERE completed_at IS NOT NULL AND fold_begun = 0 AND completed_at >= ? AND completed_at < ?
ORDER BY completed_at LIMIT ?;

-- name: unended_folds
-- Fan-outs whose fold was claimed and isn't over, and was touched last before a time, oldest first.
SELECT s.* FROM tasks AS t JOIN summaries AS s ON s.number = t.fan_out
WHERE t.position = -1 AND t.terminal IS NULL AND t.updated_at < ?
ORDER BY t.updated_at LIMIT ?;

-- name: progress
-- How many tasks of a fan-out are in which state, without the fold's: what has ended is counted in the index alone.
SELECT count(*) FILTER (WHERE stage = 'pending') AS pending, count(*) FILTER (WHERE stage = 'running') AS running,
    count(*) FILTER (WHERE stage = 'failed') AS failed,
    (SELECT count(*) FROM tasks WHERE fan_out = ?1 AND terminal = 'succeeded' AND position >= 0) AS succeeded,
    (SELECT count(*) FROM tasks WHERE fan_out = ?1 AND terminal = 'dead' AND position >= 0) AS dead,
    (SELECT count(*) FROM tasks WHERE fan_out = ?1 AND terminal = 'cancelled' AND position >= 0) AS cancelled
FROM tasks WHERE fan_out = ?1 AND terminal IS NULL AND position >= 0;

-- name: fold_state
-- Where a fan-out's fold stands; no row before its first claim.
SELECT coalesce(terminal, stage) FROM tasks WHERE fan_out = ? AND task_name = ?;

-- name: tasks
-- The tasks of a fan-out, without the fold's. The caller puts them in order: an index for it would cost every write.
SELECT position, task_name, coalesce(terminal, stage), attempts, generation, task_config, result, failure, worker, updated_at
FROM tasks WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = ?) AND position >= 0;

-- name: expired
-- Fan-outs that are kept no longer, oldest first, and what a dead producer left half written: neither those whose fold has begun and isn't over, nor those whose fold
-- never began and was due after a time.
SELECT number FROM fan_outs AS f
WHERE purge_at IS NOT NULL AND purge_at <= :now AND CASE
    WHEN sealed = 0 THEN 1
    WHEN fold_begun = 0 THEN purge_at - keep <= :since
    ELSE NOT EXISTS (
        SELECT 1 FROM tasks
        WHERE fan_out = f.number AND task_name = :fold AND +terminal IS NULL
    ) END
ORDER BY purge_at LIMIT :limit;

-- name: forget_tasks
-- Drops the tasks of a fan-out.
DELETE FROM tasks WHERE fan_out = ?;

-- name: forget_fan_out
-- Drops a fan-out.
DELETE FROM fan_outs WHERE number = ?;

-- name: lead
-- Takes or keeps a role; changes a row only for whoever has it now.
INSERT INTO leaders (role, holder, expires_at) VALUES (:role, :holder, :now + :seconds)
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE leaders.holder = excluded.holder OR leaders.expires_at <= :now;
