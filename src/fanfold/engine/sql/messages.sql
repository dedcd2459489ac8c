-- name: last
-- The last sequence number that was given, whether its message is still there or not.
SELECT seq FROM sqlite_sequence WHERE name = 'messages';

-- name: deferred
-- The statements that changes have deferred, in the order of the changes.
SELECT number, statements FROM deferred WHERE number > 0 ORDER BY number;

-- name: defer
-- Defers a change's statements.
INSERT INTO deferred (statements) VALUES (?);

-- name: drop_deferred
-- Forgets statements that have been run.
DELETE FROM deferred WHERE number = ?;

-- name: known
-- Of a list of deduplication ids those inside their windows, with the first message sent with each.
SELECT d.deduplication_id, d.message_id, d.seq
FROM json_each(?) AS asked
CROSS JOIN deduplications AS d ON d.stock = ? AND d.deduplication_id = asked.value
WHERE d.expires_at > ?;

-- name: remember
-- Opens a deduplication id's window; one that has run out gives way.
INSERT INTO deduplications (seq, stock, deduplication_id, message_id, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (stock, deduplication_id) DO UPDATE SET
    seq = excluded.seq, message_id = excluded.message_id, expires_at = excluded.expires_at;

-- name: oldest_window
-- When the oldest window runs out.
SELECT expires_at FROM deduplications WHERE seq > 0 ORDER BY seq LIMIT 1;

-- name: forget
-- Drops some of the oldest windows that have run out.
DELETE FROM deduplications
WHERE expires_at <= ? AND seq IN (SELECT seq FROM deduplications WHERE seq > 0 ORDER BY seq LIMIT ?);

-- name: add
-- A new message of a FIFO queue; it is its group's head where it is alone.
INSERT INTO messages (seq, stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state,
    visible_at, head)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11,
    NOT EXISTS (SELECT 1 FROM messages WHERE stock = ?2 AND group_id = ?4));

-- name: add_loose
-- A new message of a standard queue: a head among heads.
INSERT INTO messages (seq, stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state,
    visible_at, head)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1);

-- name: ready
-- The heads that can be received, with whether their groups have more. Of each kind the earliest: those available since
-- a time to come, which were so before the clock stepped back (`since` 0), and those that are, or are due, by now (1).
SELECT m.seq, m.state, m.visible_at, m.sent_at, m.receive_count, m.first_received_at, m.message_id, m.group_id,
    m.deduplication_id, m.origin, m.trace, m.attributes, m.body, ready.since,
    EXISTS (SELECT 1 FROM messages AS n WHERE n.stock = :stock AND n.group_id = m.group_id AND n.seq > m.seq)
FROM (
    SELECT * FROM (
        SELECT seq, 0 AS since FROM messages
        WHERE stock = :stock AND head = 1 AND state = 0 AND visible_at > :now ORDER BY visible_at, seq LIMIT :most)
    UNION ALL SELECT * FROM (
        SELECT seq, 1 FROM messages
        WHERE stock = :stock AND head = 1 AND state = 0 AND visible_at <= :now ORDER BY visible_at, seq LIMIT :most)
    UNION ALL SELECT * FROM (
        SELECT seq, 1 FROM messages
        WHERE stock = :stock AND head = 1 AND state = 1 AND visible_at <= :now ORDER BY visible_at, seq LIMIT :most)
    UNION ALL SELECT * FROM (
        SELECT seq, 1 FROM messages
        WHERE stock = :stock AND head = 1 AND state = 2 AND visible_at <= :now ORDER BY visible_at, seq LIMIT :most)
) AS ready
CROSS JOIN messages AS m ON m.seq = ready.seq;

-- name: next_ready
-- The earliest time of the heads in a state.
SELECT visible_at FROM messages WHERE stock = ? AND head = 1 AND state = ? ORDER BY visible_at LIMIT 1;

-- name: of_group
-- A group's messages in order, from a sequence number on.
SELECT seq, state, visible_at, sent_at, receive_count, first_received_at, message_id, group_id, deduplication_id, origin,
    trace, attributes, body
