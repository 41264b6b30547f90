/* projection.c: a table that is made of events: what each customer has paid, and how many orders are in which state.
 *
 *     projection revenue.db               follow; what is not there yet is built from history first
 *     projection --rebuild revenue.db     build it anew beside the old one, which serves meanwhile; then take its place
 *
 * projection.md walks through it. In short: a table and the group that fills it are a pair, revenue.db.a and the group
 * revenue-a, or b and b. The group starts with the oldest event that is kept and reads on, through the journal's files and
 * then in memory, for ever; the bus keeps its positions. The link revenue.db names the pair that serves.
 *
 *     receive   up to 64 events; never two of one key
 *     BEGIN     each event's id, and what it means for the table
 *     COMMIT    all of it or nothing
 *     finish    only now does the bus forget them
 *
 * Killed before COMMIT: nothing has happened, and the events come again. Killed behind it: they come again as well, and
 * their ids are there. Swap the last two, and a crash between them loses events; leave the ids out, and they count twice. */
#include <evbus/admin.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH       64  /* events that share a commit */
#define CLOSE_CELLS 256 /* 16 KiB behind is caught up: who waits for 0 may wait for ever on a busy bus */
#define WAIT_NS     UINT64_C(100000000) /* how long the next event is waited for, between two looks at the signal */
#define MEMBER_SIZE 256                 /* as evbus_key_of_member() has it */
#define BUSY_MS     10000

#define PAYMENT   "lomash.payments.succeeded"
#define CANCELLED "lomash.orders.cancelled"

static const char *const topics[] = {"lomash.orders.created", CANCELLED, PAYMENT};

static const char schema[] =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" /* no commit that the bus relies on goes in a power cut */
    "CREATE TABLE IF NOT EXISTS applied (eventId BLOB PRIMARY KEY) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS orders ("
    "  orderId TEXT PRIMARY KEY, paid INTEGER NOT NULL, cancelled INTEGER NOT NULL);"
    "CREATE TABLE IF NOT EXISTS revenue (customer TEXT PRIMARY KEY, pence INTEGER NOT NULL);"
    "CREATE VIEW IF NOT EXISTS orders_by_state AS SELECT"
    "  CASE WHEN cancelled THEN 'cancelled' WHEN paid THEN 'paid' ELSE 'placed' END AS state, count(*) AS orders"
    "  FROM orders GROUP BY state;";

enum { APPLY, MARK, EARN, N_STATEMENTS };
static const char *const sql[N_STATEMENTS] = {
    "INSERT OR IGNORE INTO applied (eventId) VALUES (?1)",
    "INSERT INTO orders (orderId, paid, cancelled) VALUES (?1, ?2, ?3) ON CONFLICT (orderId) DO UPDATE"
    "  SET paid = paid | excluded.paid, cancelled = cancelled | excluded.cancelled",
    "INSERT INTO revenue (customer, pence) VALUES (?1, ?2) ON CONFLICT (customer) DO UPDATE"
    "  SET pence = pence + excluded.pence",
};

struct table {
    sqlite3 *db;
    sqlite3_stmt *statements[N_STATEMENTS];
};

static volatile sig_atomic_t is_told_to_stop;

static void stop(int number)
{
    (void)number;
    is_told_to_stop = 1;
}

/* What the group could not read, as files were lost or damaged, is told here and nowhere else. */
static void tell(void *context, enum evbus_level level, const char *line)
{
    (void)context;
    (void)level;
    fprintf(stderr, "projection: %s\n", line);
}

static bool fail(const char *what, const char *why)
{
    fprintf(stderr, "projection: %s: %s\n", what, why);
    return false;
}

/* --- one event --------------------------------------------------------------------------------------------------------- */

/* "440.00" is 44000: money is never a double. */
static bool pence_of(const char *text, int64_t *out_pence)
{
    size_t n_whole = strspn(text, "0123456789");
    if (n_whole < 1 || n_whole > 12 || text[n_whole] != '.' || strspn(text + n_whole + 1, "0123456789") != 2 ||
        text[n_whole + 3] != '\0')
        return false;
    *out_pence = strtoll(text, NULL, 10) * 100 + strtoll(text + n_whole + 1, NULL, 10);
    return true;
}

static bool member(const struct evbus_delivery *event, const char *name, char out_text[MEMBER_SIZE])
{
    size_t len;
    return evbus_key_of_member(event->payload, event->payload_len, name, out_text, &len) == EVBUS_OK;
}

static bool run(sqlite3_stmt *statement)
{
    int rc = sqlite3_step(statement);
    (void)sqlite3_reset(statement); /* tells the same again */
    return rc == SQLITE_DONE;
}

