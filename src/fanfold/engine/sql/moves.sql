-- name: start
-- A new task, at the beginning of its source.
INSERT INTO move_tasks (id, source, destination, rate, to_move, last_seq, reached_at, reached_seq, stepped_at, started_at)
VALUES (:id, :source, :destination, :rate, :to_move, :last_seq, :reached_at, 0, :stepped_at, :now);

-- name: last_seq
-- The newest message there is, anywhere.
SELECT max(seq) FROM messages;

-- name: running
-- The tasks that run.
SELECT id, source, destination, rate, status, failure, moved, to_move, last_seq, reached_at, reached_seq, stepped_at,
    started_at
FROM move_tasks WHERE status = 'RUNNING' AND number > 0;

-- name: of_source
-- A queue's tasks, the newest first.
SELECT id, source, destination, rate, status, failure, moved, to_move, last_seq, reached_at, reached_seq, stepped_at,
    started_at
FROM move_tasks WHERE source = ? ORDER BY number DESC LIMIT ?;

-- name: find
-- One task.
SELECT id, source, destination, rate, status, failure, moved, to_move, last_seq, reached_at, reached_seq, stepped_at,
    started_at
FROM move_tasks WHERE id = ?;

-- name: forget
-- Drops a queue's tasks but for the newest.
DELETE FROM move_tasks WHERE source = ? AND number NOT IN (
    SELECT number FROM move_tasks WHERE source = ? ORDER BY number DESC LIMIT ?);

-- name: advance
-- Notes what a step did, unless the task was cancelled meanwhile.
UPDATE move_tasks SET status = :status, failure = :failure, moved = :moved, reached_at = :reached_at,
    reached_seq = :reached_seq, stepped_at = :stepped_at
WHERE id = :id AND status = 'RUNNING';

-- name: next
-- The messages of a stock by age, from one on.
SELECT sent_at, seq FROM messages WHERE stock = ? AND (sent_at, seq) > (?, ?) ORDER BY sent_at, seq LIMIT ?;

-- name: movable
-- Whether a message can be taken: not held, the first of its group, and not too old.
SELECT group_id, origin FROM messages
WHERE seq = ? AND stock = ? AND head = 1 AND (state = 0 OR visible_at <= ?) AND sent_at > ?;

-- name: move
-- Copies a message into a FIFO queue, as if it had just been sent there.
INSERT INTO messages (stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state, visible_at,
    head)
SELECT :stock, :message_id, group_id, deduplication_id, body, attributes, trace, :now, 0, :now,
    NOT EXISTS (SELECT 1 FROM messages WHERE stock = :stock AND group_id = m.group_id)
FROM messages AS m WHERE seq = :seq;

-- name: move_loose
-- Copies a message into a standard queue, as if it had just been sent there.
INSERT INTO messages (stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state, visible_at,
    head)
SELECT :stock, :message_id, group_id, deduplication_id, body, attributes, trace, :now, 0, 0, 1
FROM messages WHERE seq = :seq;
