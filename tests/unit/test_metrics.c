/* test_metrics.c: a bus for Prometheus: all numbers that there are, as evbus_stat() and evbus_groups() have them, in a text that
 * keeps the format. */
#include "metrics.h"

#include "bus.h"
#include "fixture.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)

static int keep_text(void *context, const char *text, size_t len)
{
    char **copy = context;
    cr_assert_eq(strlen(text), len, "no NUL in between");
    *copy = strdup(text);
    return 0;
}

/* To be freed. */
static char *text_of(struct evbus *bus)
{
    char *text = NULL;
    cr_assert_eq(evbus_metrics(bus, keep_text, &text), EVBUS_OK, "%s", evbus_message(bus));
    return text;
}

/* The value of a sample, written as it stands there, e.g. `evbus_logs{bus="b"}` with %s for the bus. */
static const char *sample(const char *text, const char *bus, const char *format)
{
    static char value[64];
    char wanted[256];
    const char *at = format;
    size_t len = 0;
    for (; *at != '\0' && len < sizeof wanted - 64; at++) {
        if (*at == '%')
            len += (size_t)snprintf(wanted + len, sizeof wanted - len, "bus=\"%s\"", bus);
        else
            wanted[len++] = *at;
    }
    snprintf(wanted + len, sizeof wanted - len, " ");
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, wanted, strlen(wanted)) == 0) {
            snprintf(value, sizeof value, "%.*s", (int)strcspn(line + strlen(wanted), "\n"), line + strlen(wanted));
            return value;
        }
    }
    return "(no such sample)";
}

static uint64_t number(const char *text, const char *bus, const char *format)
{
    char *end;
    const char *value = sample(text, bus, format);
    uint64_t found = strtoull(value, &end, 10);
    cr_assert(end != value, "%s: %s", format, value);
    return found;
}

/* --- the table ------------------------------------------------------------------------------------------------------ */

Test(metrics, names_are_of_prometheus_kind)
{
    for (size_t i = 0; i < metrics_n_rows; i++) {
        const struct metrics_row *row = &metrics_rows[i];
        size_t len = strlen(row->name);
        bool is_total = len > 6 && strcmp(row->name + len - 6, "_total") == 0;
        cr_expect_eq(strncmp(row->name, "evbus_", 6), 0, "%s", row->name);
        cr_expect_eq(strspn(row->name, "abcdefghijklmnopqrstuvwxyz_"), len, "%s", row->name);
        cr_expect_eq(is_total, row->type == METRICS_COUNTER, "%s", row->name);
        cr_expect_null(strpbrk(row->help, "\\\n"), "%s", row->name);
        cr_expect(row->kind != METRICS_NS || strstr(row->name, "_seconds") != NULL, "%s", row->name);
        cr_expect((row->kind != METRICS_CELLS && row->kind != METRICS_TO_TAIL) || strstr(row->name, "_bytes") != NULL,
                  "%s", row->name);
        for (size_t j = 0; j < i; j++)
            cr_expect_str_neq(row->name, metrics_rows[j].name);
    }
}

/* What is no number of its own; the rest of each struct must be in the table. */
static const struct {
    const char *type;
    enum metrics_of of[3];
    const char *const others[16];
} structs[] = {
    {"evbus_stat",
     {METRICS_BUS, METRICS_INFO, METRICS_INFO},
     {"size", "bus", "partitions", "n_partitions", "slots", "keeper_pid",
      "keeper_service", /* keeper_slot says whether there is one; who changes */
      "takeovers" /* its groups' sum */}},
    {"evbus_partition_stat",
     {METRICS_PARTITION, METRICS_LOG, METRICS_JOURNAL},
     {"size", "log", "partition", "has_journal", "is_visible_synced" /* settings */}},
    {"evbus_group_stat",
     {METRICS_GROUP, METRICS_CAUSE, METRICS_GROUP},
     {"size", "group", "is_ad_hoc", "is_ephemeral", "topics", "n_topics", "members", "parts", "n_parts", "accepts",
      "n_accepts", /* a setting */ "paused_error"}},
    {"evbus_group_part_stat",
     {METRICS_GROUP_PART, METRICS_GROUP_PART, METRICS_GROUP_PART},
     {"size", "log", "partition"}},
};

static bool is_told(size_t s, const char *field)
{
    for (size_t i = 0; i < N(structs[s].others) && structs[s].others[i] != NULL; i++)
        if (strcmp(structs[s].others[i], field) == 0)
            return true;
    for (size_t i = 0; i < metrics_n_rows; i++)
        for (int k = 0; k < 3; k++)
            if (metrics_rows[i].of == structs[s].of[k] && strcmp(metrics_rows[i].field, field) == 0)
                return true;
    return false;
}

