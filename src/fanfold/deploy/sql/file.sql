-- What an SQLite file holds, for looks that change nothing.

-- name: tables
-- The names of all tables.
SELECT name FROM sqlite_schema WHERE type = 'table';

-- name: versions
-- Each part's version.
SELECT part, version FROM fanfold_schema;

-- name: queues
-- All queues with their backstop for crash loops.
SELECT name, max_receive_count FROM queues ORDER BY name;
