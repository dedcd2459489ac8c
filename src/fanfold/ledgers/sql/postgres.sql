-- name: installed
-- Whether the schema is there, and the ledger's tables in it. (`to_regclass` would answer from what the session has
-- remembered, which another's commit doesn't change at once.)
SELECT count(*) > 0 AS schema, count(c.oid) > 0 AS tables
FROM pg_namespace AS n LEFT JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'ledger_version'
WHERE n.nspname = %(schema)s;

-- name: take_turn
-- Lets one at a time bring a schema up to date, until the transaction's end.
SELECT pg_advisory_xact_lock(hashtext('fanfold ledger ' || %(schema)s));

-- name: create_schema
-- Makes the schema.
CREATE SCHEMA {schema};

-- name: enter_schema
-- Makes what follows in the transaction find its names in the schema.
SET LOCAL search_path = {schema}, pg_temp;

-- name: version
-- Which version the tables are of.
SELECT version FROM {schema}.ledger_version;

-- name: lacking
-- Which rights to the schema and to its tables the role hasn't. Functions may be called by everybody, if nobody says else.
SELECT 'USAGE' AS privilege, 'SCHEMA ' || n.nspname AS thing
FROM pg_namespace AS n
WHERE n.nspname = %(schema)s AND NOT has_schema_privilege(n.oid, 'USAGE')
UNION ALL
SELECT p.privilege, n.nspname || '.' || c.relname
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relkind = 'r'
CROSS JOIN unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p (privilege)
WHERE n.nspname = %(schema)s AND NOT has_table_privilege(c.oid, p.privilege)
ORDER BY thing, privilege;

-- name: note_version
-- Notes which version the tables are of now.
UPDATE {schema}.ledger_version SET version = %(version)s;

-- name: begin_fan_out
-- Begins to write a large plan, or finds what is there.
SELECT * FROM {schema}.begin_fan_out(%(plan)s, %(digest)s, %(now)s);

-- name: open_fan_out
-- Seals a plan at once, or finds what is there.
SELECT * FROM {schema}.open_fan_out(%(plan)s, %(tasks)s, %(now)s);

-- name: continue_opening
-- Writes a piece of a large plan, or seals it.
SELECT {schema}.continue_opening(%(fan_out_id)s, %(number)s, %(digest)s, %(tasks)s, %(at)s, %(now)s) AS continues;

-- name: states
-- Name and state of every task of a fan-out, without the fold's.
SELECT task_name, state FROM {schema}.tasks WHERE fan_out = %(number)s AND position >= 0;

-- name: sent
-- Notes that the queue has accepted what waits in this generation.
UPDATE {schema}.fan_outs SET sent = true, touched_at = %(now)s
WHERE fan_out_id = %(fan_out_id)s AND generation = %(generation)s AND sealed;

-- name: advance
-- Ends attempts, and starts others.
SELECT * FROM {schema}.advance(%(ids)s, %(of_ends)s, %(finishes)s, %(claims)s, %(reasons)s, %(now)s);

-- name: stopped
-- Which of these running attempts nobody wants any more, in their order.
SELECT coalesce((
    SELECT t.state = 'cancelled' OR t.generation > c.generation FROM {schema}.tasks AS t
    WHERE t.fan_out = (SELECT number FROM {schema}.fan_outs WHERE fan_out_id = c.fan_out_id) AND t.task_name = c.task_name
), false) AS stopped
FROM ROWS FROM (
    jsonb_to_recordset(%(claims)s) AS (fan_out_id text, task_name text, generation integer)
) WITH ORDINALITY AS c (fan_out_id, task_name, generation, n)
ORDER BY c.n;

-- name: cancel
-- Cancels some tasks, or all.
SELECT * FROM {schema}.cancel(%(fan_out_id)s, %(names)s, %(ended)s, %(reasons)s, %(now)s);

-- name: run_again
-- Lets terminal tasks start anew.
SELECT {schema}.run_again(%(fan_out_id)s, %(names)s, %(failed_only)s, %(configs)s, %(now)s) AS found;

-- name: fan_out
-- One fan-out.
SELECT * FROM {schema}.summaries WHERE fan_out_id = %(fan_out_id)s;

