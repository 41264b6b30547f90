/* ledger.c: a service's database. That an event has its effect there once is <evbus/once.h>'s doing, see docs/idempotency.md.
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

static const char settings[] = "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL";

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
    while ((rc = sqlite3_exec(ledger->db, settings, NULL, NULL, NULL)) == SQLITE_BUSY && monotonic_ns() < until)
        sleep_until(monotonic_ns() + 5 * NS_PER_MS);
    return rc == SQLITE_OK ? sqlite3_exec(ledger->db, schema, NULL, NULL, NULL) : rc;
}

bool ledger_open(struct ledger *ledger, const struct service *service, const char *name, const char *schema)
{
    char path[PATH_BYTES], error[EVBUS_ERROR_MAX];
    *ledger = (struct ledger){.group = service->kind->name};
    if (!path_in(path, service->dir, name))
        return false;
    if (sqlite3_open(path, &ledger->db) != SQLITE_OK || sqlite3_busy_timeout(ledger->db, BUSY_MS) != SQLITE_OK ||
        make_tables(ledger, schema) != SQLITE_OK) {
        complain_of(ledger, path);
        return false;
    }
    if (evbus_once_sqlite_prepare(ledger->db, error) != EVBUS_OK) {
        complain("%s: %s", path, error);
        return false;
    }
    ledger->begin = ledger_prepare(ledger, "BEGIN IMMEDIATE");
    ledger->commit = ledger_prepare(ledger, "COMMIT");
    ledger->rollback = ledger_prepare(ledger, "ROLLBACK");
    return ledger->begin != NULL && ledger->commit != NULL && ledger->rollback != NULL;
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

enum evbus_outcome ledger_once(struct ledger *ledger, const struct evbus_delivery *event, evbus_handler *work,
                               char *error)
{
    hold(ledger, true);
    enum evbus_outcome outcome = evbus_once_sqlite(ledger->db, ledger->group, event, work, NULL, error);
    hold(ledger, false);
    return outcome;
}

bool ledger_begin(struct ledger *ledger)
{
    hold(ledger, true);
    if (run(ledger->begin) == SQLITE_DONE)
        return true;
    hold(ledger, false);
    return false;
}

bool ledger_change(struct ledger *ledger, sqlite3_stmt *statement)
{
    return run(statement) == SQLITE_DONE && sqlite3_changes(ledger->db) == 1;
}

bool ledger_end(struct ledger *ledger, bool is_good, const char *what)
{
    is_good = is_good && run(ledger->commit) == SQLITE_DONE;
    if (!is_good) {
        complain_of(ledger, what);
        (void)run(ledger->rollback); /* fails where SQLite has rolled back by itself */
    }
    hold(ledger, false);
    return is_good;
}