Test(metrics, every_field_of_a_struct_of_numbers_is_a_row)
{
    const char *source = getenv("EVBUS_SOURCE");
    char path[4096], line[512];
    if (source == NULL)
        cr_skip_test("the header is not found: set EVBUS_SOURCE");
    snprintf(path, sizeof path, "%s/include/evbus/admin.h", source);
    for (size_t s = 0; s < N(structs); s++) {
        char opening[64];
        unsigned n_fields = 0;
        bool is_inside = false, is_comment = false;
        FILE *header = fopen(path, "r");
        cr_assert_not_null(header, "%s", path);
        snprintf(opening, sizeof opening, "struct %s {\n", structs[s].type);
        while (fgets(line, sizeof line, header) != NULL && !(is_inside && line[0] == '}')) {
            if (!is_inside) {
                is_inside = strcmp(line, opening) == 0;
                continue;
            }
            char *comment = strstr(line, "/*"), *end = strchr(line, ';');
            bool goes_on = comment != NULL && strstr(comment, "*/") == NULL;
            if (!is_comment && end != NULL && (comment == NULL || end < comment)) {
                char *name = end;
                *end = '\0';
                if (strchr(line, '[') != NULL)
                    *(name = strchr(line, '[')) = '\0';
                while (name > line && strchr(" *", name[-1]) == NULL)
                    name--;
                cr_expect(is_told(s, name), "struct %s: %s has no row in shm/metrics.c", structs[s].type, name);
                n_fields++;
            }
            is_comment = is_comment ? strstr(line, "*/") == NULL : goes_on;
        }
        fclose(header);
        cr_expect_gt(n_fields, 5u, "struct %s was not found", structs[s].type);
    }
}

/* --- the text ------------------------------------------------------------------------------------------------------- */

Test(metrics, help_and_type_stand_once_before_all_samples_of_a_metric)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 2});
    cr_assert_eq(fixture_publish(f.bus, "k", "1"), EVBUS_OK);
    char *text = text_of(f.bus);
    size_t row = 0;
    char name[128] = "";
    for (char *line = text, *next; *line != '\0'; line = next) {
        next = line + strcspn(line, "\n");
        cr_assert_eq(*next, '\n', "the last line ends, too");
        *next++ = '\0';
        if (strncmp(line, "# HELP ", 7) == 0) {
            cr_assert_lt(row, metrics_n_rows);
            snprintf(name, sizeof name, "%s", metrics_rows[row++].name);
            cr_expect_eq(strncmp(line + 7, name, strlen(name)), 0, "%s", line);
            cr_expect_eq(line[7 + strlen(name)], ' ', "%s", line);
        } else if (strncmp(line, "# TYPE ", 7) == 0) {
            cr_expect_eq(strncmp(line + 7, name, strlen(name)), 0, "%s", line);
        } else {
            cr_expect_eq(strcspn(line, "{"), strlen(name), "%s", line);
            cr_expect_eq(strncmp(line, name, strlen(name)), 0, "%s under %s", line, name);
        }
    }
    cr_expect_eq(row, metrics_n_rows, "also those that have no samples here");
    free(text);
    fixture_end(&f);
}

Test(metrics, a_value_of_a_label_is_escaped)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    cr_assert_eq(fixture_publish(f.bus, NULL, "1"), EVBUS_OK);
    struct bus_thread *thread;
    cr_assert_eq(bus_thread(f.bus, &thread, NULL), EVBUS_OK);
    char *service = f.bus->memory.control->slots[thread->claim.slot].service; /* as no evbus writes it */
    strcpy(service, "a\"b\\c\nd\xff\x01");
    char *text = text_of(f.bus);
    cr_expect_str_eq(sample(text, f.name, "evbus_service_threads{%,service=\"a\\\"b\\\\c\\nd??\"}"), "1");
    free(text);
    fixture_end(&f);
}

static int keep_stat(void *context, const struct evbus_group_stat *group)
{
    *(struct evbus_group_stat *)context = *group;
    return 0;
}

