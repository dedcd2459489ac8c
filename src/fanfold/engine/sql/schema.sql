-- name: version_1
-- The engine's tables, as of its first version. Times are milliseconds since the epoch.

CREATE TABLE queues (
    id                INTEGER PRIMARY KEY,
    name              TEXT NOT NULL UNIQUE,
    max_receive_count INTEGER,
    dead_letter_queue INTEGER REFERENCES queues (id),
    message_count     INTEGER NOT NULL DEFAULT 0,
    created_at        INTEGER NOT NULL
);

-- `seq` is the SequenceNumber: AUTOINCREMENT never gives one twice, over restarts and deletes.
-- `head` marks the lowest undeleted seq of its group. A group can be received from while its head is visible, and
-- `visible_at` of the head (when it last became, or next becomes, available) is the order in which groups are served.
CREATE TABLE messages (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    queue             INTEGER NOT NULL REFERENCES queues (id),
    message_id        TEXT NOT NULL,
    group_id          TEXT NOT NULL,
    deduplication_id  TEXT NOT NULL,
    body              TEXT NOT NULL,
    attributes        TEXT NOT NULL,
    sent_at           INTEGER NOT NULL,
    visible_at        INTEGER NOT NULL,
    head              INTEGER NOT NULL,
    receive_count     INTEGER NOT NULL DEFAULT 0,
    receipt           TEXT,
    received_at       INTEGER,
    source            INTEGER REFERENCES queues (id)
);
CREATE INDEX messages_ready ON messages (queue, head, visible_at, seq);
CREATE INDEX messages_groups ON messages (queue, group_id, seq);

-- What was sent in the last five minutes, also after its receive and delete. Rows grow old in the order of `seq`.
CREATE TABLE deduplications (
    seq              INTEGER PRIMARY KEY,
    queue            INTEGER NOT NULL REFERENCES queues (id),
    deduplication_id TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    expires_at       INTEGER NOT NULL,
    UNIQUE (queue, deduplication_id)
);

-- A queue's count is kept, so that asking for it costs the same at any backlog.
CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN
    UPDATE queues SET message_count = message_count + 1 WHERE id = new.queue;
END;
CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
    UPDATE queues SET message_count = message_count - 1 WHERE id = old.queue;
END;

-- name: version_2
-- A message's state, so that a wall clock that steps back hides nothing that is available.

-- 0: available, since `visible_at`, whatever the clock says. 1: held by a lease until `visible_at`.
ALTER TABLE messages ADD COLUMN state INTEGER NOT NULL DEFAULT 0;
UPDATE messages SET state = 1 WHERE receipt IS NOT NULL;

DROP INDEX messages_ready;
CREATE INDEX messages_ready ON messages (queue, head, state, visible_at);
CREATE INDEX messages_age ON messages (queue, sent_at);

-- Messages that left for another queue without being deleted: their old handles have expired, and their absence must
-- not be taken for a delete. Rows grow old in the order of `seq`.
CREATE TABLE departures (
    seq        INTEGER PRIMARY KEY,
    expires_at INTEGER NOT NULL
);

-- name: version_3
-- The whole of SQS: attributes and tags, standard queues, delays, retention, purges, retried receives, move tasks.

-- A queue's messages are its stock. A purge gives the queue an empty one, a delete leaves one behind; what is in an
-- abandoned stock is cleared away in slices, since nobody may wait for a million deletes.
CREATE TABLE stocks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    message_count INTEGER NOT NULL DEFAULT 0,
    held_count    INTEGER NOT NULL DEFAULT 0,
    abandoned     INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX stocks_abandoned ON stocks (id) WHERE abandoned = 1;
INSERT INTO stocks (id, message_count, held_count)
SELECT id, message_count, (SELECT count(*) FROM messages WHERE queue = queues.id AND state = 1) FROM queues;

-- `attributes` are those that were set, as JSON; a MessageRetentionPeriod of 0 keeps messages for ever. `scope` is the
-- deduplication scope that the queue was created with, which stays in force. A name that ends in .fifo is a FIFO queue.
CREATE TABLE queues_3 (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    name              TEXT NOT NULL UNIQUE,
    stock             INTEGER NOT NULL REFERENCES stocks (id),
    attributes        TEXT NOT NULL,
    tags              TEXT NOT NULL DEFAULT '{}',
    scope             TEXT NOT NULL DEFAULT 'queue',
    max_receive_count INTEGER,
    dead_letter_name  TEXT,
    created_at        INTEGER NOT NULL,
    modified_at       INTEGER NOT NULL,
    purged_at         INTEGER
);
INSERT INTO queues_3 (id, name, stock, attributes, max_receive_count, dead_letter_name, created_at, modified_at)
SELECT id, name, id, '{"MessageRetentionPeriod":"0"}', max_receive_count,
    (SELECT name FROM queues AS d WHERE d.id = q.dead_letter_queue), created_at, created_at FROM queues AS q;

