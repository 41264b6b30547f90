/* ledger.h: a service's database, in which each event has its effect once; a producer's stands on it, too (outbox.h). */
#ifndef DEMO_LEDGER_H
#define DEMO_LEDGER_H

#include <evbus/evbus.h>

#include <sqlite3.h>
#include <stdatomic.h>
#include <stdbool.h>

struct ledger {
    sqlite3 *db;
    sqlite3_stmt *begin, *processed, *commit, *rollback;
    _Atomic bool *holds; /* may be NULL: set while a transaction is open */
};

/* What is left to do for an event. */
enum ledger_step { LEDGER_NEW, LEDGER_ALREADY, LEDGER_FAILED };

bool ledger_open(struct ledger *ledger, const char *dir, const char *name, const char *schema);
void ledger_close(struct ledger *ledger);

sqlite3_stmt *ledger_prepare(struct ledger *ledger, const char *sql); /* NULL: it has complained */

/* Begin the event's transaction with its processed row. LEDGER_ALREADY: nothing is open, the effect is there. */
enum ledger_step ledger_begin(struct ledger *ledger, const uint8_t id[16]);

/* Begin a transaction that no event has caused. */
bool ledger_begin_own(struct ledger *ledger);

/* Run a statement whose values are bound; it must change exactly one row. */
bool ledger_change(struct ledger *ledger, sqlite3_stmt *statement);

/* All went well: commit; else roll back. What the handler answers: EVBUS_DONE only after the commit. */
enum evbus_outcome ledger_end(struct ledger *ledger, bool is_good, char *error);

#endif
