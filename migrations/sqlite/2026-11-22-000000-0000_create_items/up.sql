-- Ids are never used again (AUTOINCREMENT), so that the address of a deleted item stays dead.
-- created_at is UTC, as `YYYY-MM-DD HH:MM:SS.ffffff`: text that sorts as time does.
CREATE TABLE items (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
    email TEXT NOT NULL CHECK (length(email) BETWEEN 1 AND 255),
    message TEXT,
    created_at TIMESTAMP NOT NULL
);

-- The order of the list: newest first, and of the same instant the highest id first.
CREATE INDEX items_newest_first ON items (created_at DESC, id DESC);
