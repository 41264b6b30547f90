/* check.c: is everything as the orders say? Against the services' own databases and files, not against what they told
 * us.
 *
 *     expected     from the data alone: products, orders, the customers with bookings
 *     found        product.db, customer.db, analytics.db, the mails, sitemap.xml, the dead letters
 *
 * One lost event, or one that had its effect twice, makes one of the lines WRONG: stock, points and mails are sums and
 * sets of all of them. */
#include "check.h"

#include "conductor.h"
#include "ledger.h"
#include "mail.h"
#include "orders.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned check_say(bool holds, const char *format, ...)
{
    va_list values;
    (void)printf("%-6s", holds ? "ok" : "WRONG");
    va_start(values, format);
    (void)vprintf(format, values);
    va_end(values);
    (void)putchar('\n');
    return holds ? 0 : 1;
}

/* Runs a query, hands each row to each(). false: it failed, or each() said so. */
static bool query(const struct demo *demo, const char *database, const char *sql,
                  bool (*each)(void *context, sqlite3_stmt *row), void *context)
{
    char path[PATH_BYTES];
    sqlite3 *db = NULL;
    sqlite3_stmt *statement = NULL;
    int rc = SQLITE_CANTOPEN;
    bool is_good = true;
    if (path_in(path, demo->dir, database))
        rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(statement);
        if (rc == SQLITE_ROW)
            is_good = each(context, statement) && is_good;
    }
    if (rc != SQLITE_DONE)
        complain("%s: %s", database, db != NULL ? sqlite3_errmsg(db) : "cannot be opened");
    (void)sqlite3_finalize(statement);
    (void)sqlite3_close(db);
    return rc == SQLITE_DONE && is_good;
}

/* --- stock ------------------------------------------------------------------------------------------------------- */

struct stock {
    uint64_t left[PRODUCTS_MAX];
    size_t n_right;
};

static bool see_stock(void *context, sqlite3_stmt *row)
{
    struct stock *stock = context;
    sqlite3_int64 product = sqlite3_column_int64(row, 0);
    bool is_right = product > 0 && product < PRODUCTS_MAX &&
                    stock->left[product] == (uint64_t)sqlite3_column_int64(row, 1);
    stock->n_right += is_right;
    if (!is_right)
        complain("product %lld: %lld are left", (long long)product, (long long)sqlite3_column_int64(row, 1));
    return is_right;
}

unsigned check_stock(struct demo *demo, const struct orders *orders)
{
    struct stock stock = {.n_right = 0};
    size_t n = 0;
    uint64_t units = 0;
    bool holds = products_read(demo->data, stock.left) &&
                 query(demo, "product.db", "SELECT product, units FROM stock", see_stock, &stock);
    for (size_t i = 0; i < PRODUCTS_MAX; i++)
        n += stock.left[i] != UINT64_MAX;
    for (size_t i = 0; i < orders->n; i++)
        for (size_t k = 0; k < orders->all[i].n_lines; k++)
            units += orders->all[i].lines[k].quantity;
    return check_say(holds && stock.n_right == n,
                     "stock: %zu of %zu products end at what must be left of them; %" PRIu64 " units were ordered",
                     stock.n_right, n, units);
}

/* --- accounts ---------------------------------------------------------------------------------------------------- */

struct account {
    const char *customer;
    uint64_t orders, bookings, points;
};

struct accounts {
    struct account all[128];
    size_t n;
    size_t n_right;
    uint64_t points;
};

static struct account *account_of(struct accounts *accounts, const char *customer)
{
    for (size_t i = 0; i < accounts->n; i++)
        if (strcmp(accounts->all[i].customer, customer) == 0)
            return &accounts->all[i];
    return NULL;
}

static bool see_account(void *context, sqlite3_stmt *row)
{
    struct accounts *accounts = context;
    const char *customer = (const char *)sqlite3_column_text(row, 0);
    const struct account *expected = account_of(accounts, customer);
    bool is_right = expected != NULL && expected->orders == (uint64_t)sqlite3_column_int64(row, 1) &&
                    expected->bookings == (uint64_t)sqlite3_column_int64(row, 2) &&
                    expected->points == (uint64_t)sqlite3_column_int64(row, 3);
    accounts->n_right += is_right;
    if (!is_right)
        complain("customer %s: orders %lld, bookings %lld, points %lld", customer,
                 (long long)sqlite3_column_int64(row, 1), (long long)sqlite3_column_int64(row, 2),
                 (long long)sqlite3_column_int64(row, 3));
    return is_right;
}

unsigned check_accounts(struct demo *demo, const struct orders *orders)
{
    static struct accounts accounts;
    size_t first[128];
    accounts = (struct accounts){.n = customers_of(orders, first, sizeof first / sizeof first[0])};
    for (size_t i = 0; i < accounts.n; i++)
        accounts.all[i] = (struct account){.customer = orders->all[first[i]].customer,
                                           .bookings = i < demo->act->n_bookings};
    for (size_t i = 0; i < orders->n; i++) {
        struct account *account = account_of(&accounts, orders->all[i].customer);
        if (account == NULL)
            continue; /* more customers than places: n_right tells */
        account->orders++;
        account->points += orders->all[i].cents / 100;
        accounts.points += orders->all[i].cents / 100;
    }
    bool holds = query(demo, "customer.db", "SELECT customer, orders, bookings, points FROM account", see_account,
                       &accounts);
    return check_say(holds && accounts.n_right == accounts.n,
                     "points: %zu of %zu customers have what their payments are worth, %" PRIu64 " in all",
                     accounts.n_right, accounts.n, accounts.points);
}

/* --- analytics --------------------------------------------------------------------------------------------------- */

