/* ledger.c: one effect per event, as the ADR's "Idempotency Pattern" has it, with SQLite.
 *
 *     BEGIN IMMEDIATE                             nobody else writes from here on
 *     INSERT INTO processed_event (eventId)       is it there already? then roll back, and it is done: EVBUS_DONE
 *     ... what the event means for this service
 *     COMMIT                                      both or neither
 *     EVBUS_DONE                                  only now does the bus forget it
 *
 * Killed before COMMIT: nothing has happened, and the event comes again. Killed behind it: it comes again as well, and
 * its row is there. Swap the last two lines, and a crash between them loses the event; leave the row out, and it
 * counts twice. A database that cannot be written is not the event's fault: EVBUS_RELEASE charges it no attempt.
 *
 * WAL with synchronous=NORMAL: a commit is a write without fsync. It survives kill -9 of all processes, and the loss of
 * all shared memory, which is what the demo does. A power cut may take the last commits of events that the bus has on
 * disk as done: who must outlive one says synchronous=FULL, and pays an fsync per event. Two members write to one
 * database: busy_timeout. */
#include "ledger.h"

#include "service.h"

#include <stdio.h>
#include <string.h>

#define BUSY_MS 10000

static const char schema_of_ours[] =
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
    "CREATE TABLE IF NOT EXISTS processed_event ("
    "  eventId BLOB NOT NULL UNIQUE, processedAt TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP);";

static void complain_of(const struct ledger *ledger, const char *what)
{
    complain("%s: %s", what, ledger->db != NULL ? sqlite3_errmsg(ledger->db) : "no memory");
}

sqlite3_stmt *ledger_prepare(struct ledger *ledger, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v3(ledger->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        complain_of(ledger, sql);
    return statement;
}

/* Two who open a new database at once: to make it WAL is an upgrade of a lock, for which SQLite does not wait by
 * itself. */
static int make_tables(struct ledger *ledger, const char *schema)
{
    uint64_t until = monotonic_ns() + BUSY_MS * NS_PER_MS;
    int rc;
    while ((rc = sqlite3_exec(ledger->db, schema_of_ours, NULL, NULL, NULL)) == SQLITE_BUSY && monotonic_ns() < until)
        sleep_until(monotonic_ns() + 5 * NS_PER_MS);
    return rc == SQLITE_OK ? sqlite3_exec(ledger->db, schema, NULL, NULL, NULL) : rc;
}

bool ledger_open(struct ledger *ledger, const char *dir, const char *name, const char *schema)
{
    char path[PATH_BYTES];
    *ledger = (struct ledger){0};
    if (!path_in(path, dir, name))
        return false;
    if (sqlite3_open(path, &ledger->db) != SQLITE_OK || sqlite3_busy_timeout(ledger->db, BUSY_MS) != SQLITE_OK ||
        make_tables(ledger, schema) != SQLITE_OK) {
        complain_of(ledger, path);
        return false;
    }
    ledger->begin = ledger_prepare(ledger, "BEGIN IMMEDIATE");
    ledger->processed = ledger_prepare(ledger, "INSERT INTO processed_event (eventId) VALUES (?1)");
    ledger->commit = ledger_prepare(ledger, "COMMIT");
    ledger->rollback = ledger_prepare(ledger, "ROLLBACK");
    return ledger->begin != NULL && ledger->processed != NULL && ledger->commit != NULL && ledger->rollback != NULL;
}

void ledger_close(struct ledger *ledger)
{
    sqlite3_stmt *statement;
    while (ledger->db != NULL && (statement = sqlite3_next_stmt(ledger->db, NULL)) != NULL)
        (void)sqlite3_finalize(statement); /* tells again what its last step told */
    (void)sqlite3_close(ledger->db);       /* no statement is left: cannot fail */
    *ledger = (struct ledger){0};
}

static int run(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    (void)sqlite3_reset(statement); /* tells the same again */
    return rc;
}

static void hold(struct ledger *ledger, bool on)
{
    if (ledger->holds != NULL)
        atomic_store_explicit(ledger->holds, on, memory_order_seq_cst);
}

static void give_up(struct ledger *ledger)
{
    (void)run(ledger->rollback); /* fails where SQLite has rolled back by itself */
    hold(ledger, false);
}

bool ledger_begin_own(struct ledger *ledger)
{
    hold(ledger, true);
    if (run(ledger->begin) == SQLITE_DONE)
        return true;
    hold(ledger, false);
    return false;
}

enum ledger_step ledger_begin(struct ledger *ledger, const uint8_t id[16])
{
    if (!ledger_begin_own(ledger))
        return LEDGER_FAILED;
    int rc = sqlite3_bind_blob(ledger->processed, 1, id, 16, SQLITE_TRANSIENT);
    if (rc == SQLITE_OK)
        rc = run(ledger->processed);
    if (rc == SQLITE_DONE)
        return LEDGER_NEW;
    bool is_there = sqlite3_extended_errcode(ledger->db) == SQLITE_CONSTRAINT_UNIQUE;
    give_up(ledger);
    return is_there ? LEDGER_ALREADY : LEDGER_FAILED;
}

bool ledger_change(struct ledger *ledger, sqlite3_stmt *statement)
{
    return run(statement) == SQLITE_DONE && sqlite3_changes(ledger->db) == 1;
}

enum evbus_outcome ledger_end(struct ledger *ledger, bool is_good, char *error)
{
    if (is_good && run(ledger->commit) == SQLITE_DONE) {
        hold(ledger, false);
        return EVBUS_DONE;
    }
    (void)snprintf(error, EVBUS_ERROR_MAX, "database: %s", sqlite3_errmsg(ledger->db));
    give_up(ledger);
    return EVBUS_RELEASE;
}
