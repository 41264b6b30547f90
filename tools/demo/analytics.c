/* analytics.c: analytics-service counts the events of each topic. All of the ADR's topics but its own come here. Of orders it takes
 * version 2.0, which is published beside 1.0, and adds up their pence; of all else there is only 1.0.
 *
 * To count is no exception to the rule: an event that is delivered twice must count once, so its row and the sum are
 * one transaction (ledger_once()). */
#include "ledger.h"
#include "service.h"

#include <stdlib.h>

static struct ledger ledger;
static sqlite3_stmt *add, *earn;

static bool open_analytics(struct service *service)
{
    if (!ledger_open(&ledger, service, "analytics.db",
                     "CREATE TABLE IF NOT EXISTS counted (topic TEXT PRIMARY KEY, events INTEGER NOT NULL);"
                     "CREATE TABLE IF NOT EXISTS turnover (version INTEGER PRIMARY KEY, orders INTEGER NOT NULL,"
                     "  pence INTEGER NOT NULL)"))
        return false;
    add = ledger_prepare(&ledger, "INSERT INTO counted (topic, events) VALUES (?1, 1)"
                                  "  ON CONFLICT (topic) DO UPDATE SET events = events + 1");
    earn = ledger_prepare(&ledger, "INSERT INTO turnover (version, orders, pence) VALUES (?1, 1, ?2)"
                                   "  ON CONFLICT (version) DO UPDATE SET orders = orders + 1, pence = pence + ?2");
    return add != NULL && earn != NULL;
}

/* What an order is worth. Of version 1.0: nothing that we can read. */
static bool add_turnover(const struct evbus_delivery *event)
{
    char pence[256] = "0";
    size_t len;
    if (topic_of(event->topic) != ORDERS)
        return true;
    (void)evbus_key_of_member(event->payload, event->payload_len, "totalPence", pence, &len);
    return sqlite3_bind_int(earn, 1, event->version_major) == SQLITE_OK &&
           sqlite3_bind_int64(earn, 2, strtoll(pence, NULL, 10)) == SQLITE_OK && ledger_change(&ledger, earn);
}

static enum evbus_outcome count_one(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    bool is_good = sqlite3_bind_text(add, 1, event->topic, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
                   ledger_change(&ledger, add) && add_turnover(event);
    return is_good ? EVBUS_DONE : evbus_once_sqlite_failed(ledger.db, error);
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    return ledger_once(&ledger, event, count_one, error);
}

static void close_analytics(void)
{
    ledger_close(&ledger);
}

static const char *const versions[] = {"2", "1"};

const struct service_kind analytics_service = {
    .name = "analytics-service",
    .accepts = versions,
    .n_accepts = sizeof versions / sizeof versions[0],
    .group = ANALYTICS,
    .open = open_analytics,
    .handle = handle,
    .close = close_analytics,
};
