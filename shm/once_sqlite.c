/* once_sqlite.c: a handler's work and the row that says so, in one transaction of SQLite.
 *
 *     BEGIN IMMEDIATE        nobody else writes from here on, so nobody can have our row half
 *     SAVEPOINT evbus_once   is released before COMMIT; it is gone when the work has ended the transaction, even when it has begun
 *                            another one
 *     INSERT (group, id)     a unique violation: it has had its effect
 *     the work
 *     RELEASE, COMMIT        both or neither, in one file: SQLite's journal sees to that
 *
 * Why that is enough. The row and the effect have one COMMIT, so a death leaves both or neither, and the bus is told behind it, so
 * that what it has forgotten is there. What it has not forgotten comes again, and then the row decides [keeps ONCE]. Swap COMMIT and
 * the answer, and a death between them loses the effect; look for the row before BEGIN instead of inserting it, and two members, of
 * whom one was taken for dead, both find none.
 *
 * SQLite rolls back by itself where it is out of memory or disk; then there is no transaction any more, and ROLLBACK fails, which is
 * why nobody looks at that. Checked by tests/unit/test_once_sqlite.c, tests/crash/test_once.c. */
#include "once.h"

#include "once_sqlite_ddl.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <time.h>

#define NS_PER_S 1000000000u

static int run(struct sqlite3 *db, const char *sql)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL);
}

static void roll_back(struct sqlite3 *db)
{
    if (sqlite3_get_autocommit(db) == 0)
        (void)run(db, "ROLLBACK");
}

/* The database's fault, or its operator's, and not that of what was asked of it. */
static bool is_databases_fault(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
    case SQLITE_NOMEM:
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PROTOCOL:
    case SQLITE_PERM:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return true;
    default:
        return false;
    }
}

static int fail(struct sqlite3 *db, char *error, const char *what)
{
    int code = is_databases_fault(sqlite3_errcode(db)) ? EVBUS_EAGAIN : EVBUS_EIO;
    return once_fail(code, error, "%s: %s", what, sqlite3_errmsg(db));
}

static int check(struct sqlite3 *db, bool has_all, char *error)
{
    if (db == NULL || !has_all)
        return once_fail(EVBUS_EINVAL, error, ONCE_MISSING);
    if (sqlite3_get_autocommit(db) == 0)
        return once_fail(EVBUS_EINVAL, error, ONCE_IN_TRANSACTION);
    return EVBUS_OK;
}

static int64_t now_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

/* Is the table there? Then nobody needs to write. */
static bool is_prepared(struct sqlite3 *db)
{
    return run(db, "SELECT 1 FROM evbus_processed_event WHERE 0") == SQLITE_OK;
}

int evbus_once_sqlite_prepare(struct sqlite3 *db, char *error)
{
    int rc = check(db, true, error);
    if (rc != EVBUS_OK || is_prepared(db))
        return rc;
    if (run(db, "BEGIN IMMEDIATE") != SQLITE_OK || run(db, once_sqlite_ddl) != SQLITE_OK ||
        run(db, "COMMIT") != SQLITE_OK) {
        rc = fail(db, error, "evbus_processed_event cannot be made");
        roll_back(db);
    }
    return rc;
}