/* DONE, also when it was applied before; REJECT: it says nothing to us; RELEASE: the database's fault, not the event's. */
static enum evbus_outcome apply(struct table *table, const struct evbus_delivery *event)
{
    char order[MEMBER_SIZE], customer[MEMBER_SIZE], amount[MEMBER_SIZE];
    int64_t pence = 0;
    bool is_payment = strcmp(event->topic, PAYMENT) == 0;
    bool is_cancelled = strcmp(event->topic, CANCELLED) == 0;
    if (event->version_major != 1 || !member(event, "orderId", order) ||
        (is_payment &&
         (!member(event, "customerId", customer) || !member(event, "amount", amount) || !pence_of(amount, &pence))))
        return EVBUS_REJECT;

    sqlite3_stmt *const *to = table->statements;
    if (sqlite3_bind_blob(to[APPLY], 1, event->id, 16, SQLITE_STATIC) != SQLITE_OK || !run(to[APPLY]))
        return EVBUS_RELEASE;
    if (sqlite3_changes(table->db) == 0)
        return EVBUS_DONE; /* it is here already */
    if (sqlite3_bind_text(to[MARK], 1, order, -1, SQLITE_STATIC) != SQLITE_OK ||
        sqlite3_bind_int(to[MARK], 2, is_payment) != SQLITE_OK ||
        sqlite3_bind_int(to[MARK], 3, is_cancelled) != SQLITE_OK || !run(to[MARK]))
        return EVBUS_RELEASE;
    if (is_payment && (sqlite3_bind_text(to[EARN], 1, customer, -1, SQLITE_STATIC) != SQLITE_OK ||
                       sqlite3_bind_int64(to[EARN], 2, pence) != SQLITE_OK || !run(to[EARN])))
        return EVBUS_RELEASE;
    return EVBUS_DONE;
}

/* --- a batch of them --------------------------------------------------------------------------------------------------- */

/* Returns how many events were taken, or an error of the subscription. */
static int take(struct table *table, struct evbus_subscription *subscription)
{
    struct evbus_delivery events[BATCH];
    enum evbus_outcome outcomes[BATCH];
    int n = 0, rc = EVBUS_OK;
    while (n < BATCH && rc == EVBUS_OK) {
        events[n].size = sizeof events[n];
        rc = evbus_receive(subscription, &events[n], n == 0 ? WAIT_NS : 0);
        n += rc == EVBUS_OK;
    }
    if (n == 0)
        return rc == EVBUS_ETIMEOUT ? 0 : rc;

    bool is_good = sqlite3_exec(table->db, "BEGIN IMMEDIATE", NULL, NULL, NULL) == SQLITE_OK;
    for (int i = 0; is_good && i < n; i++) {
        outcomes[i] = apply(table, &events[i]);
        is_good = outcomes[i] != EVBUS_RELEASE;
    }
    if (!is_good || sqlite3_exec(table->db, "COMMIT", NULL, NULL, NULL) != SQLITE_OK) {
        is_good = fail("database", sqlite3_errmsg(table->db));
        (void)sqlite3_exec(table->db, "ROLLBACK", NULL, NULL, NULL); /* fails where SQLite has rolled back by itself */
    }
    for (int i = 0; i < n; i++) {
        enum evbus_outcome outcome = is_good ? outcomes[i] : EVBUS_RELEASE;
        rc = evbus_finish(subscription, &events[i], outcome,
                          outcome == EVBUS_REJECT ? "not of a schema we know" : NULL);
        if (rc != EVBUS_OK) /* what is somebody else's now comes to him, and its id is there */
            (void)fail("finish", evbus_message(NULL));
    }
    return n;
}

/* --- the two pairs ----------------------------------------------------------------------------------------------------- */

static const char *group_of(char side)
{
    return side == 'a' ? "revenue-a" : "revenue-b";
}

static const char *file_of(const char *link, char side, const char *end, char out_path[PATH_MAX])
{
    (void)snprintf(out_path, PATH_MAX, "%s.%c%s", link, side, end); /* main() has seen that it fits */
    return out_path;
}

/* Which one serves: 'a', 'b', 0: none yet, '?': the name is taken by something else. */
static char serving(const char *link)
{
    char target[PATH_MAX];
    ssize_t len = readlink(link, target, sizeof target);
    if (len < 0)
        return errno == ENOENT ? 0 : '?';
    return target[len - 1] == 'a' || target[len - 1] == 'b' ? target[len - 1] : '?';
}

/* Forget a pair. Whoever still follows it gets EVBUS_ENOTFOUND; whoever reads the table has it as long as it is open. */
static bool clear(struct evbus *bus, const char *link, char side)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    char path[PATH_MAX];
    int rc = evbus_group_remove(bus, group_of(side));
    if (rc != EVBUS_OK && rc != EVBUS_ENOTFOUND)
        return fail(group_of(side), evbus_message(bus));
    for (int i = 0; i < 3; i++)
        if (unlink(file_of(link, side, ends[i], path)) != 0 && errno != ENOENT)
            return fail(path, strerror(errno));
    return true;
}

