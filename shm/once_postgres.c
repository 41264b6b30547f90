/* once_postgres.c: a handler's work and the row that says so, in one transaction of PostgreSQL.
 *
 *     BEGIN; DECLARE evbus_once   a cursor, which ends with its transaction: it is gone when the work has ended that, even when it
 *                                 has begun another one. (A savepoint would cost each event a second transaction id.)
 *     INSERT (group, id)          where another transaction has the same row, the server lets us wait for how that ends: committed, a
 *                                 unique violation, and it has had its effect; rolled back, or its client was killed, it is ours
 *     the work
 *     CLOSE evbus_once; COMMIT    both or neither; in one message
 *
 * Why that is enough: see once_sqlite.c [keeps ONCE]. What is new here is a server that may die, or whose answers may be lost. Before
 * COMMIT is sent nothing has happened. Behind it nobody knows, until the next attempt's INSERT asks: so the answer is EVBUS_RELEASE.
 * A COMMIT of a transaction in which a statement has failed is a ROLLBACK that succeeds; so its tag is looked at, too.
 *
 * Checked by tests/unit/test_once_postgres.c, tests/crash/test_once.c. */
#include "once.h"

#include "once_postgres_ddl.h"

#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE "evbus_processed_event"

static const char *state_of(const PGresult *result)
{
    const char *state = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
    return state != NULL ? state : "";
}

/* The server's fault, or its operator's, or other transactions', and not that of what was asked of it. */
static bool is_databases_fault(const PGconn *db, const PGresult *result)
{
    static const char *const states[] = {
        "08",    /* the connection */
        "25006", /* read only: a standby, since it has failed over */
        "40",    /* serialization failure, deadlock: others' transactions */
        "53",    /* no memory, disk, connection left */
        "55P03", /* a lock was not to be had in lock_timeout */
        "57P",   /* shutdown, crash, starting up, database dropped */
        "58",    /* the system's */
        "XX",    /* damage */
    };
    const char *state = state_of(result);
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++)
        if (strncmp(state, states[i], strlen(states[i])) == 0)
            return true;
    return PQstatus(db) != CONNECTION_OK || state[0] == '\0'; /* libpq's own: no memory, no answer */
}

static const char *words_of(const PGconn *db, const PGresult *result)
{
    const char *words = result != NULL ? PQresultErrorMessage(result) : "";
    return words[0] != '\0' ? words : PQerrorMessage(db);
}

static int fail(const PGconn *db, const PGresult *result, char *error, const char *what)
{
    int code = is_databases_fault(db, result) ? EVBUS_EAGAIN : EVBUS_EIO;
    return once_fail(code, error, "%s: %s", what, words_of(db, result));
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result); /* of NULL: PGRES_FATAL_ERROR */
    return status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
}

static void roll_back(PGconn *db)
{
    if (PQstatus(db) == CONNECTION_OK && PQtransactionStatus(db) != PQTRANS_IDLE)
        PQclear(PQexec(db, "ROLLBACK")); /* fails where the connection is lost, and then the server does it */
}

static int check(PGconn *db, bool has_all, char *error)
{
    if (db == NULL || !has_all)
        return once_fail(EVBUS_EINVAL, error, ONCE_MISSING);
    if (PQstatus(db) != CONNECTION_OK)
        return once_fail(EVBUS_EAGAIN, error, "the connection is lost, PQreset() mends that: %s", PQerrorMessage(db));
    if (PQtransactionStatus(db) != PQTRANS_IDLE)
        return once_fail(EVBUS_EINVAL, error, ONCE_IN_TRANSACTION);
    return EVBUS_OK;
}

/* Runs SQL; out_result, where it is not NULL, is the caller's to clear, of a failure, too. */
static bool run(PGconn *db, const char *sql, PGresult **out_result)
{
    PGresult *result = PQexec(db, sql);
    bool is_done = is_good(result);
    if (out_result != NULL)
        *out_result = result;
    else
        PQclear(result);
    return is_done;
}

/* Two who make the same table at once can both find none, and one of them fails; so they take turns by a lock of the server's. Where
 * the table is there, nothing is asked that a service without the right to make one would be refused. */
int evbus_once_postgres_prepare(struct pg_conn *db, char *error)
{
    static const char *const steps[] = {"BEGIN", "SELECT pg_advisory_xact_lock(7311139301669957219)", /* "evbusonc" */
                                        once_postgres_ddl, "COMMIT"};
    PGresult *result = NULL;
    int rc = check(db, true, error);
    if (rc != EVBUS_OK)
        return rc;
    if (!run(db, "SELECT to_regclass('" TABLE "') IS NOT NULL", &result))
        rc = fail(db, result, error, "whether " TABLE " is there cannot be asked");
    bool is_there = rc == EVBUS_OK && PQgetvalue(result, 0, 0)[0] == 't';
    PQclear(result);
    for (size_t i = 0; rc == EVBUS_OK && !is_there && i < sizeof steps / sizeof steps[0]; i++) {
        if (!run(db, steps[i], &result))
            rc = fail(db, result, error, TABLE " cannot be made");
        PQclear(result);
    }
    if (rc != EVBUS_OK)
        roll_back(db);
    return rc;
}

