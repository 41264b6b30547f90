/* idempotency.c: points for customers, one for each pound that was paid, and each payment counts once.
 *
 *     idempotency points.db       until SIGTERM or SIGINT; a table `points`, and the rows of <evbus/once.h>
 *
 * idempotency.md walks through it; idempotency_postgres.c is the same with PostgreSQL. */
#include <evbus/once.h>

#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP       "loyalty-service"
#define DAY_NS      UINT64_C(86400000000000)
#define KEEP_NS     (450 * DAY_NS) /* payments are kept for 400 days, and no outage of ours is as long as the rest */
#define PRUNE_S     3600           /* from one pruning to the next */
#define WAIT_NS     UINT64_C(100000000)
#define MEMBER_SIZE 256 /* as evbus_key_of_member() has it */

struct service {
    sqlite3 *db;
    sqlite3_stmt *add;
};

static volatile sig_atomic_t is_told_to_stop;

static void stop(int number)
{
    (void)number;
    is_told_to_stop = 1;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "idempotency: %s: %s\n", what, why);
    return 1;
}

static bool member(const struct evbus_delivery *event, const char *name, char out_text[MEMBER_SIZE])
{
    size_t len;
    return evbus_key_of_member(event->payload, event->payload_len, name, out_text, &len) == EVBUS_OK;
}

/* Within the transaction that evbus_once_sqlite() has begun. */
static enum evbus_outcome add_points(void *context, const struct evbus_delivery *event, char *error)
{
    struct service *service = context;
    char customer[MEMBER_SIZE], amount[MEMBER_SIZE];
    if (event->version_major != 1 || !member(event, "customerId", customer) || !member(event, "amount", amount)) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "no payment as we know it");
        return EVBUS_REJECT;
    }
    (void)sqlite3_reset(service->add); /* tells of the last time */
    if (sqlite3_bind_text(service->add, 1, customer, -1, SQLITE_TRANSIENT) != SQLITE_OK ||
        sqlite3_bind_int64(service->add, 2, strtoll(amount, NULL, 10)) != SQLITE_OK ||
        sqlite3_step(service->add) != SQLITE_DONE)
        return evbus_once_sqlite_failed(service->db, error);
    return EVBUS_DONE;
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    struct service *service = context;
    return evbus_once_sqlite(service->db, GROUP, event, add_points, service, error);
}

static bool database_open(struct service *service, const char *path, char *error)
{
    static const char setup[] =
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" /* a commit outlives a power cut */
        "CREATE TABLE IF NOT EXISTS points (customer TEXT PRIMARY KEY, n INTEGER NOT NULL)";
    static const char add[] = "INSERT INTO points (customer, n) VALUES (?1, ?2)"
                              "  ON CONFLICT (customer) DO UPDATE SET n = n + excluded.n";
    if (sqlite3_open(path, &service->db) != SQLITE_OK || sqlite3_busy_timeout(service->db, 10000) != SQLITE_OK ||
        sqlite3_exec(service->db, setup, NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v2(service->db, add, -1, &service->add, NULL) != SQLITE_OK) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "%s", sqlite3_errmsg(service->db));
        return false;
    }
    return evbus_once_sqlite_prepare(service->db, error) == EVBUS_OK;
}

/* Now and then rows that can be of no use any more go. What fails is tried again the next time. */
static void prune(struct service *service)
{
    static time_t due;
    char error[EVBUS_ERROR_MAX];
    if (time(NULL) < due)
        return;
    due = time(NULL) + PRUNE_S;
    if (evbus_once_sqlite_prune(service->db, GROUP, KEEP_NS, NULL, error) != EVBUS_OK)
        (void)fail("pruning", error);
}

static int serve(struct service *service, struct evbus *bus)
{
    static const char *const payments = "lomash.payments.succeeded";
    struct evbus_subscription *subscription;
    int rc = evbus_subscribe(&subscription, bus,
                             &(struct evbus_subscribe_options){.group = GROUP,
                                                               .handler = handle,
                                                               .context = service,
                                                               .patterns = &payments,
                                                               .n_patterns = 1,
                                                               .from = EVBUS_FROM_EARLIEST});
    if (rc != EVBUS_OK)
        return rc;
    while (!is_told_to_stop && (rc == EVBUS_OK || rc == EVBUS_ETIMEOUT)) {
        prune(service);
        rc = evbus_run_once(subscription, WAIT_NS);
    }
    evbus_unsubscribe(subscription);
    return rc == EVBUS_ETIMEOUT ? EVBUS_OK : rc;
}

int main(int argc, char **argv)
{
    struct service service = {0};
    struct evbus *bus;
    char error[EVBUS_ERROR_MAX] = "";
    if (argc != 2) {
        fprintf(stderr, "usage: idempotency DATABASE\n");
        return 2;
    }
    (void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    (void)sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    if (!database_open(&service, argv[1], error))
        return fail(argv[1], error);
    if (evbus_open(&bus, &(struct evbus_options){.service = GROUP}) != EVBUS_OK)
        return fail("bus", evbus_message(NULL));
    int rc = serve(&service, bus);
    if (rc != EVBUS_OK)
        (void)fail("bus", evbus_message(bus));
    evbus_close(bus);
    (void)sqlite3_finalize(service.add); /* tells of the last time */
    (void)sqlite3_close(service.db);     /* no statement is left: cannot fail */
    return rc == EVBUS_OK ? 0 : 1;
}