static bool see_count(void *context, sqlite3_stmt *row)
{
    uint64_t *counts = context;
    enum topic topic = topic_of((const char *)sqlite3_column_text(row, 0));
    if (topic != N_TOPICS)
        counts[topic] = (uint64_t)sqlite3_column_int64(row, 1);
    return topic != N_TOPICS;
}

static unsigned check_counts(struct demo *demo, const struct orders *orders)
{
    uint64_t counts[N_TOPICS] = {0};
    bool holds = query(demo, "analytics.db", "SELECT topic, events FROM counted", see_count, counts);
    return check_say(holds && counts[ORDERS] == orders->n && counts[PAYMENTS] == orders->n &&
                         counts[BOOKINGS] == N_BOOKINGS && counts[POSTS] == N_POSTS,
                     "analytics: counted %" PRIu64 " orders, %" PRIu64 " payments, %" PRIu64 " bookings, %" PRIu64
                     " posts",
                     counts[ORDERS], counts[PAYMENTS], counts[BOOKINGS], counts[POSTS]);
}

static bool see_turnover(void *context, sqlite3_stmt *row)
{
    uint64_t *turnover = context;
    turnover[0] += (uint64_t)sqlite3_column_int64(row, 1);
    turnover[1] += (uint64_t)sqlite3_column_int64(row, 2);
    return sqlite3_column_int(row, 0) == 2;
}

/* Who reads 1.0 is checked by stock and mails. */
static unsigned check_versions(struct demo *demo, const struct orders *orders)
{
    uint64_t turnover[2] = {0, 0};
    uint64_t pence = 0;
    for (size_t i = 0; i < orders->n; i++)
        pence += orders->all[i].cents;
    bool holds = query(demo, "analytics.db", "SELECT version, orders, pence FROM turnover", see_turnover, turnover);
    return check_say(holds && turnover[0] == orders->n && turnover[1] == pence,
                     "versions: %" PRIu64 " orders read as 2.0 by analytics-service, %" PRIu64
                     " pence; the same events as 1.0 by all others",
                     turnover[0], turnover[1]);
}

/* --- the rest ---------------------------------------------------------------------------------------------------- */

static unsigned check_sitemap(struct demo *demo)
{
    char path[PATH_BYTES];
    char text[4096] = "";
    size_t n = 0;
    FILE *file = path_in(path, demo->dir, "sitemap.xml") ? fopen(path, "re") : NULL;
    if (file != NULL) {
        text[fread(text, 1, sizeof text - 1, file)] = '\0';
        (void)fclose(file);
    }
    for (const char *at = text; (at = strstr(at, "<loc>")) != NULL; at++)
        n++;
    return check_say(n == N_POSTS && strstr(text, "/how-we-season-oak<") != NULL &&
                         strstr(text, "/a-kitchen-for-a-narrow-room<") != NULL,
                     "sitemap.xml: lists %zu of %d posts", n, N_POSTS);
}

static unsigned check_letters(struct demo *demo)
{
    const struct letter *letter = &demo->letters[0];
    return check_say(demo->n_letters == 1 && demo->groups[NOTIFICATION].dead_letters == 1 &&
                         letter->group == NOTIFICATION && letter->topic == ORDERS && letter->n_attempts == 3 &&
                         strcmp(letter->order, MAIL_BOUNCES) == 0 && letter->state == EVBUS_LETTER_REPLAYED &&
                         letter->n_replays == 1 && strcmp(letter->settled_by, "demo") == 0,
                     "dead letters: %zu, order %s after %zu attempts: %s; replayed once by %s, and delivered",
                     demo->n_letters, letter->order, letter->n_attempts, letter->error, letter->settled_by);
}

static unsigned check_faults(struct demo *demo)
{
    /* the booking's second attempt, and two more of the mail that fails for good: nothing else */
    uint64_t bookings = value(&demo->board->flows[NOTIFICATION][BOOKINGS].redelivered);
    unsigned n = check_say(
        bookings == 1 && demo->groups[NOTIFICATION].redelivered == 3,
        "killed: the booking that was in the handler was charged one attempt more, and no other event was");
    return n + check_say(demo->stopped_handled == 0 && demo->beside_handled > 0 && demo->stopped_published > 0 &&
                             demo->stopped_others > 0,
                         "stopped: while a member of product-service stood still, all others went on");
}

static unsigned check_restart(struct demo *demo)
{
    uint64_t n_noted = 0;
    uint64_t n_there = 0;
    uint64_t n_more = 0;
    bool is_known = true;
    for (int topic = 0; topic < N_TOPICS; topic++) {
        uint64_t noted = demo->restart.noted[topic];
        uint64_t found = demo->restart.found[topic];
        n_noted += noted;
        n_there += found < noted ? found : noted;
        n_more += found < noted ? 0 : found - noted;
    }
    for (int group = PRODUCT; group <= ANALYTICS; group++) /* the order that was out and not noted, at least */
        is_known = is_known && value(&demo->board->flows[group][ORDERS].again) > 0;
    return check_say(demo->restart.is_memory_gone && n_there == n_noted && n_more > 0 && is_known,
                     "restart: the journal had %" PRIu64 " of %" PRIu64 " events that were noted as sent, and %" PRIu64
                     " more; what came twice was known",
                     n_there, n_noted, n_more);
}

unsigned check_all(struct demo *demo)
{
    struct orders orders;
    if (!orders_read(demo->data, &orders))
        return 1;
    unsigned n = check_stock(demo, &orders) + check_accounts(demo, &orders) + check_mails(demo, &orders) +
                 check_counts(demo, &orders) + check_versions(demo, &orders) + check_sitemap(demo) +
                 check_letters(demo) + check_faults(demo) + check_restart(demo);
    orders_free(&orders);
    return n;
}
