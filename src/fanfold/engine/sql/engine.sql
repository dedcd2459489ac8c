-- name: create_queue
-- A queue, unless there is one of that name.
INSERT INTO queues (name, max_receive_count, dead_letter_queue, created_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET
    max_receive_count = excluded.max_receive_count, dead_letter_queue = excluded.dead_letter_queue
RETURNING id;

-- name: queue
-- What receiving needs to know of a queue.
SELECT max_receive_count, dead_letter_queue FROM queues WHERE id = ?;

-- name: known
-- The first message sent with a deduplication id inside its window.
SELECT message_id, seq FROM deduplications WHERE queue = ? AND deduplication_id = ? AND expires_at > ?;

-- name: remember
-- Opens a deduplication id's window; one that has run out gives way.
INSERT OR REPLACE INTO deduplications (seq, queue, deduplication_id, message_id, expires_at) VALUES (?, ?, ?, ?, ?);

-- name: forget
-- Drops some of the oldest windows that have run out.
DELETE FROM deduplications
WHERE expires_at <= ? AND seq IN (SELECT seq FROM deduplications WHERE seq > 0 ORDER BY seq LIMIT ?);

-- name: add
-- A new message, visible now; it is its group's head where it is alone.
INSERT INTO messages (queue, message_id, group_id, deduplication_id, body, attributes, sent_at, visible_at, head)
VALUES (:queue, :message_id, :group_id, :deduplication_id, :body, :attributes, :now, :now,
    NOT EXISTS (SELECT 1 FROM messages WHERE queue = :queue AND group_id = :group_id));

-- name: ready_groups
-- Groups whose head is visible, those that have been available longest first.
SELECT group_id FROM messages WHERE queue = ? AND head = 1 AND visible_at <= ? ORDER BY visible_at, seq LIMIT ?;

-- name: next_ready
-- When the next group is or becomes available.
SELECT visible_at FROM messages WHERE queue = ? AND head = 1 ORDER BY visible_at LIMIT 1;

-- name: of_group
-- A group's messages in order, from a sequence number on.
SELECT seq, visible_at, receive_count, message_id, body, deduplication_id, sent_at, attributes
FROM messages WHERE queue = ? AND group_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: lease
-- Hands a message out: a new receipt, one more receive, invisible until the lease ends.
UPDATE messages
SET receipt = ?, receive_count = receive_count + 1, received_at = ?, visible_at = ? WHERE seq = ?;

-- name: move
-- Copies a message into the dead letter queue as SQS does: same MessageId, which becomes the deduplication id; the
-- enqueue time starts anew, the receive count goes on, and the source is kept.
INSERT INTO messages (queue, message_id, group_id, deduplication_id, body, attributes, sent_at, visible_at, head,
    receive_count, source)
SELECT :dead_letter_queue, message_id, group_id, message_id, body, attributes, :now, :now,
    NOT EXISTS (SELECT 1 FROM messages WHERE queue = :dead_letter_queue AND group_id = m.group_id),
    receive_count, queue
FROM messages AS m WHERE seq = :seq;

-- name: remove
-- Takes a message out of its queue, whoever holds it.
DELETE FROM messages WHERE seq = ?;

-- name: delete
-- Deletes a message by the receipt of a lease that still runs.
DELETE FROM messages WHERE seq = ? AND queue = ? AND receipt = ? AND visible_at > ? RETURNING group_id, head;

-- name: promote
-- Makes the next message of a group its head; if it is visible, it has been so since now.
UPDATE messages SET head = 1, visible_at = max(visible_at, :now)
WHERE seq = (SELECT seq FROM messages WHERE queue = :queue AND group_id = :group_id ORDER BY seq LIMIT 1);

-- name: change
-- Moves the end of a lease that still runs, at most 12 hours from its receive.
UPDATE messages SET visible_at = min(:until, received_at + :longest)
WHERE seq = :seq AND queue = :queue AND receipt = :receipt AND visible_at > :now;

-- name: exists
-- Whether a message is still in the queue.
SELECT 1 FROM messages WHERE seq = ? AND queue = ?;

-- name: count
-- How many messages a queue holds.
SELECT message_count FROM queues WHERE id = ?;

-- name: count_invisible
-- How many of them can't be received now because they are held; heads and others apart, as the index has them.
SELECT count(*) FROM messages WHERE queue = ? AND head = ? AND visible_at > ?;

-- name: peek
-- Some messages of a queue, untouched.
SELECT seq, message_id, receive_count, body, attributes FROM messages WHERE queue = ? LIMIT ?;

-- name: read
-- Messages of a queue, untouched, in the order of group and sequence number: those that come after one of them.
SELECT group_id, seq, visible_at, receive_count, message_id, body, deduplication_id, sent_at, attributes
FROM messages WHERE queue = ? AND (group_id, seq) > (?, ?) ORDER BY group_id, seq LIMIT ?;
