/* ledger.h: a service's database, in which each event has its effect once; a producer's stands on it, too (outbox.h). */
#ifndef DEMO_LEDGER_H
#define DEMO_LEDGER_H

#include <evbus/once.h>

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

struct ledger {
    sqlite3 *db;
    const char *group; /* whose events have their effect here */
    sqlite3_stmt *begin, *commit, *rollback;
    _Atomic bool *holds; /* may be NULL: set while a transaction is open */
};

struct service;
bool ledger_open(struct ledger *ledger, const struct service *service, const char *name, const char *schema);
void ledger_close(struct ledger *ledger);

sqlite3_stmt *ledger_prepare(struct ledger *ledger, const char *sql); /* NULL: it has complained */

/* Do an event's work once: evbus_once_sqlite(). What the handler answers. */
enum evbus_outcome ledger_once(struct ledger *ledger, const struct evbus_delivery *event, evbus_handler *work,
                               char *error);

/* Begin a transaction that no event has caused. */
bool ledger_begin(struct ledger *ledger);

/* Run a statement whose values are bound; it must change exactly one row. */
bool ledger_change(struct ledger *ledger, sqlite3_stmt *statement);

/* All went well: commit; else roll back, and complain. Is it committed? */
bool ledger_end(struct ledger *ledger, bool is_good, const char *what);

#endif
