/* idempotency_postgres.c: idempotency.c with PostgreSQL: what differs is add_points(), handle() and the connection.
 *
 *     idempotency-postgres postgresql:///shop       as libpq has it; until SIGTERM or SIGINT */
#include <evbus/once.h>

#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define GROUP       "loyalty-service"
#define DAY_NS      UINT64_C(86400000000000)
#define KEEP_NS     (450 * DAY_NS)
#define PRUNE_S     3600
#define WAIT_NS     UINT64_C(100000000)
#define MEMBER_SIZE 256

static volatile sig_atomic_t is_told_to_stop;

static void stop(int number)
{
    (void)number;
    is_told_to_stop = 1;
}

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "idempotency-postgres: %s: %s\n", what, why);
    return 1;
}

static bool member(const struct evbus_delivery *event, const char *name, char out_text[MEMBER_SIZE])
{
    size_t len;
    return evbus_key_of_member(event->payload, event->payload_len, name, out_text, &len) == EVBUS_OK;
}

/* Within the transaction that evbus_once_postgres() has begun. */
static enum evbus_outcome add_points(void *context, const struct evbus_delivery *event, char *error)
{
    PGconn *db = context;
    char customer[MEMBER_SIZE], amount[MEMBER_SIZE];
    if (event->version_major != 1 || !member(event, "customerId", customer) || !member(event, "amount", amount)) {
        (void)snprintf(error, EVBUS_ERROR_MAX, "no payment as we know it");
        return EVBUS_REJECT;
    }
    const char *values[] = {customer, amount};
    PGresult *result = PQexecParams(db,
                                    "INSERT INTO points (customer, n) VALUES ($1, floor($2::numeric))"
                                    "  ON CONFLICT (customer) DO UPDATE SET n = points.n + excluded.n",
                                    2, NULL, values, NULL, NULL, 0);
    enum evbus_outcome outcome = PQresultStatus(result) == PGRES_COMMAND_OK
                                     ? EVBUS_DONE
                                     : evbus_once_postgres_failed(db, result, error);
    PQclear(result);
    return outcome;
}

/* A connection that was lost is the service's to get back. While that fails, the event is released. */
static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    PGconn *db = context;
    if (PQstatus(db) != CONNECTION_OK)
        PQreset(db);
    return evbus_once_postgres(db, GROUP, event, add_points, db, error);
}

static bool database_prepare(PGconn *db, char *error)
{
    PGresult *result = PQexec(db, "SET client_min_messages = warning; CREATE TABLE IF NOT EXISTS points"
                                  " (customer text PRIMARY KEY, n bigint NOT NULL)");
    bool is_good = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    if (!is_good)
        (void)snprintf(error, EVBUS_ERROR_MAX, "%s", PQerrorMessage(db));
    return is_good && evbus_once_postgres_prepare(db, error) == EVBUS_OK;
}

static void prune(PGconn *db)
{
    static time_t due;
    char error[EVBUS_ERROR_MAX];
    if (time(NULL) < due)
        return;
    due = time(NULL) + PRUNE_S;
    if (evbus_once_postgres_prune(db, GROUP, KEEP_NS, NULL, error) != EVBUS_OK)
        (void)fail("pruning", error);
}

static int serve(PGconn *db, struct evbus *bus)
{
    static const char *const payments = "lomash.payments.succeeded";
    struct evbus_subscription *subscription;
    int rc = evbus_subscribe(&subscription, bus,
                             &(struct evbus_subscribe_options){.group = GROUP,
                                                               .handler = handle,
                                                               .context = db,
                                                               .patterns = &payments,
                                                               .n_patterns = 1,
                                                               .from = EVBUS_FROM_EARLIEST});
    if (rc != EVBUS_OK)
        return rc;
    while (!is_told_to_stop && (rc == EVBUS_OK || rc == EVBUS_ETIMEOUT)) {
        prune(db);
        rc = evbus_run_once(subscription, WAIT_NS);
    }
    evbus_unsubscribe(subscription);
    return rc == EVBUS_ETIMEOUT ? EVBUS_OK : rc;
}

int main(int argc, char **argv)
{
    struct evbus *bus;
    char error[EVBUS_ERROR_MAX] = "";
    if (argc != 2) {
        fprintf(stderr, "usage: idempotency-postgres CONNECTION\n");
        return 2;
    }
    (void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    (void)sigaction(SIGINT, &(struct sigaction){.sa_handler = stop}, NULL);
    PGconn *db = PQconnectdb(argv[1]);
    if (PQstatus(db) != CONNECTION_OK || !database_prepare(db, error))
        return fail("database", error[0] != '\0' ? error : PQerrorMessage(db));
    if (evbus_open(&bus, &(struct evbus_options){.service = GROUP}) != EVBUS_OK)
        return fail("bus", evbus_message(NULL));
    int rc = serve(db, bus);
    if (rc != EVBUS_OK)
        (void)fail("bus", evbus_message(bus));
    evbus_close(bus);
    PQfinish(db);
    return rc == EVBUS_OK ? 0 : 1;
}
