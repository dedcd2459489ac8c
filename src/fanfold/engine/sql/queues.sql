-- name: load
-- A queue as its operations need it, with where its redrive policy leads.
SELECT q.id, q.name, q.stock_id, q.scope, q.attributes, q.max_receive_count, q.dead_letter_name,
    d.stock_id, q.tags, q.created_at, q.modified_at, q.purged_at
FROM queues AS q
LEFT JOIN queues AS d ON d.name = q.dead_letter_name AND d.id <> q.id
WHERE q.name = ?;

-- name: new_stock
-- An empty stock.
INSERT INTO stocks (message_count) VALUES (0);

-- name: create
-- A queue with its stock.
INSERT INTO queues (name, stock_id, attributes, tags, scope, max_receive_count, dead_letter_name, created_at, modified_at)
VALUES (:name, :stock, :attributes, :tags, :scope, :max_receive_count, :dead_letter_name, :now, :now);

-- name: change
-- A queue's attributes.
UPDATE queues SET attributes = :attributes, max_receive_count = :max_receive_count,
    dead_letter_name = :dead_letter_name, modified_at = :now
WHERE id = :id;

-- name: tag
-- A queue's tags.
UPDATE queues SET tags = ? WHERE id = ?;

-- name: restock
-- Gives a queue another stock: a purge.
UPDATE queues SET stock_id = ?, purged_at = ? WHERE id = ?;

-- name: abandon
-- Leaves a stock to be cleared away.
UPDATE stocks SET abandoned = 1 WHERE id = ?;

-- name: delete
-- Takes a queue away.
DELETE FROM queues WHERE id = ?;

-- name: delete_name
-- Notes when a name was given up.
INSERT OR REPLACE INTO deleted_names (name, deleted_at) VALUES (?, ?);

-- name: deleted_since
-- Whether a name was given up after a time.
SELECT 1 FROM deleted_names WHERE name = ? AND deleted_at > ?;

-- name: forget_names
-- Drops what is no longer asked for.
DELETE FROM deleted_names WHERE deleted_at <= ?;

-- name: names
-- Names from one on, in order, below another.
SELECT name FROM queues WHERE name >= ? AND name < ? ORDER BY name LIMIT ?;

-- name: sources
-- The queues whose redrive policy leads to a name, from one on, in order.
SELECT name FROM queues WHERE dead_letter_name = ? AND name >= ? ORDER BY name LIMIT ?;
