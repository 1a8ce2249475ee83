-- Ids are never used again (a sequence does not go back), so that the address of a deleted item stays dead.
-- created_at is UTC, to the microsecond.
CREATE TABLE items (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100),
    email TEXT NOT NULL CHECK (char_length(email) BETWEEN 1 AND 255),
    message TEXT,
    created_at TIMESTAMP NOT NULL
);

-- The order of the list: newest first, and of the same instant the highest id first.
CREATE INDEX items_newest_first ON items (created_at DESC, id DESC);
