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
