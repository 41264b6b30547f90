/* test_metrics.c: the bridge's numbers, each in its unit under its name, and the bus's behind them. */
#include "metrics.h"

#include "fixture.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int keep_text(void *context, const char *text, size_t len)
{
    char **copy = context;
    *copy = strndup(text, len);
    return 7;
}

/* To be freed. */
static char *text_of(const struct metrics *metrics, struct evbus *bus)
{
    char *text = NULL;
    cr_assert_eq(metrics_write(metrics, "shop", "redis", "redis", bus, keep_text, &text), 7,
                 "what write() says is returned");
    return text;
}

static void has(const char *text, const char *line)
{
    char wanted[300];
    snprintf(wanted, sizeof wanted, "\n%s\n", line);
    cr_expect_not_null(strstr(text, wanted), "no line %s in\n%s", line, text);
}

Test(bridge_metrics, shows_each_field_once_in_the_unit_of_its_name)
{
    struct metrics metrics = {0};
    size_t bytes = 0;
    for (size_t i = 0; i < metrics_n; i++) {
        const struct metrics_row *row = &metrics_table[i];
        size_t len = strlen(row->name);
        bool is_total = len > 6 && strcmp(row->name + len - 6, "_total") == 0;
        cr_expect_eq(is_total, row->kind == METRICS_COUNTER, "%s", row->name);
        cr_expect_eq(strstr(row->name, "_seconds") != NULL, row->unit == METRICS_NS, "%s", row->name);
        cr_expect_eq(strstr(row->name, "_bytes") != NULL, row->unit == METRICS_BYTES || row->unit == METRICS_CELLS,
                     "%s", row->name);
        bytes += row->kind == METRICS_HISTOGRAM ? sizeof(struct metrics_times) : sizeof(uint64_t);
        for (size_t j = 0; j < i; j++)
            cr_expect(metrics_table[j].offset != row->offset && strcmp(metrics_table[j].name, row->name) != 0,
                      "%s twice", row->name);
        uint64_t value = 1000 + i;
        if (row->kind != METRICS_HISTOGRAM)
            memcpy((char *)&metrics + row->offset, &value, sizeof value);
    }
    cr_assert_eq(bytes, sizeof metrics, "a new field is a new row");
    char *text = text_of(&metrics, NULL);
    for (size_t i = 0; i < metrics_n; i++) {
        const struct metrics_row *row = &metrics_table[i];
        char line[300];
        uint64_t value = 1000 + i;
        if (row->kind == METRICS_HISTOGRAM)
            continue;
        if (row->unit == METRICS_NS)
            snprintf(line, sizeof line, "evbus_bridge_%s{bus=\"shop\",mirror=\"redis\"} 0.00000%" PRIu64, row->name,
                     value);
        else
            snprintf(line, sizeof line, "evbus_bridge_%s{bus=\"shop\",mirror=\"redis\"} %" PRIu64, row->name,
                     row->unit == METRICS_FLAG    ? 1
                     : row->unit == METRICS_CELLS ? 64 * value
                                                  : value);
        has(text, line);
    }
    free(text);
}

Test(bridge_metrics, counts_times_into_buckets_that_add_up)
{
    static const uint64_t times_ns[] = {0, 100000, 100001, 3000000, 10000000000, 10000000001, 3600000000000};
    struct metrics metrics = {0};
    for (size_t i = 0; i < sizeof times_ns / sizeof times_ns[0]; i++)
        metrics_time(&metrics.append, times_ns[i]);
    char *text = text_of(&metrics, NULL);
    has(text, "evbus_bridge_append_seconds_bucket{bus=\"shop\",mirror=\"redis\",le=\"0.0001\"} 2");
    has(text, "evbus_bridge_append_seconds_bucket{bus=\"shop\",mirror=\"redis\",le=\"0.00025\"} 3");
    has(text, "evbus_bridge_append_seconds_bucket{bus=\"shop\",mirror=\"redis\",le=\"0.005\"} 4");
    has(text, "evbus_bridge_append_seconds_bucket{bus=\"shop\",mirror=\"redis\",le=\"10\"} 5");
    has(text, "evbus_bridge_append_seconds_bucket{bus=\"shop\",mirror=\"redis\",le=\"+Inf\"} 7");
    has(text, "evbus_bridge_append_seconds_count{bus=\"shop\",mirror=\"redis\"} 7");
    has(text, "evbus_bridge_append_seconds_sum{bus=\"shop\",mirror=\"redis\"} 3620.003200002");
    has(text, "evbus_bridge_bring_seconds_count{bus=\"shop\",mirror=\"redis\"} 0");
    free(text);
}

Test(bridge_metrics, has_the_bus_s_own_numbers_behind_the_bridge_s)
{
    struct metrics metrics = {0};
    struct fixture fixture = fixture_make((struct fixture_options){0});
    char *text = text_of(&metrics, fixture.bus);
    const char *bridge = strstr(text, "\nevbus_bridge_info{bus=\"shop\",mirror=\"redis\",backend=\"redis\",version=\""),
               *bus = strstr(text, "\nevbus_memory_bytes{");
    cr_assert(bridge != NULL && bus != NULL && bridge < bus, "%s", text);
    free(text);
    fixture_end(&fixture);
}