-- name: whole
-- One fan-out with its tasks as they stand at one moment, in the order of the plan.
SELECT s.*, (
    SELECT coalesce(json_agg(json_build_object('task_name', task_name, 'state', state, 'attempts', attempts,
        'generation', generation, 'task_config', task_config, 'result', result, 'failure', failure, 'worker', worker,
        'updated_at', updated_at) ORDER BY position), '[]')
    FROM {schema}.tasks WHERE fan_out = s.number AND position >= 0
) AS tasks
FROM {schema}.summaries AS s WHERE s.fan_out_id = %(fan_out_id)s;

-- name: tasks
-- The tasks of a fan-out, without the fold's, in the order of the plan.
SELECT task_name, state, attempts, generation, task_config, result, failure, worker, updated_at
FROM {schema}.tasks
WHERE fan_out = (SELECT number FROM {schema}.fan_outs WHERE fan_out_id = %(fan_out_id)s AND sealed) AND position >= 0
ORDER BY position;

-- name: waiting
-- The tasks of some fan-outs that nobody has claimed yet, in the order of each plan.
SELECT fan_out, task_name, state, attempts, generation, task_config, result, failure, worker, updated_at
FROM {schema}.tasks
WHERE fan_out = ANY (%(numbers)s::bigint[]) AND terminal IS NULL AND position >= 0 AND state = 'pending'
ORDER BY fan_out, position;

-- name: newest
-- The newest fan-outs first.
SELECT * FROM {schema}.summaries ORDER BY number DESC LIMIT %(limit)s;

-- name: newest_of_entity
-- An entity's fan-outs, the newest first.
SELECT * FROM {schema}.summaries WHERE entity_id = %(of)s ORDER BY number DESC LIMIT %(limit)s;

-- name: newest_of_parent
-- The fan-outs that another's completion enqueued, the newest first.
SELECT * FROM {schema}.summaries WHERE parent = %(of)s ORDER BY number DESC LIMIT %(limit)s;

-- name: open_newest
-- The open fan-outs, those that were touched last first.
SELECT * FROM {schema}.summaries WHERE completed_at IS NULL ORDER BY touched_at DESC LIMIT %(limit)s;

-- name: stalled
-- Open fan-outs in which nothing was written since a time, oldest first.
SELECT * FROM {schema}.summaries WHERE completed_at IS NULL AND touched_at < %(since)s
ORDER BY touched_at LIMIT %(limit)s;

-- name: unsent
-- Open fan-outs that nobody noted as sent, untouched since a time, oldest first.
SELECT * FROM {schema}.summaries WHERE completed_at IS NULL AND NOT sent AND touched_at < %(since)s
ORDER BY touched_at LIMIT %(limit)s;

-- name: overdue
-- Open fan-outs whose deadline has come.
SELECT * FROM {schema}.summaries WHERE completed_at IS NULL AND deadline_at <= %(now)s
ORDER BY deadline_at LIMIT %(limit)s;

-- name: unfolded
-- Fan-outs completed between two times whose fold was never claimed.
SELECT * FROM {schema}.summaries
WHERE completed_at IS NOT NULL AND NOT fold_begun AND completed_at >= %(since)s AND completed_at < %(before)s
ORDER BY completed_at LIMIT %(limit)s;

-- name: unended_folds
-- Fan-outs whose fold was claimed and isn't over, and was touched last before a time, oldest first.
SELECT s.* FROM {schema}.tasks AS t JOIN {schema}.summaries AS s ON s.number = t.fan_out
WHERE t.terminal IS NULL AND t.position < 0 AND t.updated_at < %(since)s
ORDER BY t.updated_at LIMIT %(limit)s;

-- name: lead
-- Takes or keeps a role; answers a row only to whoever has it now.
INSERT INTO {schema}.leaders AS l (role, holder, expires_at)
VALUES (%(role)s, %(holder)s, %(now)s + %(seconds)s::double precision)
ON CONFLICT (role) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
WHERE l.holder = excluded.holder OR l.expires_at <= %(now)s
RETURNING holder;

-- name: forget
-- Forgets fan-outs that are kept no longer.
SELECT {schema}.forget(%(limit)s, %(since)s, %(now)s) AS forgotten;
