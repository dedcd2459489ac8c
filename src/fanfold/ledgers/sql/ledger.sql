-- name: open_fan_out
-- Seals a fan-out, unless it is there; answers its number only when it is new.
INSERT INTO fan_outs (fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, touched_at)
VALUES (:fan_out_id, :entity_id, :event_id, :metadata, :total_tasks, :now, :now)
ON CONFLICT (fan_out_id) DO NOTHING
RETURNING number;

-- name: add_task
-- One name of the sealed set.
INSERT INTO tasks (fan_out, task_name, position, task_config, updated_at) VALUES (?, ?, ?, ?, ?);

-- name: states
-- Name and state of every task of a fan-out, without the fold's.
SELECT t.task_name, t.state
FROM fan_outs AS f JOIN tasks AS t ON t.fan_out = f.number
WHERE f.fan_out_id = ? AND t.position >= 0;

-- name: raise_fold
-- Makes the fold of a complete fan-out due in a later generation.
UPDATE fan_outs SET generation = :generation, fold_begun = 0
WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND generation < :generation;

-- name: begin_fold
-- The fold's own row: only once its fan-out is complete, and only the first time.
INSERT INTO tasks (fan_out, task_name, position, task_config, generation, updated_at)
SELECT number, :task_name, -1, '{}', generation, :now FROM fan_outs
WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND generation = :generation
ON CONFLICT (fan_out, task_name) DO NOTHING;

-- name: renew_fold
-- Begins the fold of a later generation, whatever became of the earlier one.
UPDATE tasks SET state = 'pending', attempts = 0, generation = :generation, result = NULL, failure = NULL
WHERE fan_out = (
    SELECT number FROM fan_outs
    WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND generation = :generation
) AND task_name = :task_name AND generation < :generation;

-- name: note_fold
-- Takes a fan-out off the list of those whose fold never began.
UPDATE fan_outs SET fold_begun = 1
WHERE fan_out_id = :fan_out_id AND completed_at IS NOT NULL AND generation = :generation AND fold_begun = 0;

-- name: claim
-- Starts an attempt of a task that isn't terminal. A message older than the task's generation starts nothing, and a fold
-- only what its fan-out is complete for.
UPDATE tasks
SET state = 'running', attempts = attempts + 1, generation = :generation, worker = :worker, updated_at = :now
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name
  AND state IN ('pending', 'running', 'failed') AND generation <= :generation
  AND (position >= 0 OR EXISTS (
    SELECT 1 FROM fan_outs
    WHERE number = tasks.fan_out AND completed_at IS NOT NULL AND fan_outs.generation = :generation
  ))
RETURNING attempts, failure;

-- name: reopen
-- Lets a task begin anew in a later generation.
UPDATE tasks SET state = 'pending', attempts = 0, generation = :generation, updated_at = :now
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name
  AND state IN ('pending', 'running', 'failed', 'dead') AND generation < :generation AND position >= 0;

-- name: reopen_fan_out
-- Opens a fan-out again of which a task was reopened; if it was complete, its next fold is another one.
UPDATE fan_outs
SET touched_at = :now, generation = generation + (completed_at IS NOT NULL), completed_at = NULL, fold_begun = 0
WHERE fan_out_id = :fan_out_id;

-- name: configure
-- What an edit made of a task's configuration, while the task stands in that generation.
UPDATE tasks SET task_config = :task_config
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name
  AND generation = :generation;

-- name: reopened
-- Whether a task (the fold: its fan-out) stands in that generation or a later one: a row, or none.
SELECT 1 FROM fan_outs AS f LEFT JOIN tasks AS t ON t.fan_out = f.number AND t.task_name = :task_name
WHERE f.fan_out_id = :fan_out_id
  AND CASE WHEN :task_name = :fold THEN f.generation ELSE t.generation END >= :generation;

-- name: standing
-- Where a task stands, and how far its fan-out is: whether it is complete, its generation and that one's fold's state.
SELECT t.state, t.attempts, t.generation, t.failure, f.completed_at IS NOT NULL AS complete, f.generation,
    (SELECT state FROM tasks WHERE fan_out = f.number AND task_name = :fold AND generation = f.generation) AS fold_state