-- A message beside what version 1 says of it: `state` 0 is available (in a standard queue `visible_at` is 0 then, so
-- that the index has them in the order of `seq`), 1 leased and 2 delayed until `visible_at`. In a standard queue every
-- message is a head. `origin` names the queue whose redrive policy moved it here. `attributes` maps a name to a String,
-- or to a list of type and value, base64 for Binary.
CREATE TABLE messages_3 (
    seq               INTEGER PRIMARY KEY AUTOINCREMENT,
    stock             INTEGER NOT NULL REFERENCES stocks (id),
    head              INTEGER NOT NULL,
    state             INTEGER NOT NULL,
    visible_at        INTEGER NOT NULL,
    sent_at           INTEGER NOT NULL,
    receive_count     INTEGER NOT NULL DEFAULT 0,
    received_at       INTEGER,
    first_received_at INTEGER,
    receipt           TEXT,
    message_id        TEXT NOT NULL,
    group_id          TEXT NOT NULL,
    deduplication_id  TEXT NOT NULL,
    origin            TEXT,
    trace             TEXT,
    attributes        TEXT NOT NULL,
    body              TEXT NOT NULL
);
INSERT INTO messages_3 (seq, stock, head, state, visible_at, sent_at, receive_count, received_at, first_received_at,
    receipt, message_id, group_id, deduplication_id, origin, attributes, body)
SELECT seq, queue, head, state, visible_at, sent_at, receive_count, received_at, received_at,
    receipt, message_id, group_id, deduplication_id, (SELECT name FROM queues WHERE id = source), attributes, body
FROM messages ORDER BY seq;

-- Sequence numbers go on from the last one given, and not from the last one that is still there.
DELETE FROM sqlite_sequence WHERE name = 'messages_3';
INSERT INTO sqlite_sequence (name, seq) SELECT 'messages_3', seq FROM sqlite_sequence WHERE name = 'messages';

CREATE TABLE deduplications_3 (
    seq              INTEGER PRIMARY KEY,
    stock            INTEGER NOT NULL REFERENCES stocks (id),
    deduplication_id TEXT NOT NULL,
    message_id       TEXT NOT NULL,
    expires_at       INTEGER NOT NULL,
    UNIQUE (stock, deduplication_id)
);
INSERT INTO deduplications_3 (seq, stock, deduplication_id, message_id, expires_at)
SELECT seq, queue, deduplication_id, message_id, expires_at FROM deduplications;

DROP TABLE messages;
DROP TABLE deduplications;
DROP TABLE queues;
ALTER TABLE messages_3 RENAME TO messages;
ALTER TABLE deduplications_3 RENAME TO deduplications;
ALTER TABLE queues_3 RENAME TO queues;

CREATE INDEX queues_dead_letter_name ON queues (dead_letter_name, name);
CREATE INDEX messages_ready ON messages (stock, head, state, visible_at);
CREATE INDEX messages_groups ON messages (stock, group_id, seq);
CREATE INDEX messages_age ON messages (stock, sent_at);

-- Counts are kept, so that asking for them costs the same at any backlog. `held_count` counts leases, also those that
-- have run out since; a receive adds what it leases, since it knows how many in one go.
CREATE TRIGGER message_added AFTER INSERT ON messages BEGIN
    UPDATE stocks SET message_count = message_count + 1 WHERE id = new.stock;
END;
CREATE TRIGGER message_removed AFTER DELETE ON messages BEGIN
    UPDATE stocks SET message_count = message_count - 1, held_count = held_count - (old.state = 1)
    WHERE id = old.stock;
END;
CREATE TRIGGER message_freed AFTER UPDATE OF state ON messages WHEN old.state = 1 AND new.state <> 1 BEGIN
    UPDATE stocks SET held_count = held_count - 1 WHERE id = new.stock;
END;

-- A name can't be taken again within 60 seconds of its queue's delete.
CREATE TABLE deleted_names (
    name       TEXT PRIMARY KEY,
    deleted_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX deleted_names_age ON deleted_names (deleted_at);

-- What a receive with a ReceiveRequestAttemptId handed out, for its repetitions within five minutes.
CREATE TABLE attempts (
    stock      INTEGER NOT NULL REFERENCES stocks (id),
    attempt_id TEXT NOT NULL,
    handed_out TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (stock, attempt_id)
) WITHOUT ROWID;
CREATE INDEX attempts_age ON attempts (expires_at);

-- Message move tasks. The cursor (`reached_at`, `reached_seq`) goes through the source by age, up to what was there when
-- the task began (`last_seq`). `stepped_at` is up to when the rate has been used up.
CREATE TABLE move_tasks (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT NOT NULL UNIQUE,
    source      TEXT NOT NULL,
    destination TEXT,
    rate        INTEGER,
    status      TEXT NOT NULL DEFAULT 'RUNNING',
    failure     TEXT,
    moved       INTEGER NOT NULL DEFAULT 0,
    to_move     INTEGER NOT NULL,
    last_seq    INTEGER NOT NULL,
    reached_at  INTEGER NOT NULL,
    reached_seq INTEGER NOT NULL,
    stepped_at  INTEGER NOT NULL,
    started_at  INTEGER NOT NULL
);
CREATE INDEX move_tasks_source ON move_tasks (source, number);
CREATE INDEX move_tasks_running ON move_tasks (number) WHERE status = 'RUNNING';

-- name: version_4
-- Whoever changes messages counts them, in one go for all that it changes: a trigger does so for each.
DROP TRIGGER message_added;
DROP TRIGGER message_removed;
DROP TRIGGER message_freed;

-- name: version_5
-- Statements that changes have deferred until their answers were out. Whoever works with queues runs them first; an
-- older Fanfold that still has the file open doesn't, so it finds no queue any more.
CREATE TABLE deferred (
    number     INTEGER PRIMARY KEY,
    statements BLOB NOT NULL
);
ALTER TABLE queues RENAME COLUMN stock TO stock_id;
