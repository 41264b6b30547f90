/* analytics.c: analytics-service counts the events of each topic. All of the ADR's topics but its own come here.
 *
 * To count is no exception to the rule: an event that is delivered twice must count once, so its row and the sum are
 * one transaction (ledger_once()). */
#include "ledger.h"
#include "service.h"

static struct ledger ledger;
static sqlite3_stmt *add;

static bool open_analytics(struct service *service)
{
    if (!ledger_open(&ledger, service, "analytics.db",
                     "CREATE TABLE IF NOT EXISTS counted (topic TEXT PRIMARY KEY, events INTEGER NOT NULL)"))
        return false;
    add = ledger_prepare(&ledger, "INSERT INTO counted (topic, events) VALUES (?1, 1)"
                                  "  ON CONFLICT (topic) DO UPDATE SET events = events + 1");
    return add != NULL;
}

static enum evbus_outcome count_one(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    bool is_good = sqlite3_bind_text(add, 1, event->topic, -1, SQLITE_TRANSIENT) == SQLITE_OK &&
                   ledger_change(&ledger, add);
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

const struct service_kind analytics_service = {
    .name = "analytics-service",
    .group = ANALYTICS,
    .open = open_analytics,
    .handle = handle,
    .close = close_analytics,
};
