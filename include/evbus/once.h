/* once.h: one effect per event. A handler's work, and the row that says so, in one transaction of the service's own database.
 *
 *     static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
 *     {
 *         struct service *service = context;
 *         return evbus_once_sqlite(service->db, GROUP, event, add_points, service, error);
 *     }
 *
 * What it does, in this order:
 *
 *     BEGIN
 *     INSERT (group, event id)     a unique violation: it has had its effect; ROLLBACK, EVBUS_DONE
 *     the handler's work           anything but EVBUS_DONE: ROLLBACK, and that is the outcome
 *     COMMIT                       both or neither
 *     EVBUS_DONE                   only now does the bus forget the event
 *
 * Killed before COMMIT: nothing has happened, and the event comes again. Killed behind it: it comes again as well, and its row is
 * there. The key is (group, event id): two groups that share a database both have their effect. What it holds for is the database; a
 * mail that work sends goes out once more when the event comes again. docs/idempotency.md shows the whole pattern.
 *
 * A database that is down is not the event's fault: whatever fails before work is called, and in work and COMMIT a lost connection, a
 * busy or full database, a serialization failure, a deadlock or a shutdown, is EVBUS_RELEASE, which charges no attempt. What else fails
 * in COMMIT (a deferred constraint, say) is EVBUS_RETRY.
 *
 * Two libraries, so that libevbus needs neither database: evbus-sqlite and evbus-postgres (pkg-config). The connection is the
 * caller's: opened, configured and closed by him, used by one thread at a time, in no transaction when it is handed in. How durable
 * COMMIT is, is his choice, too: what the bus was told is done does not come again, so where a power cut must lose nothing, SQLite
 * needs `PRAGMA synchronous = FULL`, PostgreSQL `synchronous_commit` not off. For SQLite set a busy timeout.
 *
 * Which calls may run at the same time: anything on different connections, for the same event, too; nothing on the same. So handlers
 * that evbus_run() calls from several threads need a connection each.
 *
 * `group` is the name of the consumer group (of a handle's service, where evbus_subscribe() was given none); `error` is given what went
 * wrong, the database's own words included, at most EVBUS_ERROR_MAX bytes with its NUL; it may be NULL. */
#ifndef EVBUS_ONCE_H
#define EVBUS_ONCE_H

#include <evbus/evbus.h>