static PGresult *insert(PGconn *db, const char *group, const uint8_t id[16])
{
    const char *values[] = {group, (const char *)id};
    static const int lens[] = {0, 16}, formats[] = {0, 1}; /* text, and the uuid's bytes as they are */
    return PQexecParams(db, "INSERT INTO " TABLE " (consumer_group, event_id) VALUES ($1, $2)", 2, NULL, values, lens,
                        formats, 0);
}

/* Of our table's key, and not of one that a trigger has come upon elsewhere. */
static bool is_duplicate(const PGresult *result)
{
    const char *table = result != NULL ? PQresultErrorField(result, PG_DIAG_TABLE_NAME) : NULL;
    return strcmp(state_of(result), "23505") == 0 && table != NULL && strcmp(table, TABLE) == 0;
}

int evbus_once_postgres_begin(struct pg_conn *db, const char *group, const struct evbus_delivery *event, char *error)
{
    PGresult *result = NULL;
    int rc = check(db, group != NULL && event != NULL, error);
    if (rc != EVBUS_OK)
        return rc;
    if (!run(db, "BEGIN; DECLARE evbus_once CURSOR FOR SELECT 1", &result)) {
        rc = fail(db, result, error, "the event's transaction cannot be begun");
    } else {
        PQclear(result);
        result = insert(db, group, event->id);
        if (is_duplicate(result))
            rc = EVBUS_EDUPLICATE;
        else if (!is_good(result))
            rc = fail(db, result, error,
                      "the event's row cannot be written (evbus_once_postgres_prepare() makes its table)");
    }
    PQclear(result);
    if (rc != EVBUS_OK)
        roll_back(db);
    return rc;
}

enum evbus_outcome evbus_once_postgres_failed(struct pg_conn *db, const struct pg_result *result, char *error)
{
    once_tell(error, "PostgreSQL: %s", words_of(db, result));
    return is_databases_fault(db, result) ? EVBUS_RELEASE : EVBUS_RETRY;
}

static enum evbus_outcome commit(PGconn *db, char *error)
{
    if (PQstatus(db) == CONNECTION_OK && PQtransactionStatus(db) == PQTRANS_INERROR) {
        once_tell(error, "the handler said done, but a statement of its had failed: %s", PQerrorMessage(db));
        return EVBUS_RETRY;
    }
    PGresult *result = NULL;
    enum evbus_outcome outcome = EVBUS_DONE;
    if (!run(db, "CLOSE evbus_once; COMMIT", &result)) {
        outcome = evbus_once_postgres_failed(db, result, error);
        if (strcmp(state_of(result), "34000") == 0) { /* no such cursor */
            once_tell(error, ONCE_ENDED);
            outcome = EVBUS_RETRY;
        }
    } else if (strcmp(PQcmdStatus(result), "COMMIT") != 0) {
        once_tell(error, "PostgreSQL has rolled back");
        outcome = EVBUS_RETRY;
    }
    PQclear(result);
    return outcome;
}

enum evbus_outcome evbus_once_postgres_end(struct pg_conn *db, enum evbus_outcome outcome, char *error)
{
    if (outcome == EVBUS_DONE)
        outcome = commit(db, error);
    if (outcome != EVBUS_DONE)
        roll_back(db);
    return outcome;
}

enum evbus_outcome evbus_once_postgres(struct pg_conn *db, const char *group, const struct evbus_delivery *event,
                                       evbus_handler *work, void *context, char *error)
{
    int rc = work != NULL ? evbus_once_postgres_begin(db, group, event, error)
                          : once_fail(EVBUS_EINVAL, error, ONCE_MISSING);
    if (rc != EVBUS_OK)
        return once_not_begun(rc);
    return evbus_once_postgres_end(db, work(context, event, error), error);
}

int evbus_once_postgres_prune(struct pg_conn *db, const char *group, uint64_t age_ns, uint64_t *out_n, char *error)
{
    static const char sql[] = "DELETE FROM " TABLE " WHERE ctid = ANY (ARRAY(SELECT ctid FROM " TABLE
                              " WHERE consumer_group = $1"
                              "  AND processed_at < now() - $2::bigint * interval '1 microsecond' LIMIT $3::bigint))";
    char age_us[24], batch[12];
    const char *values[] = {group, age_us, batch};
    uint64_t n = 0, n_last = ONCE_PRUNE_BATCH;
    int rc = check(db, group != NULL && age_ns != 0, error);
    if (rc != EVBUS_OK)
        return rc;
    (void)snprintf(age_us, sizeof age_us, "%" PRIu64, age_ns / 1000);
    (void)snprintf(batch, sizeof batch, "%u", ONCE_PRUNE_BATCH);
    while (rc == EVBUS_OK && n_last == ONCE_PRUNE_BATCH) {
        PGresult *result = PQexecParams(db, sql, 3, NULL, values, NULL, NULL, 0);
        if (is_good(result))
            n += n_last = strtoull(PQcmdTuples(result), NULL, 10);
        else
            rc = fail(db, result, error, "old events cannot be forgotten");
        PQclear(result);
    }
    if (out_n != NULL)
        *out_n = n;
    return rc;
}
