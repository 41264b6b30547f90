/* outbox.c: what a producer says survives the producer.
 *
 *     BEGIN; INSERT each event, with its eventId; COMMIT   it has happened, and will be said
 *     publish, with ack disk                               it is said
 *     UPDATE sent                                          and need not be said again
 *
 * Killed before COMMIT: nothing has happened. Killed behind it: the next life finds the row, and publishes. Killed
 * between publish and UPDATE: it publishes once more, with the same eventId, by which each consumer's ledger knows it.
 * A new id there would double the order; no row at all would lose the payment behind it.
 *
 * A row that says sent is the last that anybody hears of an event, so it wants ack disk, whatever the topic's log has:
 * with ack memory a restart of the host may take what the journal did not have yet, and nobody would send it again.
 * (The row itself wants synchronous=FULL where it shall outlive a power cut: see ledger.c.) */
#include "outbox.h"

#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define PUBLISH_TIMEOUT_NS (5 * NS_PER_S) /* how long a full ring may keep us */

/* A UUIDv7: milliseconds, version, random bits. */
static bool make_id(uint8_t out_id[16])
{
    uint64_t ms = wall_ns() / NS_PER_MS;
    if (getrandom(out_id, 16, 0) != 16)
        return false;
    for (int i = 0; i < 6; i++)
        out_id[i] = (uint8_t)(ms >> (8 * (5 - i)));
    out_id[6] = (uint8_t)((out_id[6] & 0x0f) | 0x70);
    out_id[8] = (uint8_t)((out_id[8] & 0x3f) | 0x80);
    return true;
}

static bool complain_of(const struct outbox *outbox)
{
    complain("%s: its outbox: %s", outbox->service->kind->name, sqlite3_errmsg(outbox->ledger.db));
    return false;
}

/* Publish, timed. */
static bool publish(struct service *service, const uint8_t id[16], const struct note *note)
{
    const struct evbus_version second = {.major = 2, .payload = note->payload_2};
    struct evbus_event event = {.size = sizeof event,
                                .topic = topic_names[note->topic],
                                .key = note->key,
                                .payload = note->payload,
                                .payload_len = note->len,
                                .more_versions = note->payload_2 != NULL ? &second : NULL,
                                .n_more_versions = note->payload_2 != NULL,
                                .ack = EVBUS_ACK_DISK,
                                .timeout_ns = PUBLISH_TIMEOUT_NS};
    uint64_t begun = monotonic_ns();
    memcpy(event.id, id, sizeof event.id);
    if (evbus_publish(service->bus, &event, NULL) != EVBUS_OK) {
        complain("%s: %s: %s", service->kind->name, event.topic, evbus_message(service->bus));
        return false;
    }
    sample(&service->board->publish, monotonic_ns() - begun);
    return true;
}

/* Publishes the first that is not out. out_is_any false: all are. */
static bool send_next(struct outbox *outbox, bool *out_is_any)
{
    struct service *service = outbox->service;
    sqlite3_stmt *row = outbox->next;
    int rc = sqlite3_step(row);
    *out_is_any = rc == SQLITE_ROW;
    if (rc != SQLITE_ROW) {
        (void)sqlite3_reset(row); /* tells again what its step told */
        return rc == SQLITE_DONE || complain_of(outbox);
    }
    sqlite3_int64 number = sqlite3_column_int64(row, 0);
    struct note note = {.topic = (enum topic)sqlite3_column_int(row, 2),
                        .key = (const char *)sqlite3_column_text(row, 3),
                        .payload = sqlite3_column_blob(row, 4),
                        .len = (size_t)sqlite3_column_bytes(row, 4),
                        .payload_2 = (const char *)sqlite3_column_text(row, 5)};
    bool is_good = publish(service, sqlite3_column_blob(row, 1), &note);
    if (is_good && outbox->killed_at != NULL && strcmp(note.key, outbox->killed_at) == 0)
        service_wait_to_be_killed(&service->board->restart_me);
    (void)sqlite3_reset(row);
    if (!is_good)
        return false;
    if (sqlite3_bind_int64(outbox->sent, 1, number) != SQLITE_OK || !ledger_change(&outbox->ledger, outbox->sent))
        return complain_of(outbox);
    count(&service->board->published[note.topic]);
    return true;
}