#ifdef __cplusplus
extern "C" {
#endif

struct sqlite3;   /**< of <sqlite3.h> */
struct pg_conn;   /**< of <libpq-fe.h>: PGconn */
struct pg_result; /**< of <libpq-fe.h>: PGresult */

/* --- SQLite (3.8.2 or newer): libevbus-sqlite -------------------------------------------------------------------------- */

/** Make the table evbus_processed_event where it is not there yet: share/once-sqlite.sql. Any number of processes may, at once.
 *
 *  Returns  EVBUS_OK; EVBUS_EINVAL (db is NULL, or in a transaction); EVBUS_EAGAIN (the database is busy, full or cannot be read);
 *           EVBUS_EIO (any other error of the database).
 *  Source   ADR 003, "Idempotency Pattern". Since 0.1. */
EVBUS_API int evbus_once_sqlite_prepare(struct sqlite3 *db, char *error);

/** Do the work of an event once. To be returned from an evbus_handler, or handed to evbus_finish().
 *
 *  work     is called within the transaction, or not at all where the event has had its effect. It must not end the transaction
 *           (savepoints of its own are fine); that is found and told. Its error text is kept
 *  context  handed to work
 *  Returns  what work returned; EVBUS_DONE only behind COMMIT. EVBUS_RELEASE where the database is at fault, the connection is in a
 *           transaction or an argument is missing: `error` tells the mend. EVBUS_RETRY where work has ended the transaction, or
 *           COMMIT found the event's work wrong.
 *  Source   ADR 003, "Idempotency Pattern". Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_sqlite(struct sqlite3 *db, const char *group,
                                               const struct evbus_delivery *event, evbus_handler *work, void *context,
                                               char *error);

/** The same in two halves, for people with a loop of their own: begin, and end with what became of the work between them.
 *
 *  Returns  EVBUS_OK: do the work, then evbus_once_sqlite_end(). EVBUS_EDUPLICATE: it has had its effect, finish it with EVBUS_DONE;
 *           anything else: finish it with EVBUS_RELEASE; no transaction of ours is open then. EVBUS_EINVAL (an argument is
 *           missing, the connection is in a transaction); EVBUS_EAGAIN; EVBUS_EIO (both the database's).
 *  Since 0.1. */
EVBUS_API int evbus_once_sqlite_begin(struct sqlite3 *db, const char *group, const struct evbus_delivery *event,
                                      char *error);

/** Commit where outcome is EVBUS_DONE, else roll back. Returns what to finish the event with. Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_sqlite_end(struct sqlite3 *db, enum evbus_outcome outcome, char *error);

/** For work whose statement has failed just now: `return evbus_once_sqlite_failed(db, error);`. Writes the database's words to error.
 *  Returns EVBUS_RELEASE where the database is at fault, else EVBUS_RETRY. Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_sqlite_failed(struct sqlite3 *db, char *error);

/** Forget events of a group that had their effect longer than age_ns ago, 1,000 per transaction, so that nobody waits for long. An
 *  event that comes again after that has its effect again: docs/idempotency.md tells which age is safe. By the clock of whoever calls.
 *
 *  out_n    out, may be NULL: how many were forgotten, on failure, too
 *  Returns  EVBUS_OK; EVBUS_EINVAL (an argument is missing, age_ns is 0, db is in a transaction); EVBUS_EAGAIN (busy: what is left
 *           is left for the next time); EVBUS_EIO. Since 0.1. */
EVBUS_API int evbus_once_sqlite_prune(struct sqlite3 *db, const char *group, uint64_t age_ns, uint64_t *out_n,
                                      char *error);

/* --- PostgreSQL (10 or newer, libpq): libevbus-postgres ----------------------------------------------------------------- */

/** Make the table evbus_processed_event, in the first schema of search_path, where it is not there yet: share/once-postgres.sql. Any
 *  number of processes may, at once; where it is there no right to make one is needed.
 *
 *  Returns  EVBUS_OK; EVBUS_EINVAL (db is NULL, or not idle); EVBUS_EAGAIN (the connection is lost, or the server is at fault);
 *           EVBUS_EIO (any other error of the database).
 *  Source   ADR 003, "Idempotency Pattern". Since 0.1. */
EVBUS_API int evbus_once_postgres_prepare(struct pg_conn *db, char *error);

/** As evbus_once_sqlite(). While another transaction has the same row, ours waits for how it ends. A COMMIT whose answer is lost is
 *  EVBUS_RELEASE: the next attempt finds the row, or does not. A lost connection stays the caller's to reset: PQreset(). In the
 *  transaction a cursor `evbus_once` is open, by which an end of the transaction is found out.
 *  Source   ADR 003, "Idempotency Pattern". Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_postgres(struct pg_conn *db, const char *group,
                                                 const struct evbus_delivery *event, evbus_handler *work, void *context,
                                                 char *error);

/** As evbus_once_sqlite_begin(). Since 0.1. */
EVBUS_API int evbus_once_postgres_begin(struct pg_conn *db, const char *group, const struct evbus_delivery *event,
                                        char *error);

/** As evbus_once_sqlite_end(). Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_postgres_end(struct pg_conn *db, enum evbus_outcome outcome, char *error);

/** As evbus_once_sqlite_failed(). result: of the statement that failed, NULL where there is none; it stays the caller's to clear.
 *  A statement that was cancelled, by `statement_timeout` say, is EVBUS_RETRY. Since 0.1. */
EVBUS_API enum evbus_outcome evbus_once_postgres_failed(struct pg_conn *db, const struct pg_result *result,
                                                        char *error);

/** As evbus_once_sqlite_prune(), by the server's clock. Since 0.1. */
EVBUS_API int evbus_once_postgres_prune(struct pg_conn *db, const char *group, uint64_t age_ns, uint64_t *out_n,
                                        char *error);

#ifdef __cplusplus
}
#endif

#endif