/* Key a's first event waits for long, its second behind it; b's is done; c's is not taken. */
Test(metrics, numbers_are_those_of_stat)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue = "{\"namespace\":\"test\",\"tests\":true,\"open\":true,\"defaults\":{\"partitions\":1,"
                     "\"ring\":\"64KiB\",\"retry\":[\"1h\"]},"
                     "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]}}}"});
    static const char *const keys[] = {"a", "a", "b", "c"};
    struct evbus_subscription *sub;
    struct evbus_delivery event = {.size = sizeof event};
    for (unsigned i = 0; i < N(keys); i++)
        cr_assert_eq(fixture_publish(f.bus, keys[i], "1"), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(evbus_subscribe(&sub, f.bus,
                                 &(struct evbus_subscribe_options){.size = sizeof(struct evbus_subscribe_options),
                                                                   .group = "mailer"}),
                 EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(evbus_receive(sub, &event, 10 * S), EVBUS_OK);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "no connection"), EVBUS_OK);
    cr_assert_eq(evbus_receive(sub, &event, 10 * S), EVBUS_OK);
    cr_assert_str_eq(event.key, "b");
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);

    char *text = text_of(f.bus);
    struct evbus_group_stat group = {0};
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_groups(f.bus, keep_stat, &group), EVBUS_OK);
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(number(text, f.name, "evbus_group_members{%,group=\"mailer\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_lag_events{%,group=\"mailer\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_lag_estimated{%,group=\"mailer\"}"), 0u);
    cr_expect_eq(
        number(text, f.name, "evbus_group_partition_lag_events{%,group=\"mailer\",log=\"test.a\",partition=\"0\"}"),
        1u);
    cr_expect_eq(number(text, f.name, "evbus_group_lag_bytes{%,group=\"mailer\"}"), group.lag * 64);
    cr_expect_eq(number(text, f.name, "evbus_group_held_bytes{%,group=\"mailer\"}"), group.held_bytes);
    cr_expect_eq(number(text, f.name, "evbus_group_pending_events{%,group=\"mailer\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_waiting_events{%,group=\"mailer\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_running_events{%,group=\"mailer\"}"), 0u);
    cr_expect_eq(number(text, f.name, "evbus_group_held_keys{%,group=\"mailer\"}"), 1u, "a");
    cr_expect_eq(number(text, f.name, "evbus_group_blocked_keys{%,group=\"mailer\"}"), 1u, "a again");
    cr_expect_eq(number(text, f.name, "evbus_group_done_events_total{%,group=\"mailer\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_failed_attempts_total{%,group=\"mailer\",cause=\"failed\"}"), 1u);
    cr_expect_eq(number(text, f.name, "evbus_group_failed_attempts_total{%,group=\"mailer\",cause=\"expired\"}"), 0u);
    cr_expect_str_eq(sample(text, f.name, "evbus_group_failed_attempts_total{%,group=\"mailer\",cause=\"\"}"),
                     "(no such sample)", "no cause is none");
    cr_expect_eq(number(text, f.name, "evbus_group_dead_letters_total{%,group=\"mailer\"}"), 0u);
    cr_expect_leq(number(text, f.name, "evbus_group_lag_seconds{%,group=\"mailer\"}"), group.oldest_ns / S);
    cr_expect_eq(number(text, f.name, "evbus_partition_capacity_bytes{%,log=\"test.a\",partition=\"0\"}"), 65536u);
    cr_expect_eq(number(text, f.name, "evbus_partition_claimed_bytes_total{%,log=\"test.a\",partition=\"0\"}"),
                 stat.partitions[0].tail * 64);
    cr_expect_eq(number(text, f.name, "evbus_partition_pinned_bytes{%,log=\"test.a\",partition=\"0\"}"),
                 (stat.partitions[0].tail - stat.partitions[0].low) * 64);
    cr_expect_eq(number(text, f.name, "evbus_memory_bytes{%}"), stat.bytes);
    cr_expect_eq(number(text, f.name, "evbus_slots{%}"), stat.n_slots);
    cr_expect_eq(number(text, f.name, "evbus_slots_max{%}"), 1023u);
    cr_expect_eq(number(text, f.name, "evbus_keeper_present{%}"), stat.keeper_slot != 0);
    cr_expect_eq(number(text, f.name, "evbus_created_timestamp_seconds{%}"), stat.created_ns / S);
    cr_expect_str_eq(sample(text, f.name, "evbus_journal_failed{%,log=\"test.a\",partition=\"0\"}"), "(no such sample)",
                     "a bus of tests has no journal");
    char info[160];
    snprintf(info, sizeof info, "evbus_info{bus=\"%s\",version=\"%s\",uuid=\"", f.name, evbus_version());
    cr_expect_not_null(strstr(text, info));
    free(text);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

static int answer_seven(void *context, const char *text, size_t len)
{
    (void)context;
    return text[len] == '\0' && len > 0 ? 7 : 0;
}

Test(metrics, the_writers_answer_is_returned_and_what_is_wrong_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    cr_expect_eq(evbus_metrics(f.bus, answer_seven, NULL), 7);
    cr_expect_eq(evbus_metrics(f.bus, NULL, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "write is NULL");
    cr_expect_eq(evbus_metrics(NULL, answer_seven, NULL), EVBUS_EINVAL);
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(evbus_metrics(f.bus, answer_seven, NULL), EVBUS_ESTALE);
    fixture_end(&f);
}
