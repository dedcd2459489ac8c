-- What the ledger calls runs in one round trip and one transaction, and locks first whatever it changes. It finds the
-- tables by the path that it was made with, whatever the session's is, and is told never to read one from end to end:
-- plans are made once a session, perhaps while the tables are still empty. What it calls in turn needs neither. For the same
-- reason rows are looked up by their keys alone, and what else is asked of them is asked outside (OFFSET 0 keeps that apart,
-- and a subquery for one value is never hashed): by the statistics of a quiet hour, an index of the few that are open looks
-- smaller than the key's, and is read from end to end in a busy one.

-- name: lock_fan_outs
-- Locks the rows of fan-outs, always in the same order: whoever locks several never waits for one who waits for it. What
-- comes after in the transaction sees all that was committed before the locks were had.
CREATE OR REPLACE FUNCTION lock_fan_outs(ids text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM number FROM fan_outs WHERE fan_out_id = ANY (ids) ORDER BY fan_out_id FOR NO KEY UPDATE;
END $$;

-- name: early_end
-- Why a tolerant fan-out ends before all of its tasks are terminal, or null.
CREATE OR REPLACE FUNCTION early_end(f fan_outs) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    enough bigint := f.min_succeeded;
    too_many bigint := f.tolerated_failures + 1;
BEGIN
    IF enough IS NOT NULL AND enough <= (
        SELECT count(*) FROM (SELECT FROM tasks WHERE fan_out = f.number AND terminal IS NOT NULL AND position >= 0
            AND terminal = 'succeeded' LIMIT enough) AS counted
    ) THEN
        RETURN 'enough';
    END IF;
    IF too_many IS NOT NULL AND too_many <= (
        SELECT count(*) FROM (SELECT FROM tasks WHERE fan_out = f.number AND terminal IS NOT NULL AND position >= 0
            AND terminal IN ('dead', 'cancelled') LIMIT too_many) AS counted
    ) THEN
        RETURN 'failed';
    END IF;
    RETURN NULL;
END $$;

-- name: cancel_rest
-- Cancels what is left of a fan-out; answers the names.
CREATE OR REPLACE FUNCTION cancel_rest(of bigint, reason text, now double precision) RETURNS SETOF text LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY WITH cancelled AS (
        UPDATE tasks SET state = 'cancelled', failure = reason, updated_at = now
        WHERE fan_out = of AND terminal IS NULL AND position >= 0
        RETURNING task_name, position
    ) SELECT task_name FROM cancelled ORDER BY position;
END $$;

-- name: end_fan_out
-- Ends an open fan-out for a reason.
CREATE OR REPLACE FUNCTION end_fan_out(of bigint, reason text, now double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fan_outs SET completed_at = now, ended = reason, purge_at = now + keep
    WHERE number = of AND completed_at IS NULL;
END $$;

-- name: conclude
-- Notes that something happened in an open fan-out, and ends it if it is time. `reasons`: the failure of tasks that an end
-- cancels, by the end. A note of the last second is good enough: a new one would cost a write to each index.
CREATE OR REPLACE FUNCTION conclude(of bigint, reasons jsonb, now double precision) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    f fan_outs;
    waiting boolean := EXISTS (SELECT FROM tasks WHERE fan_out = of AND terminal IS NULL);
    reason text;
BEGIN
    SELECT * INTO f FROM fan_outs WHERE number = of;
    IF f.completed_at IS NOT NULL OR NOT f.sealed THEN
        RETURN;
    END IF;
    reason := CASE WHEN NOT waiting THEN 'complete' WHEN f.early THEN early_end(f) END;
    IF f.touched_at NOT BETWEEN now - 1 AND now OR reason IS NOT NULL THEN
        UPDATE fan_outs SET touched_at = now WHERE number = of;
    END IF;
    IF reason IS NOT NULL THEN
        PERFORM end_fan_out(of, reason, now);
        IF waiting AND f.cancel_rest THEN
            PERFORM cancel_rest(of, reasons ->> reason, now);
        END IF;
    END IF;
END $$;

-- name: fold_due
-- The generation of a fan-out that is complete and whose fold isn't over; null for any other.
CREATE OR REPLACE FUNCTION fold_due(of text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN (
        SELECT f.generation FROM fan_outs AS f
        WHERE f.fan_out_id = of AND f.completed_at IS NOT NULL AND NOT EXISTS (
            SELECT FROM tasks WHERE fan_out = f.number AND task_name = 'fanfold.fold' AND terminal IS NOT NULL
        )
    );
END $$;

-- name: begin_fold
-- Makes the fold's own row: only once its fan-out is complete, in its generation, and only the first time.
CREATE OR REPLACE FUNCTION begin_fold(of bigint, now double precision) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tasks (fan_out, task_name, position, task_config, generation, updated_at)
    SELECT number, 'fanfold.fold', -1, '{}', generation, now FROM fan_outs WHERE number = of
    ON CONFLICT (fan_out, task_name) DO NOTHING;
    UPDATE fan_outs SET fold_begun = true WHERE number = of AND NOT fold_begun;
END $$;

-- name: standing
-- Where a task stands that can't be claimed, and whether its fan-out's fold is due; a null state where nobody knows it.
CREATE OR REPLACE FUNCTION standing(
    f fan_outs, name text, wanted integer,
    OUT state text, OUT attempt integer, OUT fold_generation integer, OUT failure text, OUT deadline_at double precision
) LANGUAGE plpgsql AS $$
DECLARE
    t tasks;
BEGIN
    SELECT * INTO t FROM tasks WHERE fan_out = f.number AND task_name = name;
    IF name = 'fanfold.fold' AND (NOT FOUND OR t.generation <> wanted) THEN
        -- The fan-out was opened again since this fold was sent; that one sends its own.
        state := 'cancelled';
        attempt := 0;
    ELSIF FOUND THEN
        state := CASE WHEN t.generation > wanted THEN 'cancelled' ELSE t.state END;
        attempt := t.attempts;
        failure := t.failure;
        fold_generation := CASE WHEN name <> 'fanfold.fold' THEN fold_due(f.fan_out_id) END;
    END IF;
END $$;

-- name: claim_alone
-- Starts an attempt of a task, or of a fold, in its turn. A message older than the task's generation starts nothing, nor does
-- one that comes after the deadline of an open fan-out, which that ends, nor the fold of any but the current generation.
CREATE OR REPLACE FUNCTION claim_alone(
    wanted text, name text, of_generation integer, by text, reasons jsonb, now double precision,
    OUT state text, OUT attempt integer, OUT fold_generation integer, OUT failure text, OUT deadline_at double precision
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    f fan_outs;
BEGIN
    SELECT * INTO f FROM fan_outs WHERE fan_out_id = wanted AND sealed;
    IF name = 'fanfold.fold' AND f.completed_at IS NOT NULL AND f.generation = of_generation THEN
        PERFORM begin_fold(f.number, now);
    END IF;
    IF f.completed_at IS NULL AND f.deadline_at <= now THEN
        PERFORM cancel_rest(f.number, reasons ->> 'deadline', now);
        PERFORM end_fan_out(f.number, 'deadline', now);
        f.completed_at := now;
    END IF;
    UPDATE tasks
    SET state = 'running', attempts = attempts + 1, generation = of_generation, worker = by, updated_at = now
    WHERE fan_out = f.number AND task_name = name AND state IN ('pending', 'running', 'failed')
      AND generation <= of_generation
      AND (position >= 0 OR generation = of_generation)
    RETURNING tasks.state, tasks.attempts, tasks.failure, CASE WHEN f.completed_at IS NULL THEN f.deadline_at END
    INTO state, attempt, failure, deadline_at;
    IF NOT FOUND THEN
        SELECT s.* INTO state, attempt, fold_generation, failure, deadline_at
        FROM standing(f, name, of_generation) AS s WHERE f.number IS NOT NULL;
    END IF;
END $$;

-- name: start_attempts
-- Starts attempts, in one statement where nothing is special about them; what is has its turn after that, in their order.
-- Answers, by their numbers from 1: those started at once, with attempt, failure and deadline, and all others, as
-- `claim_alone` does. Rows are looked up one by one and changed by their place, which is theirs while their fan-outs are
-- held: as a join, it might be planned from the tables' end, while they are still empty.
CREATE OR REPLACE FUNCTION start_attempts(
    claims jsonb, reasons jsonb, now double precision, OUT started text, OUT others text
) LANGUAGE plpgsql AS $$
DECLARE
    special bigint[];
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT c.n, c.task_name, c.generation, c.worker, f.number, CASE WHEN f.completed_at IS NULL THEN f.deadline_at END AS until
        FROM ROWS FROM (
            jsonb_to_recordset(claims) AS (fan_out_id text, task_name text, generation integer, worker text)
        ) WITH ORDINALITY AS c (fan_out_id, task_name, generation, worker, n)
        LEFT JOIN LATERAL (
            SELECT number, completed_at, deadline_at FROM fan_outs WHERE fan_out_id = c.fan_out_id AND sealed OFFSET 0
        ) AS f ON true
    ), found AS MATERIALIZED (
        SELECT w.*, t.place FROM wanted AS w CROSS JOIN LATERAL (
            SELECT ctid AS place, terminal, position, tasks.generation AS now_in FROM tasks
            WHERE fan_out = w.number AND task_name = w.task_name OFFSET 0
        ) AS t
        WHERE (w.until IS NULL OR w.until > now) AND t.terminal IS NULL AND t.position >= 0 AND t.now_in <= w.generation
    ), begun AS (
        UPDATE tasks AS t SET state = 'running', attempts = t.attempts + 1, generation = found.generation,
            worker = found.worker, updated_at = now
        FROM found WHERE t.ctid = found.place
        RETURNING found.n, t.attempts, t.failure, found.until
    )
    SELECT (SELECT json_agg(json_build_array(n, attempts, failure, until)) FROM begun),
        (SELECT array_agg(n) FROM wanted WHERE n NOT IN (SELECT n FROM begun))
    INTO started, special;
    IF special IS NOT NULL THEN
        others := claim_some(claims, special, reasons, now);
    END IF;
END $$;

-- name: claim_some
-- Those claims of a call that are named by their numbers from 1, one after the other; answers each with its number.
CREATE OR REPLACE FUNCTION claim_some(claims jsonb, numbers bigint[], reasons jsonb, now double precision) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
    answers json[] := '{}';
    n bigint;
    c jsonb;
    a record;
BEGIN
    FOREACH n IN ARRAY numbers LOOP
        c := claims -> (n - 1)::integer;
        a := claim_alone(c ->> 'fan_out_id', c ->> 'task_name', (c ->> 'generation')::integer, c ->> 'worker', reasons, now);
        answers := answers || json_build_array(n, a.state, a.attempt, a.fold_generation, a.failure, a.deadline_at);
    END LOOP;
    RETURN array_to_json(answers);
END $$;

-- name: end_alone
-- Ends an attempt, if it is still the current one; a death may also come to a task that isn't running. What stands already as
-- it would have been left counts as applied: the same write, whose answer was lost.
CREATE OR REPLACE FUNCTION end_alone(e jsonb, now double precision) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    name text := e ->> 'task_name';
    ends text := e ->> 'state';
    of_generation integer := e ->> 'generation';
    of_attempt integer := e ->> 'attempt';
    of bigint := (SELECT number FROM fan_outs WHERE fan_out_id = e ->> 'fan_out_id' AND sealed);
BEGIN
    UPDATE tasks SET state = ends, result = e ->> 'result', failure = e ->> 'failure', updated_at = now
    WHERE fan_out = of AND task_name = name AND (state = 'running' OR (ends = 'dead' AND state IN ('pending', 'failed')))
      AND generation = of_generation AND (of_attempt IS NULL OR attempts = of_attempt);
    RETURN FOUND OR EXISTS (
        SELECT FROM tasks WHERE fan_out = of AND task_name = name
          AND state = ends AND generation = of_generation AND attempts = of_attempt
    );
END $$;

-- name: end_attempts
-- Ends attempts, in one statement where they run and nobody else ends them; what is left has its turn after that, in their
-- order. Answers the numbers, from 1, of those that were not applied.
CREATE OR REPLACE FUNCTION end_attempts(finishes jsonb, now double precision) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
    special bigint[];
BEGIN
    WITH wanted AS MATERIALIZED (
        SELECT * FROM ROWS FROM (
            jsonb_to_recordset(finishes) AS (
                fan_out_id text, task_name text, attempt integer, generation integer, state text, result text, failure text
            )
        ) WITH ORDINALITY AS e (fan_out_id, task_name, attempt, generation, state, result, failure, n)
    ), found AS MATERIALIZED (
        SELECT w.*, t.place FROM wanted AS w CROSS JOIN LATERAL (
            SELECT number FROM fan_outs WHERE fan_out_id = w.fan_out_id AND sealed OFFSET 0
        ) AS f CROSS JOIN LATERAL (
            SELECT ctid AS place FROM tasks WHERE fan_out = f.number AND task_name = w.task_name
                AND tasks.state = 'running' AND tasks.generation = w.generation AND attempts = w.attempt
            OFFSET 0
        ) AS t
    ), ended AS (
        UPDATE tasks AS t SET state = found.state, result = found.result, failure = found.failure, updated_at = now
        FROM found WHERE t.ctid = found.place
        RETURNING found.n
    )
    SELECT array_agg(n) INTO special FROM wanted WHERE n NOT IN (SELECT n FROM ended);
    IF special IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN ARRAY(SELECT n FROM unnest(special) AS n WHERE NOT end_alone(finishes -> (n - 1)::integer, now));
END $$;

-- name: advance
-- Ends attempts, and the fan-outs that they complete; then starts others. `ids`: all fan-outs that it is about; `of_ends`: those
-- of the ends, without the folds'. An answer is JSON, or null where there is nothing to say: which ends were `missed`; by the
-- ids of ended fan-outs the generation whose fold is `due`; which attempts were `started`; what else came of the `others`.
CREATE OR REPLACE FUNCTION advance(
    ids text[], of_ends text[], finishes jsonb, claims jsonb, reasons jsonb, now double precision
) RETURNS TABLE (missed text, due text, started text, others text) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
BEGIN
    PERFORM lock_fan_outs(ids);
    IF finishes IS NOT NULL THEN
        missed := array_to_json(end_attempts(finishes, now));
    END IF;
    IF cardinality(of_ends) > 0 THEN
        PERFORM conclude(number, reasons, now) FROM (SELECT * FROM fan_outs WHERE fan_out_id = ANY (of_ends) OFFSET 0) AS f
        WHERE completed_at IS NULL AND sealed AND (
            early OR touched_at NOT BETWEEN now - 1 AND now
            OR (SELECT true FROM tasks WHERE fan_out = f.number AND terminal IS NULL LIMIT 1) IS NULL
        );
        due := (
            SELECT json_object_agg(fan_out_id, generation)
            FROM (SELECT * FROM fan_outs WHERE fan_out_id = ANY (of_ends) OFFSET 0) AS f
            WHERE completed_at IS NOT NULL AND (
                SELECT terminal FROM tasks WHERE fan_out = f.number AND task_name = 'fanfold.fold'
            ) IS NULL
        );
    END IF;
    IF claims IS NOT NULL THEN
        SELECT s.started, s.others INTO started, others FROM start_attempts(claims, reasons, now) AS s;
    END IF;
    RETURN NEXT;
END $$;

-- name: cancel
-- Cancels what isn't terminal of some tasks, or of all (null), which ends the fan-out; no row where there is none.
CREATE OR REPLACE FUNCTION cancel(
    wanted text, names text[], why text, reasons jsonb, now double precision
) RETURNS TABLE (cancelled text[], fold_generation integer) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    of bigint;
BEGIN
    PERFORM lock_fan_outs(ARRAY[wanted]);
    SELECT number INTO of FROM fan_outs WHERE fan_out_id = wanted AND sealed;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    IF names IS NULL THEN
        cancelled := ARRAY(SELECT cancel_rest(of, reasons ->> why, now));
        PERFORM end_fan_out(of, why, now);
    ELSE
        WITH changed AS (
            UPDATE tasks SET state = 'cancelled', failure = reasons ->> why, updated_at = now
            WHERE fan_out = of AND task_name = ANY (names) AND terminal IS NULL AND position >= 0
            RETURNING task_name
        ) SELECT coalesce(array_agg(task_name ORDER BY array_position(names, task_name)), '{}') INTO cancelled FROM changed;
        PERFORM conclude(of, reasons, now);
    END IF;
    fold_generation := fold_due(wanted);
    RETURN NEXT;
END $$;

-- name: run_again
-- Lets terminal tasks (some, or all where `names` is null) start anew in the fan-out's next generation, which is open, ends
-- when every task is terminal, and has a fold of its own. `configs`: other configurations for some of them, as JSON text by
-- their names. False: there is no such fan-out.
CREATE OR REPLACE FUNCTION run_again(
    wanted text, names text[], failed_only boolean, configs jsonb, now double precision
) RETURNS boolean LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    f fan_outs;
BEGIN
    PERFORM lock_fan_outs(ARRAY[wanted]);
    SELECT * INTO f FROM fan_outs WHERE fan_out_id = wanted AND sealed;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE tasks
    SET state = 'pending', attempts = 0, result = NULL, failure = NULL, worker = '', updated_at = now,
        generation = f.generation + 1, task_config = coalesce(configs ->> task_name, task_config)
    WHERE fan_out = f.number AND (names IS NULL OR task_name = ANY (names)) AND position >= 0
      AND terminal IN ('dead', 'cancelled', CASE WHEN NOT failed_only THEN 'succeeded' END);
    IF FOUND THEN
        UPDATE fan_outs
        SET generation = generation + 1, completed_at = NULL, ended = NULL, purge_at = NULL, deadline_at = NULL,
            early = false, fold_begun = false, sent = false, touched_at = now
        WHERE number = f.number;
        DELETE FROM tasks WHERE fan_out = f.number AND task_name = 'fanfold.fold';
    ELSIF 'fanfold.fold' = ANY (names) AND f.completed_at IS NOT NULL THEN
        -- The completion alone, for its own sake: it is dead, and the next generation has another.
        DELETE FROM tasks WHERE fan_out = f.number AND task_name = 'fanfold.fold' AND state = 'dead';
        IF FOUND THEN
            UPDATE fan_outs SET generation = generation + 1, fold_begun = false, purge_at = now + keep WHERE number = f.number;
        END IF;
    END IF;
    RETURN true;
END $$;

-- name: add_tasks
-- Writes names of a sealed set, from a position on; those that are there stay. An entry is a name and its configuration.
CREATE OR REPLACE FUNCTION add_tasks(of bigint, planned jsonb, at integer, now double precision) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO tasks (fan_out, task_name, position, task_config, updated_at)
    SELECT of, task ->> 0, at + n - 1, task ->> 1, now FROM jsonb_array_elements(planned) WITH ORDINALITY AS p (task, n)
    ON CONFLICT (fan_out, task_name) DO NOTHING;
END $$;

-- name: begin_fan_out
-- Begins a fan-out, unless it is there; answers its number, and whose plan is being written (null: it is sealed). What was
-- left half written of another plan gives way, and goes a day after nobody writes it any more.
CREATE OR REPLACE FUNCTION begin_fan_out(plan jsonb, digest text, now double precision)
RETURNS TABLE (fresh boolean, number bigint, generation integer, opening text) LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    f fan_outs;
BEGIN
    PERFORM lock_fan_outs(ARRAY[plan ->> 'fan_out_id']);
    SELECT * INTO f FROM fan_outs WHERE fan_out_id = plan ->> 'fan_out_id';
    IF f.opening <> coalesce(digest, '') THEN
        DELETE FROM tasks WHERE fan_out = f.number;
        DELETE FROM fan_outs WHERE number = f.number;
    END IF;
    INSERT INTO fan_outs (fan_out_id, entity_id, event_id, metadata, total_tasks, created_at, touched_at, parent, early,
        min_succeeded, tolerated_failures, cancel_rest, deadline_at, order_by, keep, sealed, opening,
        purge_at)
    SELECT p.fan_out_id, p.entity_id, p.event_id, p.metadata, p.total_tasks, now, now, p.parent,
        p.min_succeeded IS NOT NULL OR p.tolerated_failures IS NOT NULL, p.min_succeeded, p.tolerated_failures,
        p.cancel_rest, now + p.deadline, p.order_by, p.keep, digest IS NULL, digest,
        CASE WHEN digest IS NOT NULL THEN now + 86400 END
    FROM jsonb_to_record(plan) AS p (fan_out_id text, entity_id text, event_id text, metadata text, total_tasks integer,
        parent text, min_succeeded integer, tolerated_failures integer, cancel_rest boolean, deadline double precision,
        order_by text, keep double precision)
    ON CONFLICT (fan_out_id) DO NOTHING
    RETURNING true, fan_outs.number, fan_outs.generation, fan_outs.opening
    INTO fresh, number, generation, opening;
    IF FOUND THEN
        RETURN NEXT;
    ELSE
        RETURN QUERY SELECT false, g.number, g.generation, g.opening FROM fan_outs AS g
            WHERE g.fan_out_id = plan ->> 'fan_out_id';
    END IF;
END $$;

-- name: open_fan_out
-- Seals a plan at once, or finds it as it stands; answers as `begin_fan_out`.
CREATE OR REPLACE FUNCTION open_fan_out(plan jsonb, planned jsonb, now double precision)
RETURNS TABLE (fresh boolean, number bigint, generation integer, opening text) LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    SELECT b.* INTO fresh, number, generation, opening FROM begin_fan_out(plan, NULL, now) AS b;
    IF fresh THEN
        PERFORM add_tasks(number, planned, 0, now);
    END IF;
    IF FOUND THEN
        RETURN NEXT;
    END IF;
END $$;

-- name: continue_opening
-- Writes a piece of a plan that is being written from this digest, or seals it (null). False: it is sealed; null: a producer
-- with another plan for the same event took over.
CREATE OR REPLACE FUNCTION continue_opening(
    wanted text, of bigint, digest text, planned jsonb, at integer, now double precision
) RETURNS boolean LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    f fan_outs;
BEGIN
    PERFORM lock_fan_outs(ARRAY[wanted]);
    SELECT * INTO f FROM fan_outs WHERE fan_out_id = wanted;
    IF f.number IS DISTINCT FROM of OR f.opening <> digest THEN
        RETURN NULL;
    ELSIF f.opening IS NULL THEN
        RETURN false;
    ELSIF planned IS NOT NULL THEN
        PERFORM add_tasks(of, planned, at, now);
        UPDATE fan_outs SET purge_at = now + 86400 WHERE number = of;
    ELSE
        UPDATE fan_outs SET sealed = true, opening = NULL, touched_at = now, purge_at = NULL WHERE number = of;
    END IF;
    RETURN true;
END $$;

-- name: forget
-- Forgets fan-outs that are kept no longer, oldest first, and what was left half written; answers how many. One that somebody holds is left for later. Neither
-- one whose fold has begun and isn't over is forgotten, nor one whose fold never began and was due after a time.
CREATE OR REPLACE FUNCTION forget(most integer, since double precision, now double precision) RETURNS bigint LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_seqscan = off AS $$
DECLARE
    numbers bigint[];
BEGIN
    numbers := ARRAY(
        SELECT number FROM fan_outs AS f WHERE purge_at IS NOT NULL AND purge_at <= now AND CASE
            WHEN NOT sealed THEN true
            WHEN NOT fold_begun THEN purge_at - keep <= since
            ELSE (SELECT terminal FROM tasks WHERE fan_out = f.number AND task_name = 'fanfold.fold') IS NOT NULL END
        ORDER BY purge_at LIMIT most FOR UPDATE SKIP LOCKED
    );
    DELETE FROM tasks WHERE fan_out = ANY (numbers);
    DELETE FROM fan_outs WHERE number = ANY (numbers);
    RETURN cardinality(numbers);
END $$;
