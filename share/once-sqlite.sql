-- The events that have had their effect in this database, for <evbus/once.h> with SQLite (3.8.2 or newer). Run it in a migration,
-- or call evbus_once_sqlite_prepare().
--
-- The key is the group and the event, not the event alone: else two groups of one database would suppress each other.
CREATE TABLE IF NOT EXISTS evbus_processed_event (
    consumer_group TEXT NOT NULL,
    event_id BLOB NOT NULL CHECK (length(event_id) = 16),
    processed_at INTEGER NOT NULL, -- ns since 1970 (UTC)
    PRIMARY KEY (consumer_group, event_id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS evbus_processed_event_age ON evbus_processed_event (consumer_group, processed_at);