FROM messages WHERE stock = ? AND group_id = ? AND seq > ? ORDER BY seq LIMIT ?;

-- name: loose
-- The available messages of a standard queue in order, from a sequence number on.
SELECT seq, state, visible_at, sent_at, receive_count, first_received_at, message_id, group_id, deduplication_id, origin,
    trace, attributes, body
FROM messages WHERE stock = ? AND head = 1 AND state = 0 AND visible_at = 0 AND seq > ? ORDER BY seq LIMIT ?;

-- name: one
-- One message by its sequence number, where a receipt still holds it.
SELECT seq, state, visible_at, sent_at, receive_count, first_received_at, message_id, group_id, deduplication_id, origin,
    trace, attributes, body
FROM messages WHERE seq = ? AND stock = ? AND receipt = ? AND state = 1 AND visible_at > ?;

-- name: mature
-- Makes messages of a standard queue available whose lease or delay has ended.
UPDATE messages SET state = 0, visible_at = 0
WHERE seq IN (
    SELECT seq FROM messages WHERE stock = ? AND head = 1 AND state = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?);

-- name: lease
-- Hands messages out: a new receipt, one more receive, held until the lease ends.
UPDATE messages
SET receipt = :receipt, receive_count = receive_count + 1, received_at = :now, state = :state, visible_at = :until,
    first_received_at = coalesce(first_received_at, :now)
WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: count_leased
-- How many of these messages are leased, also beyond the lease's end.
SELECT count(*) FROM messages WHERE state = 1 AND seq IN (SELECT value FROM json_each(?));

-- name: count
-- Counts a stock's messages, and those of them that are leased: what came and what went.
UPDATE stocks SET message_count = message_count + ?, held_count = held_count + ? WHERE id = ?;

-- name: renew
-- Starts a lease anew, from now.
UPDATE messages SET received_at = ?, visible_at = ? WHERE seq = ?;

-- name: set_aside
-- Copies a message into a FIFO dead letter queue as SQS does: same MessageId, which becomes the deduplication id; the
-- enqueue time starts anew, the receive count goes on, and the source is kept.
INSERT INTO messages (stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state, visible_at,
    head, receive_count, first_received_at, origin)
SELECT :target, message_id, group_id, message_id, body, attributes, trace, :now, 0, :now,
    NOT EXISTS (SELECT 1 FROM messages WHERE stock = :target AND group_id = m.group_id),
    receive_count, first_received_at, :origin
FROM messages AS m WHERE seq = :seq;

-- name: set_aside_loose
-- The same for a standard dead letter queue, where the enqueue time stays that of the first send.
INSERT INTO messages (stock, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, state, visible_at,
    head, receive_count, first_received_at, origin)
SELECT :target, message_id, group_id, deduplication_id, body, attributes, trace, sent_at, 0, 0,
    1, receive_count, first_received_at, :origin
FROM messages AS m WHERE seq = :seq;

-- name: remove
-- Takes a message out of its queue, whoever holds it.
DELETE FROM messages WHERE seq = ? RETURNING state;

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

-- name: holders
-- Who holds messages, of those with these sequence numbers that are in a queue.
SELECT m.seq, m.receipt, m.state, m.visible_at, m.group_id, m.head
FROM json_each(?) AS asked
CROSS JOIN messages AS m ON m.seq = asked.value
WHERE m.stock = ?;

-- name: delete
-- Deletes messages by their sequence numbers.
DELETE FROM messages WHERE seq IN (SELECT value FROM json_each(?));

-- name: next
-- The first message behind a sequence number in each of these groups: an object of such numbers by group.
SELECT m.seq, m.state, m.visible_at, m.group_id
FROM json_each(?) AS left_behind
CROSS JOIN messages AS m ON m.seq = (
    SELECT seq FROM messages WHERE stock = ? AND group_id = left_behind.key AND seq > left_behind.value
    ORDER BY seq LIMIT 1);

-- name: promote
-- Makes a message its group's head, in a state until or since a time.
UPDATE messages SET head = 1, state = ?, visible_at = ? WHERE seq = ?;