/* A link that is renamed over the old one: who opens the table finds the old or the new one, and always a whole one. */
static bool serve(const char *link, char side)
{
    char path[PATH_MAX], next[PATH_MAX], *name = strrchr(file_of(link, side, "", path), '/');
    (void)unlink(file_of(link, side, "-next", next)); /* of a kill before us, if any */
    return (symlink(name != NULL ? name + 1 : path, next) == 0 && rename(next, link) == 0) ||
           fail(link, strerror(errno));
}

/* --- rebuilt, then following ------------------------------------------------------------------------------------------- */

static int is_close(void *context, const struct evbus_group_stat *group)
{
    const char *const *name = context;
    return strcmp(group->group, *name) == 0 && group->lag <= CLOSE_CELLS && group->n_pending == 0;
}

/* A table can be no older than the history that it is made of. */
static void tell_where_history_begins(struct evbus *bus)
{
    struct evbus_stat stat = {.size = sizeof stat};
    int rc = evbus_stat(bus, &stat);
    for (size_t i = 0; rc == EVBUS_OK && i < stat.n_partitions; i++) {
        const struct evbus_partition_stat *at = &stat.partitions[i];
        if ((strcmp(at->log, "lomash.orders") == 0 || strcmp(at->log, "lomash.payments") == 0) && at->oldest > 0)
            fprintf(stderr, "projection: of %s/%u nothing is kept before @%llu: the table will not have it\n", at->log,
                    at->partition, (unsigned long long)at->oldest);
    }
}

static bool table_open(struct table *table, const char *path)
{
    bool is_good = sqlite3_open(path, &table->db) == SQLITE_OK &&
                   sqlite3_busy_timeout(table->db, BUSY_MS) == SQLITE_OK &&
                   sqlite3_exec(table->db, schema, NULL, NULL, NULL) == SQLITE_OK;
    for (int i = 0; is_good && i < N_STATEMENTS; i++)
        is_good = sqlite3_prepare_v2(table->db, sql[i], -1, &table->statements[i], NULL) == SQLITE_OK;
    return is_good || fail(path, sqlite3_errmsg(table->db));
}

static void table_close(struct table *table)
{
    for (int i = 0; i < N_STATEMENTS; i++)
        (void)sqlite3_finalize(table->statements[i]); /* tells again what its last step told */
    (void)sqlite3_close(table->db);                   /* no statement is left: cannot fail */
}

static bool project(struct evbus *bus, const char *link, bool is_building)
{
    char old = serving(link), path[PATH_MAX];
    if (old == '?')
        return fail(link, "is there, and is no link to a table of ours");
    is_building = is_building || access(link, F_OK) != 0; /* also where the table behind the link is gone */
    char side = is_building ? (old == 'a' ? 'b' : 'a') : old;
    char other = side == 'a' ? 'b' : 'a';
    const char *group = group_of(side);
    if (is_building && !clear(bus, link, side)) /* what a rebuild has left that did not get to its end */
        return false;
    if (is_building)
        tell_where_history_begins(bus);

    const struct evbus_subscribe_options options = {
        .group = group, .patterns = topics, .n_patterns = 3, .from = EVBUS_FROM_EARLIEST};
    struct evbus_subscription *subscription = NULL;
    struct table table = {0};
    bool is_good = table_open(&table, file_of(link, side, "", path));
    int n = is_good ? evbus_subscribe(&subscription, bus, &options) : 0;
    while (is_good && n >= 0 && !is_told_to_stop) {
        n = take(&table, subscription);
        if (is_building && n >= 0 && n < BATCH && evbus_groups(bus, is_close, &group) == 1) {
            is_good = serve(link, side) && clear(bus, link, other);
            is_building = false; /* and on it goes, with the same subscription */
        }
    }
    if (n == EVBUS_ENOTFOUND)
        is_good = fail(path, "its group is gone: another table has taken its place");
    else if (n < 0)
        is_good = fail(path, evbus_message(bus));
    evbus_unsubscribe(subscription);
    table_close(&table);
    return is_good;
}

int main(int argc, char **argv)
{
    bool is_building = argc == 3 && strcmp(argv[1], "--rebuild") == 0;
    if ((argc != 2 && !is_building) || argv[argc - 1][0] == '-' || strlen(argv[argc - 1]) > PATH_MAX - 16) {
        fprintf(stderr, "usage: projection [--rebuild] TABLE\n");
        return 2;
    }
    (void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    (void)sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    struct evbus *bus;
    if (evbus_open(&bus, &(struct evbus_options){.service = "revenue", .log = tell}) != EVBUS_OK) {
        (void)fail("bus", evbus_message(NULL));
        return 1;
    }
    bool is_good = project(bus, argv[argc - 1], is_building);
    evbus_close(bus);
    return is_good ? 0 : 1;
}
