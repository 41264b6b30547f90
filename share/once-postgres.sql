-- The events that have had their effect in this database, for <evbus/once.h> with PostgreSQL (10 or newer). Run it in a migration,
-- or call evbus_once_postgres_prepare(). A service needs INSERT on the table, and SELECT and DELETE where it prunes.
--
-- The key is the group and the event, not the event alone: else two groups of one database would suppress each other.
CREATE TABLE IF NOT EXISTS evbus_processed_event (
    consumer_group text NOT NULL,
    event_id uuid NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, event_id)
);
CREATE INDEX IF NOT EXISTS evbus_processed_event_age ON evbus_processed_event (consumer_group, processed_at);