FROM fan_outs AS f LEFT JOIN tasks AS t ON t.fan_out = f.number AND t.task_name = :task_name
WHERE f.fan_out_id = :fan_out_id;

-- name: finish
-- Ends an attempt, if it is still the current one. A death may also come to a task that isn't running.
UPDATE tasks
SET state = :state, result = :result, failure = :failure, updated_at = :now
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name
  AND (state = 'running' OR (:state = 'dead' AND state IN ('pending', 'failed')))
  AND (:attempt IS NULL OR attempts = :attempt) AND generation = :generation;

-- name: finished_so
-- Whether a task already stands as `finish` would have left it: the same write, whose answer was lost.
SELECT 1 FROM tasks
WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = :fan_out_id) AND task_name = :task_name
  AND state = :state AND attempts = :attempt AND generation = :generation;

-- name: touch
-- Notes that something happened in an open fan-out, and completes it when all its names are terminal: an earlier fold's
-- row may still be open then.
UPDATE fan_outs
SET touched_at = :now,
    completed_at = CASE WHEN EXISTS (
        SELECT 1 FROM tasks WHERE fan_out = fan_outs.number AND state IN ('pending', 'running', 'failed') AND position >= 0
    ) THEN NULL ELSE :now END
WHERE fan_out_id = :fan_out_id AND completed_at IS NULL;

-- name: fold_due
-- The generation of the fold of a fan-out that is complete and whose fold isn't over: a row, or none.
SELECT f.generation FROM fan_outs AS f
WHERE f.fan_out_id = :fan_out_id AND f.completed_at IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM tasks
    WHERE fan_out = f.number AND task_name = :fold AND generation = f.generation
      AND state IN ('succeeded', 'dead', 'cancelled')
);

-- name: fan_out
-- One fan-out.
SELECT * FROM fan_outs WHERE fan_out_id = ?;

-- name: newest
-- The newest fan-outs first.
SELECT * FROM fan_outs ORDER BY number DESC LIMIT ?;

-- name: open_newest
-- The open fan-outs, those that were touched last first.
SELECT * FROM fan_outs WHERE completed_at IS NULL ORDER BY touched_at DESC LIMIT ?;

-- name: stalled
-- Open fan-outs in which nothing was written since a time, oldest first.
SELECT * FROM fan_outs WHERE completed_at IS NULL AND touched_at < ? ORDER BY touched_at LIMIT ?;

-- name: unfolded
-- Fan-outs completed between two times whose fold was never claimed.
SELECT * FROM fan_outs
WHERE completed_at IS NOT NULL AND fold_begun = 0 AND completed_at >= ? AND completed_at < ?
ORDER BY completed_at LIMIT ?;

-- name: progress
-- How many tasks of a fan-out are in which state, without the fold's.
SELECT state, count(*) FROM tasks WHERE fan_out = ? AND position >= 0 GROUP BY state;

-- name: fold_state
-- Where the fold of a fan-out's generation stands; no row before its first claim.
SELECT state FROM tasks WHERE fan_out = ? AND task_name = ? AND generation = ?;

-- name: tasks
-- The tasks of a fan-out, without the fold's. The caller puts them in order: an index for it would cost every write.
SELECT position, task_name, state, attempts, generation, task_config, result, failure, worker, updated_at
FROM tasks WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = ?) AND position >= 0;

-- name: record
-- One task, the fold's included.
SELECT position, task_name, state, attempts, generation, task_config, result, failure, worker, updated_at
FROM tasks WHERE fan_out = (SELECT number FROM fan_outs WHERE fan_out_id = ?) AND task_name = ?;

-- name: expired
-- Fan-outs completed before a time, oldest first.
SELECT number FROM fan_outs WHERE completed_at IS NOT NULL AND completed_at < ? ORDER BY completed_at LIMIT ?;

-- name: forget_tasks
-- Drops the tasks of a fan-out.
DELETE FROM tasks WHERE fan_out = ?;

-- name: forget_fan_out
-- Drops a fan-out.
DELETE FROM fan_outs WHERE number = ?;