static bool send_all(struct outbox *outbox)
{
    bool is_any = true;
    bool is_good = true;
    while (is_good && is_any)
        is_good = send_next(outbox, &is_any);
    return is_good;
}

/* The board may be one behind where we were killed: the rows tell. */
static bool count_sent(struct outbox *outbox)
{
    sqlite3_stmt *rows = ledger_prepare(&outbox->ledger,
                                        "SELECT topic, count(*) FROM outbox WHERE sent GROUP BY topic");
    int rc = SQLITE_ERROR;
    while (rows != NULL && (rc = sqlite3_step(rows)) == SQLITE_ROW)
        atomic_store(&outbox->service->board->published[sqlite3_column_int(rows, 0)],
                     (uint64_t)sqlite3_column_int64(rows, 1));
    (void)sqlite3_finalize(rows);
    return rc == SQLITE_DONE;
}

bool outbox_open(struct outbox *outbox, struct service *service, const char *killed_at)
{
    char name[128];
    *outbox = (struct outbox){.service = service, .killed_at = killed_at};
    (void)snprintf(name, sizeof name, "%.64s.db", service->kind->name);
    if (!ledger_open(&outbox->ledger, service, name,
                     "CREATE TABLE IF NOT EXISTS outbox (number INTEGER PRIMARY KEY, eventId BLOB NOT NULL UNIQUE,"
                     "  topic INTEGER NOT NULL, key TEXT NOT NULL, payload BLOB NOT NULL, payload2 TEXT,"
                     "  sent INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, key));"
                     "CREATE INDEX IF NOT EXISTS unsent ON outbox (number) WHERE sent = 0"))
        return false;
    outbox->put = ledger_prepare(&outbox->ledger, "INSERT INTO outbox (eventId, topic, key, payload, payload2)"
                                                  "  VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT (topic, key) DO NOTHING");
    outbox->next = ledger_prepare(&outbox->ledger, "SELECT number, eventId, topic, key, payload, payload2 FROM outbox"
                                                   "  WHERE sent = 0 ORDER BY number LIMIT 1");
    outbox->sent = ledger_prepare(&outbox->ledger, "UPDATE outbox SET sent = 1 WHERE number = ?1");
    return outbox->put != NULL && outbox->next != NULL && outbox->sent != NULL && count_sent(outbox) &&
           send_all(outbox);
}

void outbox_close(struct outbox *outbox)
{
    ledger_close(&outbox->ledger);
}

static bool put(struct outbox *outbox, const struct note *note, bool *out_is_new)
{
    uint8_t id[16];
    sqlite3_stmt *row = outbox->put;
    if (!make_id(id) || sqlite3_bind_blob(row, 1, id, 16, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_int(row, 2, (int)note->topic) != SQLITE_OK ||
        sqlite3_bind_text(row, 3, note->key, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_blob(row, 4, note->payload, (int)note->len, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_text(row, 5, note->payload_2, -1, SQLITE_TRANSIENT) != SQLITE_OK)
        return false;
    int rc = sqlite3_step(row);
    (void)sqlite3_reset(row); /* tells the same again */
    *out_is_new = sqlite3_changes(outbox->ledger.db) == 1;
    return rc == SQLITE_DONE;
}

bool outbox_publish(struct outbox *outbox, const struct note *notes, size_t n, bool *out_is_new)
{
    bool is_good = ledger_begin(&outbox->ledger);
    for (size_t i = 0; is_good && i < n; i++)
        is_good = put(outbox, &notes[i], out_is_new);
    return ledger_end(&outbox->ledger, is_good, outbox->service->kind->name) && (!*out_is_new || send_all(outbox));
}