static int insert(struct sqlite3 *db, const char *group, const uint8_t id[16])
{
    static const char sql[] =
        "INSERT INTO evbus_processed_event (consumer_group, event_id, processed_at) VALUES (?1, ?2, ?3)";
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &row, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_text(row, 1, group, -1, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_blob(row, 2, id, 16, SQLITE_STATIC);
    if (rc == SQLITE_OK)
        rc = sqlite3_bind_int64(row, 3, now_ns());
    if (rc == SQLITE_OK)
        rc = sqlite3_step(row);
    int of_step = sqlite3_finalize(row); /* tells again what the step told, and its extended code */
    return rc == SQLITE_DONE || of_step != SQLITE_OK ? of_step : rc;
}

int evbus_once_sqlite_begin(struct sqlite3 *db, const char *group, const struct evbus_delivery *event, char *error)
{
    int rc = check(db, group != NULL && event != NULL, error);
    if (rc != EVBUS_OK)
        return rc;
    if (run(db, "BEGIN IMMEDIATE") != SQLITE_OK || run(db, "SAVEPOINT evbus_once") != SQLITE_OK) {
        rc = fail(db, error, "the event's transaction cannot be begun");
    } else if (insert(db, group, event->id) != SQLITE_OK) {
        int why = sqlite3_extended_errcode(db);
        bool is_there = why == SQLITE_CONSTRAINT_PRIMARYKEY || why == SQLITE_CONSTRAINT_UNIQUE;
        rc = is_there
                 ? EVBUS_EDUPLICATE
                 : fail(db, error, "the event's row cannot be written (evbus_once_sqlite_prepare() makes its table)");
    }
    if (rc != EVBUS_OK)
        roll_back(db);
    return rc;
}

enum evbus_outcome evbus_once_sqlite_failed(struct sqlite3 *db, char *error)
{
    once_tell(error, "SQLite: %s", sqlite3_errmsg(db));
    return is_databases_fault(sqlite3_errcode(db)) ? EVBUS_RELEASE : EVBUS_RETRY;
}

enum evbus_outcome evbus_once_sqlite_end(struct sqlite3 *db, enum evbus_outcome outcome, char *error)
{
    if (outcome == EVBUS_DONE && run(db, "RELEASE evbus_once") != SQLITE_OK) {
        outcome = evbus_once_sqlite_failed(db, error);
        if (sqlite3_errcode(db) == SQLITE_ERROR) /* there is no such savepoint */
            once_tell(error, ONCE_ENDED);
    } else if (outcome == EVBUS_DONE && run(db, "COMMIT") != SQLITE_OK) {
        outcome = evbus_once_sqlite_failed(db, error);
    }
    if (outcome != EVBUS_DONE)
        roll_back(db);
    return outcome;
}

enum evbus_outcome evbus_once_sqlite(struct sqlite3 *db, const char *group, const struct evbus_delivery *event,
                                     evbus_handler *work, void *context, char *error)
{
    int rc = work != NULL ? evbus_once_sqlite_begin(db, group, event, error)
                          : once_fail(EVBUS_EINVAL, error, ONCE_MISSING);
    if (rc != EVBUS_OK)
        return once_not_begun(rc);
    return evbus_once_sqlite_end(db, work(context, event, error), error);
}

int evbus_once_sqlite_prune(struct sqlite3 *db, const char *group, uint64_t age_ns, uint64_t *out_n, char *error)
{
    static const char sql[] =
        "DELETE FROM evbus_processed_event WHERE consumer_group = ?1 AND event_id IN (SELECT event_id"
        "  FROM evbus_processed_event WHERE consumer_group = ?1 AND processed_at < ?2 LIMIT ?3)";
    uint64_t n = 0, n_last = ONCE_PRUNE_BATCH;
    sqlite3_stmt *row = NULL;
    int rc = check(db, group != NULL && age_ns != 0, error);
    if (rc != EVBUS_OK)
        return rc;
    int64_t now = now_ns();
    int64_t before = age_ns < (uint64_t)now ? now - (int64_t)age_ns : 0;
    bool is_good = sqlite3_prepare_v2(db, sql, -1, &row, NULL) == SQLITE_OK &&
                   sqlite3_bind_text(row, 1, group, -1, SQLITE_STATIC) == SQLITE_OK &&
                   sqlite3_bind_int64(row, 2, before) == SQLITE_OK &&
                   sqlite3_bind_int(row, 3, (int)ONCE_PRUNE_BATCH) == SQLITE_OK;
    while (is_good && n_last == ONCE_PRUNE_BATCH) {
        is_good = sqlite3_step(row) == SQLITE_DONE && sqlite3_reset(row) == SQLITE_OK;
        n_last = is_good ? (uint64_t)sqlite3_changes(db) : 0;
        n += n_last;
    }
    if (!is_good)
        rc = fail(db, error, "old events cannot be forgotten");
    (void)sqlite3_finalize(row); /* tells the same again */
    if (out_n != NULL)
        *out_n = n;
    return rc;
}
