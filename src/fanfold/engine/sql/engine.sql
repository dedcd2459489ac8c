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
-- Groups whose head is in a state since (or until) a time between two, earliest first.
SELECT visible_at, seq, group_id FROM messages
WHERE queue = ? AND head = 1 AND state = ? AND visible_at > ? AND visible_at <= ? ORDER BY visible_at, seq LIMIT ?;

-- name: next_ready
-- The earliest time of the heads in a state.
SELECT visible_at FROM messages WHERE queue = ? AND head = 1 AND state = ? ORDER BY visible_at LIMIT 1;

-- name: of_group
-- A group's messages in order, from a sequence number on.
SELECT seq, state, visible_at, receive_count, message_id, body, deduplication_id, sent_at, attributes
FROM messages WHERE queue = ? AND group_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: lease
-- Hands a message out: a new receipt, one more receive, held until the lease ends.
UPDATE messages
SET receipt = ?, receive_count = receive_count + 1, received_at = ?, state = ?, visible_at = ? WHERE seq = ?;

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

-- name: depart
-- Remembers that a message left for another queue, for as long as a handle of it can be fresh.
INSERT INTO departures (seq, expires_at) VALUES (?, ?);

-- name: departed
-- Whether a message left for another queue.
SELECT 1 FROM departures WHERE seq = ?;

-- name: forget_departures
-- Drops some of the oldest departures that nobody can ask for any more.
DELETE FROM departures
WHERE expires_at <= ? AND seq IN (SELECT seq FROM departures WHERE seq > 0 ORDER BY seq LIMIT 10);

-- name: delete
-- Deletes a message by the receipt of a lease that still runs.
DELETE FROM messages WHERE seq = ? AND queue = ? AND receipt = ? AND state = 1 AND visible_at > ?
RETURNING group_id, head;

-- name: promote
-- Makes the next message of a group its head; if it isn't held, it is available since now.
UPDATE messages SET head = 1,
    state = CASE WHEN visible_at > :now THEN state ELSE 0 END,
    visible_at = CASE WHEN visible_at > :now AND state <> 0 THEN visible_at ELSE :now END
WHERE seq = (SELECT seq FROM messages WHERE queue = :queue AND group_id = :group_id ORDER BY seq LIMIT 1);

-- name: change
-- Moves the end of a lease that still runs, at most 12 hours from its receive. SQS counts in whole seconds, so what is
-- beyond that by less than one is cut off, and more is refused.
UPDATE messages SET visible_at = min(:until, received_at + :longest), state = (:until > :now)
WHERE seq = :seq AND queue = :queue AND receipt = :receipt AND state = 1 AND visible_at > :now
    AND :until < received_at + :longest + 1000;

-- name: held
-- Whether a receipt's lease still runs.
SELECT 1 FROM messages WHERE seq = ? AND queue = ? AND receipt = ? AND state = 1 AND visible_at > ?;

-- name: exists
-- Whether a message is still in the queue.
SELECT 1 FROM messages WHERE seq = ? AND queue = ?;

-- name: count
-- How many messages a queue holds.
SELECT message_count FROM queues WHERE id = ?;

-- name: count_held
-- How many of them are held in a state beyond now; heads and others apart, as the index has them.
SELECT count(*) FROM messages WHERE queue = ? AND head = ? AND state = ? AND visible_at > ?;

-- name: peek
-- The oldest messages of a queue, untouched.
SELECT message_id, receive_count, body, attributes FROM messages WHERE queue = ? ORDER BY sent_at, seq LIMIT ?;

-- name: read
-- Messages of a queue, untouched, oldest first: those that come after a time of sending and a sequence number.
SELECT group_id, seq, state, visible_at, receive_count, message_id, body, deduplication_id, sent_at, attributes
FROM messages WHERE queue = ? AND (sent_at, seq) > (?, ?) ORDER BY sent_at, seq LIMIT ?;