-- name: change
-- Moves the end of a lease that still runs, at most 12 hours from its receive. SQS counts in whole seconds, so what is
-- beyond that by less than one is cut off, and more is refused.
UPDATE messages SET visible_at = min(:until, received_at + :longest), state = (:until > :now)
WHERE seq = :seq AND stock = :stock AND receipt = :receipt AND state = 1 AND visible_at > :now
    AND :until < received_at + :longest + 1000;

-- name: state
-- A message's state, and the receipt of its last receive.
SELECT state, receipt FROM messages WHERE seq = ? AND stock = ?;

-- name: change_loose
-- Moves the end of a lease in a standard queue, by whichever of the message's receipts, also after it has ended.
UPDATE messages
SET visible_at = CASE WHEN :until > :now THEN min(:until, received_at + :longest) ELSE 0 END, state = (:until > :now)
WHERE seq = :seq AND stock = :stock AND :until < received_at + :longest + 1000;

-- name: take_back
-- Undoes a receive that nobody saw.
UPDATE messages SET receive_count = receive_count - 1, state = 0, visible_at = ?,
    first_received_at = CASE WHEN receive_count > 1 THEN first_received_at END
WHERE seq = ? AND stock = ? AND receipt = ? AND state = 1 AND visible_at > ?;

-- name: held
-- Whether a receipt's lease still runs.
SELECT 1 FROM messages WHERE seq = ? AND stock = ? AND receipt = ? AND state = 1 AND visible_at > ?;

-- name: exists
-- Whether a message is still in the queue.
SELECT 1 FROM messages WHERE seq = ? AND stock = ?;

-- name: counts
-- How many messages a stock holds, and how many leases at most.
SELECT message_count, held_count FROM stocks WHERE id = ?;

-- name: count_held
-- How many messages are held in a state beyond now; heads and others apart, as the index has them.
SELECT count(*) FROM messages WHERE stock = ? AND head = ? AND state = ? AND visible_at > ?;

-- name: read
-- A queue's messages, untouched, oldest first: those that come after a time of sending and a sequence number.
SELECT seq, state, visible_at, sent_at, receive_count, first_received_at, message_id, group_id, deduplication_id, origin,
    trace, attributes, body
FROM messages WHERE stock = ? AND (sent_at, seq) > (?, ?) ORDER BY sent_at, seq LIMIT ?;

-- name: expire
-- Deletes some messages that are older than a queue keeps them.
DELETE FROM messages
WHERE seq IN (SELECT seq FROM messages WHERE stock = ? AND sent_at <= ? ORDER BY sent_at LIMIT ?)
RETURNING group_id, head, state;

-- name: oldest
-- When the oldest message of a queue was sent.
SELECT sent_at FROM messages WHERE stock = ? ORDER BY sent_at LIMIT 1;

-- name: overdue
-- A queue with a message that is older than the queue keeps it; the default is told in seconds, and 0 keeps for ever.
SELECT q.name FROM queues AS q
WHERE q.id > 0 AND EXISTS (
    SELECT 1 FROM messages WHERE stock = q.stock_id AND sent_at <= :now
        - 1000 * nullif(CAST(coalesce(json_extract(q.attributes, '$.MessageRetentionPeriod'), :default) AS INTEGER), 0)
)
LIMIT 1;

-- name: abandoned
-- A stock that waits to be cleared away.
SELECT id FROM stocks WHERE abandoned = 1 AND id > 0 LIMIT 1;

-- name: clear
-- Deletes some messages of a stock.
DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE stock = ? LIMIT ?);

-- name: drop_stock
-- Drops an empty stock.
DELETE FROM stocks WHERE id = ?;

-- name: attempt
-- What an earlier receive with the same attempt id handed out.
SELECT handed_out FROM attempts WHERE stock = ? AND attempt_id = ? AND expires_at > ?;

-- name: note_attempt
-- Notes what a receive handed out.
INSERT OR REPLACE INTO attempts (stock, attempt_id, handed_out, expires_at) VALUES (?, ?, ?, ?);

-- name: forget_attempts
-- Drops attempts that can't be repeated any more.
DELETE FROM attempts WHERE expires_at <= ?;
