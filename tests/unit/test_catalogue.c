/* test_catalogue.c: the shipped catalogue is the ADR's table, and whatever is wrong in another one is said.
 *
 * Catalogues are written here with ' for ". A random test prints its seed; EVBUS_SEED=<number> takes it back. */
#include "allocations.h"
#include "catalogue.h"
#include "nearest.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)
#define KIB     UINT64_C(1024)
#define DAY     (86400 * S)

#define ORDERS            "'lomash.orders.created':{'producers':['shop'],'groups':['mailer']}"
#define TOPICS(topics)    "{'namespace':'lomash','topics':{" topics "}}"
#define TOPIC(body)       TOPICS("'lomash.orders.created':" body)
#define WITH(more)        "{'namespace':'lomash','topics':{" ORDERS "}," more "}"
#define DEFAULTS(members) WITH("'defaults':{" members "}")
#define LETTERS_60        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

static char *quoted(const char *text)
{
    char *copy = strdup(text);
    cr_assert_not_null(copy);
    for (char *at = copy; *at != '\0'; at++)
        *at = *at == '\'' ? '"' : *at;
    return copy;
}

/* From memory of exactly its size, so that a sanitizer sees any read behind it. */
static int parse_exactly(const char *text, size_t len, struct catalogue **out, struct error *err)
{
    char *exact = malloc(len > 0 ? len : 1);
    cr_assert_not_null(exact);
    memcpy(exact, text, len);
    int rc = catalogue_parse(exact, len, out, err);
    free(exact);
    return rc;
}

static int parse(const char *text, struct catalogue **out, struct error *err)
{
    char *copy = quoted(text);
    int rc = parse_exactly(copy, strlen(copy), out, err);
    free(copy);
    return rc;
}

static struct catalogue *parsed(const char *text)
{
    struct catalogue *catalogue = NULL;
    struct error err = {""};
    cr_assert_eq(parse(text, &catalogue, &err), EVBUS_OK, "%s: %s", text, err.text);
    return catalogue;
}

/* ---- the shipped one ---- */

static char *shipped_text(void)
{
    const char *root = getenv("EVBUS_SOURCE");
    char path[4096];
    snprintf(path, sizeof path, "%s/share/catalogue.json", root != NULL ? root : ".");
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s: EVBUS_SOURCE must be the folder of the sources", path);
    char *text = calloc(1, CATALOGUE_BYTES_MAX + 1);
    cr_assert_not_null(text);
    size_t len = fread(text, 1, CATALOGUE_BYTES_MAX, file);
    cr_assert(len > 0 && feof(file), "%s is empty, or too long", path);
    fclose(file);
    return text;
}

static struct catalogue *shipped(void)
{
    struct catalogue *catalogue = NULL;
    struct error err = {""};
    char *text = shipped_text();
    cr_assert_eq(parse_exactly(text, strlen(text), &catalogue, &err), EVBUS_OK, "%s", err.text);
    free(text);
    return catalogue;
}

/* "a, b, c" */
static void joined(const char *const *names, size_t n, char out[256])
{
    out[0] = '\0';
    for (size_t i = 0; i < n; i++)
        snprintf(out + strlen(out), 256 - strlen(out), "%s%s", i > 0 ? ", " : "", names[i]);
}

Test(catalogue, as_shipped_is_the_table_of_the_adr)
{
    static const struct {
        const char *topic, *producer, *consumers;
    } adr[] = {
        {"lomash.orders.created", "order-payment-service",
         "product-service, notification-service, analytics-service, customer-service"},
        {"lomash.payments.succeeded", "order-payment-service",
         "notification-service, analytics-service, customer-service"},
        {"lomash.orders.cancelled", "order-payment-service",
         "product-service, notification-service, analytics-service"},
        {"lomash.refunds.issued", "order-payment-service", "notification-service, analytics-service, customer-service"},
        {"lomash.bookings.created", "appointment-service", "notification-service, analytics-service, customer-service"},
        {"lomash.bookings.cancelled", "appointment-service", "notification-service, analytics-service"},
        {"lomash.reminders.sent", "notification-service", "analytics-service"},
        {"lomash.inventory.updated", "product-service", "analytics-service, notification-service"},
        {"lomash.products.updated", "product-service", "analytics-service"},
        {"lomash.content.blog.published", "content-service", "analytics-service"},
        {"lomash.content.page.published", "content-service", "analytics-service"},
        {"lomash.content.media.uploaded", "content-service", "analytics-service"},
        {"lomash.content.seo.updated", "content-service", "analytics-service"},
        {"lomash.customers.profile.updated", "customer-service", "analytics-service"},
        {"lomash.customers.review.created", "customer-service", "analytics-service, notification-service"},
        {"lomash.analytics.event.tracked", "analytics-service", ""}, /* (internal) */
        {"lomash.analytics.report.generated", "analytics-service", "notification-service"},
    };
    struct catalogue *catalogue = shipped();
    cr_assert_eq(catalogue->n_topics, N(adr));
    for (size_t i = 0; i < N(adr); i++) {
        const struct catalogue_topic *topic = &catalogue->topics[i];
        char producers[256], groups[256];
        joined(topic->producers, topic->n_producers, producers);
        joined(topic->groups, topic->n_groups, groups);
        cr_expect_str_eq(topic->name, adr[i].topic);
        cr_expect_str_eq(producers, adr[i].producer, "%s: %s", adr[i].topic, producers);
        cr_expect_str_eq(groups, adr[i].consumers, "%s: %s", adr[i].topic, groups);
        cr_expect_eq(catalogue_find_topic(catalogue, adr[i].topic), (ptrdiff_t)i);
    }
    catalogue_free(catalogue);
}

Test(catalogue, as_shipped_has_ten_logs_of_four_partitions)
{
    static const char *const names[] = {"lomash.orders",    "lomash.payments",  "lomash.refunds",  "lomash.bookings",
                                        "lomash.reminders", "lomash.inventory", "lomash.products", "lomash.content",
                                        "lomash.customers", "lomash.analytics"};
    static const uint32_t n_topics[] = {2, 1, 1, 2, 1, 1, 1, 4, 2, 2};
    struct catalogue *catalogue = shipped();
    cr_assert_eq(catalogue->n_logs, N(names));
    for (size_t i = 0; i < N(names); i++) {
        const struct catalogue_log *log = &catalogue->logs[i];
        cr_expect_str_eq(log->name, names[i]);
        cr_expect_eq(log->n_topics, n_topics[i], "%s", log->name);
        cr_expect_eq(log->n_partitions, 4, "%s", log->name);
        cr_expect_eq(log->ring_bytes, 1024 * KIB, "%s", log->name);
        cr_expect(log->journal, "%s", log->name);
        cr_expect_eq(log->ack, i < 4 ? EVBUS_ACK_DISK : EVBUS_ACK_MEMORY, "%s", log->name);
        cr_expect_eq(log->visible_synced, i < 4, "%s", log->name);
        cr_expect_eq(log->retention_ns, (i < 3 ? 400 : 7) * DAY, "%s", log->name);
    }
    cr_expect_str_eq(catalogue->name_space, "lomash");
    cr_expect_eq(catalogue->payload_max, 240 * KIB);
    cr_expect_eq(catalogue->n_groups, 4);
    cr_expect(!catalogue->open && catalogue->n_here == 1 && strcmp(catalogue->here[0], "*") == 0);
    catalogue_free(catalogue);
}

/* ---- good ones ---- */

Test(catalogue, has_good_defaults)
{
    struct catalogue *catalogue = parsed(TOPICS(ORDERS));
    const struct catalogue_log *log = &catalogue->logs[0];
    const struct catalogue_group *group = &catalogue->groups[0];
    cr_expect(log->n_partitions == 4 && log->ring_bytes == 1024 * KIB && log->ack == EVBUS_ACK_MEMORY);
    cr_expect(!log->visible_synced && log->journal && log->retention_ns == 7 * DAY && log->retention_bytes == 0);
    cr_expect(group->n_retry == 2 && group->retry_ns[0] == S && group->retry_ns[1] == 10 * S);
    cr_expect_eq(group->handler_timeout_ns, 0);
    cr_expect(!catalogue->open && catalogue->payload_max == 240 * KIB);
    cr_expect(catalogue->n_here == 1 && strcmp(catalogue->here[0], "*") == 0);
    catalogue_free(catalogue);
}

Test(catalogue, shows_what_is_on_disk_where_a_publish_waits_for_it_unless_it_says_otherwise)
{
    struct catalogue *catalogue = parsed(
        "{'namespace':'a','open':true,'defaults':{'ack':'disk'},'topics':{'a.w.t':{},'a.x.t':{},'a.y.t':{},'a.z.t':{}},"
        "'logs':{'a.x':{'visible':'memory'},'a.y':{'ack':'memory'},'a.z':{'ack':'memory','visible':'synced'}}}");
    const struct catalogue_log *logs = catalogue->logs;
    cr_expect(logs[0].ack == EVBUS_ACK_DISK && logs[0].visible_synced && logs[0].journal);
    cr_expect(logs[1].ack == EVBUS_ACK_DISK && !logs[1].visible_synced);
    cr_expect(logs[2].ack == EVBUS_ACK_MEMORY && !logs[2].visible_synced);
    cr_expect(logs[3].ack == EVBUS_ACK_MEMORY && logs[3].visible_synced);
    catalogue_free(catalogue);
}

Test(catalogue, takes_settings_from_defaults_then_from_the_entry)
{
    struct catalogue *catalogue = parsed(
        "{'namespace':'a','here':['two','p'],'open':true,"
        "'defaults':{'partitions':2,'ring':'2Mi','ack':'memory','visible':'memory','journal':true,'retention':'36h',"
        "  'retention_bytes':'1GiB','payload_max':1000,'retry':['1ms'],'handler_timeout':'2m','on_dead':'continue'},"
        "'topics':{'a.x.one':{'producers':['p','q_1'],'groups':['one','two']},'a.y.one':{},'a.x.b.two':{'groups':['one'"
        "]}},"
        "'logs':{'a.y':{'partitions':64,'ring':1073741824,'journal':false,'retention':'400d','retention_bytes':0}},"
        "'groups':{'two':{'retry':[],'handler_timeout':'1500ms','outage':0,'on_dead':'continue','accepts':['1',"
        "'2.0']}}}");
    const struct catalogue_log *x = &catalogue->logs[0], *y = &catalogue->logs[1];
    const struct catalogue_group *one = &catalogue->groups[0], *two = &catalogue->groups[1];
    cr_assert(catalogue->n_logs == 2 && catalogue->n_groups == 2 && catalogue->n_topics == 3);
    cr_expect(catalogue->open && catalogue->n_here == 2 && catalogue->payload_max == 1000);
    cr_expect_str_eq(x->name, "a.x");
    cr_expect(x->n_topics == 2 && x->n_partitions == 2 && x->ring_bytes == 2048 * KIB && x->journal);
    cr_expect(x->retention_ns == 36 * 3600 * S && x->retention_bytes == 1024 * 1024 * KIB);
    cr_expect_str_eq(y->name, "a.y");
    cr_expect(y->n_topics == 1 && y->n_partitions == 64 && y->ring_bytes == 1024 * 1024 * KIB && !y->journal);
    cr_expect(y->retention_ns == 400 * DAY && y->retention_bytes == 0);
    cr_expect_str_eq(one->name, "one");
    cr_expect(one->n_retry == 1 && one->retry_ns[0] == S / 1000 && one->handler_timeout_ns == 120 * S);
    cr_expect_str_eq(two->name, "two");
    cr_expect(one->outage_events == 5 && two->outage_events == 0);
    cr_expect(two->n_retry == 0 && two->handler_timeout_ns == 3 * S / 2);
    char accepts[64];
    cr_expect_str_eq(version_accepts_text(&two->accepts, accepts, sizeof accepts), "1, 2.0");
    cr_expect_eq(one->accepts.n, 0);
    cr_expect(catalogue->topics[0].log == 0 && catalogue->topics[1].log == 1 && catalogue->topics[2].log == 0);
    catalogue_free(catalogue);
}

Test(catalogue, lets_only_producers_publish_unless_it_is_open)
{
    struct catalogue *closed = parsed(TOPICS(ORDERS));
    struct catalogue *open = parsed(WITH("'open':true"));
    cr_expect(catalogue_may_publish(closed, &closed->topics[0], "shop"));
    cr_expect_not(catalogue_may_publish(closed, &closed->topics[0], "mailer"), "a consumer is no producer");
    cr_expect_not(catalogue_may_publish(closed, &closed->topics[0], "sho"));
    cr_expect_not(catalogue_may_publish(closed, &closed->topics[0], ""));
    cr_expect_not(catalogue_may_publish(closed, &closed->topics[0], NULL));
    cr_expect(catalogue_may_publish(open, &open->topics[0], "anybody"));
    cr_expect_not(catalogue_may_publish(open, &open->topics[0], NULL), "open to any service, not to nobody");
    cr_expect_eq(catalogue_find_topic(closed, "lomash.orders.create"), -1);
    catalogue_free(closed);
    catalogue_free(open);
    catalogue_free(NULL);
}

Test(catalogue, fits_payloads_to_the_rings)
{
    static const struct {
        const char *label, *text;
        uint64_t payload_max;
    } rows[] = {
        {"1 MiB of payload in 8 MiB", DEFAULTS("'ring':'8MiB','payload_max':'1MiB'"), 1024 * KIB},
        {"the most for 512 KiB", DEFAULTS("'ring':'512KiB','payload_max':118456"), 118456},
        {"a test's smallest ring", WITH("'tests':true,'defaults':{'ring':'4KiB'}"), 696},
        {"a test's smallest log decides", WITH("'tests':true,'logs':{'lomash.orders':{'ring':'64Ki'}}"), 16056},
        {"a test with large rings", WITH("'tests':true,'defaults':{'ring':'8MiB'}"), 240 * KIB},
        {"a test's own limit", WITH("'tests':true,'defaults':{'ring':'4KiB','payload_max':100}"), 100},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct catalogue *catalogue = parsed(rows[i].text);
        cr_expect_eq(catalogue->payload_max, rows[i].payload_max, "%s: %zu", rows[i].label, catalogue->payload_max);
        catalogue_free(catalogue);
    }
}

/* ---- bad ones ---- */

static const struct {
    const char *label, *text, *message;
} bad[] = {
    /* text */
    {"nothing", "", "line 1, column 1: the end of the text"},
    {"no object", "[]", "top level: must be an object; found a list"},
    {"no JSON", "{'namespace':'lomash',\n 'topics':}", "line 2, column 11: no value where one must begin"},
    {"something behind it", TOPICS(ORDERS) "x", "line 1, column 101: something behind the value"},
    {"a comment", "// mine\n{}", "line 1, column 1: no value where one must begin"},
    {"invalid UTF-8", "{'namespace':'\xff'}", "line 1, column 15: invalid UTF-8 in a string"},
    {"a byte order mark", "\xef\xbb\xbf{}", "line 1, column 1: a byte order mark"},
    {"a NUL in a string", "{'namespace':'a\\u0000b'}", "line 1, column 23: \\u0000 is not allowed"},
    {"a number that is too large", "{'open':1e999}", "real number overflow"},
    {"a NUL in a key", "{'a\\u0000b':1}", "NUL byte in object key"},
    {"half a letter", "{'namespace':'\\ud800'}", "invalid Unicode"},
    {"a scalar", "17", "top level: must be an object; found 17"},
    {"a key twice", "{'open':true,'open':true}", "duplicate object key"},
    {"a topic twice", TOPICS(ORDERS "," ORDERS), "duplicate object key"},
    /* keys */
    {"an unknown key", "{'namespace':'lomash','topcs':{}}", "top level: unknown key 'topcs'; did you mean 'topics'?"},
    {"an unlike key", "{'colour':'red'}", "top level: unknown key 'colour'"},
    {"another case", "{'Namespace':'lomash'}", "did you mean 'namespace'?"},
    {"in defaults", DEFAULTS("'partition':4"), "defaults: unknown key 'partition'; did you mean 'partitions'?"},
    {"swapped letters", DEFAULTS("'rnig':4"), "unknown key 'rnig'; did you mean 'ring'?"},
    {"in a topic", TOPIC("{'producer':['shop']}"),
     "topics.'lomash.orders.created': unknown key 'producer'; did you mean 'producers'?"},
    {"in a log", WITH("'logs':{'lomash.orders':{'retry':[]}}"), "logs.'lomash.orders': unknown key 'retry'"},
    {"in a group", WITH("'groups':{'mailer':{'ring':1}}"), "groups.'mailer': unknown key 'ring'"},
    /* top level */
    {"no namespace", "{'topics':{" ORDERS "}}", "namespace: is missing; it is the first segment of every topic"},
    {"namespace: a number", "{'namespace':1}", "namespace: must be a string; found 1"},
    {"namespace: empty", "{'namespace':''}", "namespace: must be one segment, 1 to 63 of a-z 0-9 -"},
    {"namespace: upper case", "{'namespace':'Lomash'}", "namespace: must be one segment"},
    {"namespace: two segments", "{'namespace':'lomash.wood'}", "must be one segment"},
    {"namespace: too long", "{'namespace':'" LETTERS_60 "abcd'}", "namespace: must be one segment"},
    {"open: a word", WITH("'open':'yes'"), "open: must be true or false; found 'yes'"},
    {"tests: null", WITH("'tests':null"), "tests: must be true or false; found null"},
    {"defaults: a list", WITH("'defaults':[]"), "defaults: must be an object; found a list"},
    {"no topics", "{'namespace':'lomash'}", "topics: must be an object with at least one topic"},
    {"no topic in topics", TOPICS(""), "topics: must be an object with at least one topic"},
    {"topics: a list", "{'namespace':'lomash','topics':[]}", "topics: must be an object; found a list"},
    {"here: a word", WITH("'here':'*'"), "here: must be a list of names; found '*'"},
    {"here: a number", WITH("'here':[7]"), "here[0]: must be a name; found 7"},
    {"here: unknown", WITH("'here':['shop','mailr']"),
     "here[1]: no topic names the service 'mailr'; did you mean 'mailer'?"},
    {"here: all and one", WITH("'here':['shop','*']"), "here[1]: '*' means every service, so it must stand alone"},
    {"here: false", WITH("'here':false"), "here: must be a list of names; found false"},
    {"here: twice", WITH("'here':['shop','shop']"), "here[1]: 'shop' stands there twice"},
    {"logs: null", WITH("'logs':null"), "logs: must be an object; found null"},
    {"groups: true", WITH("'groups':true"), "groups: must be an object; found true"},
    /* topics */
    {"2 segments", TOPICS("'lomash.orders':{}"), "topics.'lomash.orders': topic 'lomash.orders' has 2 segments"},
    {"upper case", TOPICS("'lomash.Orders.created':{}"), "segment 2 has"},
    {"another namespace", TOPICS("'lomas.orders.created':{}"), "must begin with the namespace, 'lomash.'"},
    {"a longer namespace", TOPICS("'lomashwood.orders.created':{}"), "must begin with the namespace, 'lomash.'"},
    {"a dead letter's name", TOPICS("'lomash.dlq.mailer':{}"), "the second segment 'dlq' is reserved"},
    {"a replay's name", TOPICS("'lomash.replay.mailer':{}"), "the second segment 'replay' is reserved"},
    {"the bus's name", TOPICS("'lomash.evbus.notes':{}"), "the second segment 'evbus' is reserved"},
    {"a topic that is a list", TOPIC("[]"), "topics.'lomash.orders.created': must be an object; found a list"},
    {"nobody may publish", TOPIC("{'groups':[]}"), "topics.'lomash.orders.created'.producers: nobody may publish here"},
    {"producers: a word", TOPIC("{'producers':'shop'}"), "producers: must be a list of names; found 'shop'"},
    {"producers: a number", TOPIC("{'producers':['shop',17]}"),
     "topics.'lomash.orders.created'.producers[1]: must be a name; found 17"},
    {"producers: an object", TOPIC("{'producers':[{}]}"), "producers[0]: must be a name; found an object"},
    {"producers: twice", TOPIC("{'producers':['a','b','a']}"), "producers[2]: 'a' stands there twice"},
    {"producers: empty", TOPIC("{'producers':['']}"), "producers[0]: '' is no name: 1 to 63 of a-z 0-9 - _"},
    {"producers: a digit first", TOPIC("{'producers':['1shop']}"), "producers[0]: '1shop' is no name"},
    {"producers: a blank", TOPIC("{'producers':['my shop']}"), "producers[0]: 'my shop' is no name"},
    {"producers: a long one, cut between letters",
     TOPIC("{'producers':['a"
           "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
           "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
           "\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"
           "']}"),
     "\xc3\xa9\xc3\xa9' is no name"},
    {"producers: all", TOPIC("{'producers':['*']}"), "producers[0]: '*' is no name"},
    {"producers: 64 letters", TOPIC("{'producers':['" LETTERS_60 "abcd']}"),
     "producers[0]: '" LETTERS_60 "' is no name"},
    {"groups: null", TOPIC("{'producers':['shop'],'groups':null}"), "groups: must be a list of names; found null"},
    {"groups: twice", TOPIC("{'producers':['shop'],'groups':['a','a']}"), "groups[1]: 'a' stands there twice"},
    {"groups: the bridge's", TOPIC("{'producers':['shop'],'groups':['bridge-redis']}"),
     "topics.'lomash.orders.created'.groups[0]: 'bridge-redis' is reserved"},
    {"groups: the bus's", TOPIC("{'producers':['shop'],'groups':['evbus']}"), "groups[0]: 'evbus' is reserved"},
    /* settings of a log */
    {"partitions: 0", DEFAULTS("'partitions':0"), "defaults.partitions: must be a number, 1 to 64; found 0"},
    {"partitions: 65", DEFAULTS("'partitions':65"), "must be a number, 1 to 64; found 65"},
    {"partitions: -1", DEFAULTS("'partitions':-1"), "must be a number, 1 to 64; found -1"},
    {"partitions: 2^32 + 1", DEFAULTS("'partitions':4294967297"), "must be a number, 1 to 64; found 4294967297"},
    {"partitions: 4.0", DEFAULTS("'partitions':4.0"), "must be a number, 1 to 64; found a fraction"},
    {"partitions: '4'", DEFAULTS("'partitions':'4'"), "must be a number, 1 to 64; found '4'"},
    {"ring: too small", DEFAULTS("'ring':'256KiB'"), "defaults.ring: must be 512KiB to 1024MiB; found '256KiB'"},
    {"ring: too large", DEFAULTS("'ring':'2GiB'"), "must be 512KiB to 1024MiB; found '2GiB'"},
    {"ring: negative", DEFAULTS("'ring':-1"), "must be 512KiB to 1024MiB; found -1"},
    {"ring: beyond 64 bits", DEFAULTS("'ring':'18446744073709551617'"), "must be 512KiB to 1024MiB"},
    {"ring: beyond 64 bits by its unit", DEFAULTS("'ring':'17179869185GiB'"), "must be 512KiB to 1024MiB"},
    {"ring: no power of two", DEFAULTS("'ring':'3MiB'"), "must be a power of two, as 2MiB or 4MiB; found '3MiB'"},
    {"ring: another unit", DEFAULTS("'ring':'1MB'"), "must be a size, as in 65536, '240KiB' or '1MiB'; found '1MB'"},
    {"ring: no number", DEFAULTS("'ring':'MiB'"), "must be a size"},
    {"ring: a blank", DEFAULTS("'ring':'1 MiB'"), "must be a size"},
    {"ring: a sign", DEFAULTS("'ring':'+1MiB'"), "must be a size"},
    {"ring: a fraction", DEFAULTS("'ring':'1.5MiB'"), "must be a size"},
    {"ring: tiny in tests", WITH("'tests':true,'defaults':{'ring':'2KiB'}"), "must be 4KiB to 1024MiB; found '2KiB'"},
    {"ring: null", DEFAULTS("'ring':null"), "must be a size, as in 65536, '240KiB' or '1MiB'; found null"},
    {"ack: disk without a journal", WITH("'logs':{'lomash.orders':{'ack':'disk','journal':false}}"),
     "logs.'lomash.orders'.ack: 'disk' needs the log's journal: leave 'journal': false away, or say 'memory'"},
    {"ack: disk in tests, which have no journal", WITH("'tests':true,'defaults':{'ack':'disk'}"),
     "logs.'lomash.orders'.ack: 'disk' needs the log's journal"},
    {"ack: another word", DEFAULTS("'ack':'ram'"), "defaults.ack: must be 'memory', 'disk' or 'broker'; found 'ram'"},
    {"ack: a number", DEFAULTS("'ack':1"), "defaults.ack: must be 'memory', 'disk' or 'broker'; found 1"},
    {"visible: synced without a journal", DEFAULTS("'visible':'synced','journal':false"),
     "logs.'lomash.orders'.visible: 'synced' needs the log's journal"},
    {"visible: another word", DEFAULTS("'visible':'now'"),
     "defaults.visible: must be 'memory' or 'synced'; found 'now'"},
    {"journal: a word", DEFAULTS("'journal':'no'"), "defaults.journal: must be true or false; found 'no'"},
    {"retention: a number", DEFAULTS("'retention':7"), "defaults.retention: must be a duration, as in '10ms'"},
    {"retention: no unit", DEFAULTS("'retention':'7'"), "must be a duration"},
    {"retention: an unknown unit", DEFAULTS("'retention':'7w'"), "must be a duration"},
    {"retention: a fraction", DEFAULTS("'retention':'1.5d'"), "must be a duration"},
    {"retention: none", DEFAULTS("'retention':'0d'"), "must be 1s to 36500d; found '0d'"},
    {"retention: beyond 64 bits", DEFAULTS("'retention':'213504d'"), "must be 1s to 36500d; found '213504d'"},
    {"retention_bytes: a word", DEFAULTS("'retention_bytes':'all'"), "retention_bytes: must be a size"},
    {"a log's own ring", WITH("'logs':{'lomash.orders':{'ring':1000000}}"),
     "logs.'lomash.orders'.ring: must be a power of two, as 512KiB or 1MiB; found 1000000"},
    {"an unknown log", WITH("'logs':{'lomash.order':{}}"),
     "logs.'lomash.order': no topic is in this log; did you mean 'lomash.orders'?"},
    {"a log that is a word", WITH("'logs':{'lomash.orders':'x'}"),
     "logs.'lomash.orders': must be an object; found 'x'"},
    /* settings of a group */
    {"retry: a word", DEFAULTS("'retry':'1s'"), "defaults.retry: must be a list of waits, as in ['1s', '10s']"},
    {"retry: a number", DEFAULTS("'retry':['1s',10]"), "defaults.retry[1]: must be a duration"},
    {"retry: too short", DEFAULTS("'retry':['0s']"), "defaults.retry[0]: must be 1ms to 7d; found '0s'"},
    {"retry: too long", DEFAULTS("'retry':['8d']"), "defaults.retry[0]: must be 1ms to 7d; found '8d'"},
    {"retry: 15 waits",
     DEFAULTS("'retry':['1s','1s','1s','1s','1s','1s','1s','1s','1s','1s','1s','1s','1s','1s','1s']"),
     "defaults.retry: has 15 waits; at most 14 are allowed"},
    {"handler_timeout: none", WITH("'groups':{'mailer':{'handler_timeout':'0s'}}"),
     "groups.'mailer'.handler_timeout: must be 1ms to 7d, or left out for none; found '0s'"},
    {"outage: one", WITH("'groups':{'mailer':{'outage':1}}"),
     "groups.'mailer'.outage: is 1: a lone bad event would pause the group; 2 to 16, or 0 for never"},
    {"outage: too many", WITH("'groups':{'mailer':{'outage':17}}"),
     "groups.'mailer'.outage: must be a number, 0 to 16; found 17"},
    {"outage: no number", WITH("'defaults':{'outage':'5'}"), "defaults.outage: must be a number, 0 to 16; found '5'"},
    {"on_dead: another word", WITH("'groups':{'mailer':{'on_dead':'stop'}}"),
     "groups.'mailer'.on_dead: must be 'continue' or 'park'; found 'stop'"},
    {"accepts: no list", WITH("'groups':{'mailer':{'accepts':'1'}}"),
     "groups.'mailer'.accepts: must be a list of versions, as in ['1', '2.0']; found '1'"},
    {"accepts: a number", WITH("'groups':{'mailer':{'accepts':['1',2.0]}}"),
     "groups.'mailer'.accepts[1]: must be a string, as in '1' for any 1.x or '2.0'; found a fraction"},
    {"accepts: no version", WITH("'groups':{'mailer':{'accepts':['1','2.x']}}"),
     "groups.'mailer'.accepts[1]: version '2.x' is not MAJOR.MINOR"},
    {"accepts: twice", WITH("'groups':{'mailer':{'accepts':['1','1']}}"), "accepts[1]: '1' stands there twice"},
    {"accepts: empty", WITH("'groups':{'mailer':{'accepts':[]}}"),
     "groups.'mailer'.accepts: must name a version; left out, it is the lowest that an event has"},
    {"accepts: too many",
     WITH("'groups':{'mailer':{'accepts':['1','2','3','4','5','6','7','8','9','10','11','12','13','14','15','16',"
          "'17']}}"),
     "groups.'mailer'.accepts: has 17 versions; at most 16 are allowed"},
    {"accepts: of all groups", WITH("'defaults':{'accepts':['1']}"), "defaults: unknown key 'accepts'"},
    {"accepts: mistyped", WITH("'groups':{'mailer':{'accept':['1']}}"),
     "groups.'mailer': unknown key 'accept'; did you mean 'accepts'?"},
    {"an unknown group", WITH("'groups':{'mialer':{}}"),
     "groups.'mialer': no topic names this group; did you mean 'mailer'?"},
    /* payload_max */
    {"payload_max: none", DEFAULTS("'payload_max':0"), "defaults.payload_max: must be 1 bytes to 1MiB; found 0"},
    {"payload_max: too large", DEFAULTS("'payload_max':'2MiB'"), "must be 1 bytes to 1MiB; found '2MiB'"},
    {"payload_max: the default, ring too small", DEFAULTS("'ring':'512KiB'"),
     "defaults.payload_max: 240KiB needs a ring of 1MiB, as a frame takes at most a quarter of its ring; log "
     "'lomash.orders' has 512KiB: enlarge that, or make payload_max 118456 or less"},
    {"payload_max: one log's ring too small",
     WITH("'defaults':{'ring':'8MiB','payload_max':'1MiB'},'logs':{'lomash.orders':{'ring':'4MiB'}}"),
     "1MiB needs a ring of 8MiB, as a frame takes at most a quarter of its ring; log 'lomash.orders' has 4MiB"},
    {"payload_max: given, too large for a test's ring",
     WITH("'tests':true,'defaults':{'ring':'4KiB','payload_max':697}"), "697 bytes needs a ring of 8KiB"},
};

Test(catalogue, says_where_what_and_how_to_mend_it)
{
    for (size_t i = 0; i < N(bad); i++) {
        struct catalogue *none = NULL;
        struct error err = {""};
        int rc = parse(bad[i].text, &none, &err);
        for (char *at = err.text; *at != '\0'; at++)
            *at = *at == '"' ? '\'' : *at;
        cr_expect_eq(rc, EVBUS_ECATALOGUE, "%s: passed, or another code: %d %s", bad[i].label, rc, err.text);
        cr_expect(strstr(err.text, bad[i].message) != NULL, "%s: <%s> must say <%s>", bad[i].label, err.text,
                  bad[i].message);
        cr_expect_null(none, "%s: the result must be untouched on failure", bad[i].label);
    }
}

/* Text of n topics, each in a log of its own or all in one. */
static char *text_of(unsigned n, bool own_logs)
{
    char *text = calloc(1, 2 * CATALOGUE_BYTES_MAX);
    cr_assert_not_null(text);
    size_t len = (size_t)sprintf(text, "{\"namespace\":\"a\",\"open\":true,\"topics\":{");
    for (unsigned i = 0; i < n; i++)
        len += (size_t)sprintf(text + len, "%s\"a.x%u.y%u\":{}", i > 0 ? "," : "", own_logs ? i : 0, i);
    strcpy(text + len, "}}");
    return text;
}

Test(catalogue, knows_its_limits)
{
    static const struct {
        unsigned n;
        bool own_logs;
        const char *message; /* NULL: it is allowed */
    } rows[] = {
        {64, true, NULL},
        {65, true, "topics.\"a.x64.y64\": needs a log \"a.x64\" of its own; a bus has at most 64"},
        {256, false, NULL},
        {257, false, "topics.\"a.x0.y256\": the log \"a.x0\" has more than 256 topics"},
        {5000, false, "at most 65536 are allowed"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct catalogue *catalogue = NULL;
        struct error err = {""};
        char *text = text_of(rows[i].n, rows[i].own_logs);
        int rc = parse_exactly(text, strlen(text), &catalogue, &err);
        cr_expect_eq(rc, rows[i].message == NULL ? EVBUS_OK : EVBUS_ECATALOGUE, "%u topics: %s", rows[i].n, err.text);
        cr_expect(rows[i].message == NULL || strstr(err.text, rows[i].message) != NULL, "%u topics: <%s> must say <%s>",
                  rows[i].n, err.text, rows[i].message);
        catalogue_free(catalogue);
        free(text);
    }
}

Test(catalogue, takes_256_names_in_a_list)
{
    for (unsigned n = 256; n <= 257; n++) {
        char text[8192];
        size_t len = (size_t)sprintf(text, "{\"namespace\":\"a\",\"topics\":{\"a.b.c\":{\"producers\":[");
        for (unsigned i = 0; i < n; i++)
            len += (size_t)sprintf(text + len, "%s\"p%u\"", i > 0 ? "," : "", i);
        strcpy(text + len, "]}}}");
        struct catalogue *catalogue = NULL;
        struct error err = {""};
        int rc = parse_exactly(text, strlen(text), &catalogue, &err);
        cr_expect_eq(rc, n == 256 ? EVBUS_OK : EVBUS_ECATALOGUE, "%u names: %s", n, err.text);
        cr_expect(n == 256 || strstr(err.text, "producers: has 257 names; at most 256") != NULL, "%s", err.text);
        catalogue_free(catalogue);
    }
}

Test(catalogue, refuses_a_raw_nul)
{
    static const char text[] = "{\"open\":1\0}"; /* where jansson would overlook it */
    struct catalogue *none = NULL;
    struct error err = {""};
    cr_expect_eq(parse_exactly(text, sizeof text - 1, &none, &err), EVBUS_ECATALOGUE);
    cr_expect_str_eq(err.text, "line 1, column 10: no comma or } behind a member");
}

Test(catalogue, takes_no_part_of_itself)
{
    char *text = shipped_text();
    size_t len = strlen(text);
    while (text[len - 1] != '}')
        len--;
    for (size_t part = 0; part < len; part++) {
        struct catalogue *none = NULL;
        cr_expect_eq(parse_exactly(text, part, &none, NULL), EVBUS_ECATALOGUE, "the first %zu bytes passed", part);
    }
    free(text);
}

Test(catalogue, survives_any_bytes)
{
    const char *given = getenv("EVBUS_SEED");
    unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "EVBUS_SEED=%u\n", seed);
    srandom(seed);
    char *text = shipped_text();
    size_t len = strlen(text);
    for (int round = 0; round < 2000; round++) {
        char *changed = strdup(text);
        cr_assert_not_null(changed);
        for (long n = 1 + random() % 4; n > 0; n--) {
            static const char likely[] = "{}[]\",:0129.e-*\\u \n\0\xff\xc3";
            size_t at = (size_t)random() % len, from = (size_t)random() % len, n_bytes = (size_t)random() % 20;
            if (random() % 2 == 0)
                changed[at] = likely[(size_t)random() % sizeof likely];
            else if (at + n_bytes <= len && from + n_bytes <= len)
                memcpy(changed + at, text + from, n_bytes);
        }
        struct catalogue *catalogue = NULL;
        struct error err = {""};
        int rc = parse_exactly(changed, len, &catalogue, &err);
        cr_expect(rc == EVBUS_OK ? catalogue != NULL : rc == EVBUS_ECATALOGUE && err.text[0] != '\0', "round %d",
                  round);
        catalogue_free(catalogue);
        free(changed);
    }
    free(text);
}

/* ---- memory ---- */

#if CAN_FAIL_ALLOCATIONS
Test(catalogue, survives_each_failing_allocation)
{
    char *text = shipped_text();
    struct error err = {""};
    struct catalogue *catalogue = NULL;
    long n = 1;
    cr_assert_eq(catalogue_parse(text, strlen(text), &catalogue, &err), EVBUS_OK, "%s", err.text);
    catalogue_free(catalogue);
    for (;; n++) {
        long before = n_unfreed;
        catalogue = NULL;
        err.text[0] = '\0';
        fail_allocation(n);
        int rc = catalogue_parse(text, strlen(text), &catalogue, &err);
        bool struck = fail_allocation(0);
        cr_assert(rc == EVBUS_OK || (rc == EVBUS_ENOSPC && catalogue == NULL && err.text[0] != '\0'),
                  "allocation %ld failed: code %d, %s", n, rc, err.text);
        cr_assert_eq(rc == EVBUS_OK, !struck, "allocation %ld: code %d", n, rc);
        catalogue_free(catalogue);
        cr_assert_eq(n_unfreed, before, "allocation %ld: %ld blocks are left", n, n_unfreed - before);
        if (!struck)
            break;
    }
    cr_assert(n > 500, "only %ld allocations were counted", n);
    free(text);
}
#endif

/* ---- did you mean ---- */

Test(nearest, proposes_what_is_few_letters_away)
{
    static const struct {
        const char *wanted, *proposed;
    } rows[] = {
        {"producer", "producers"},
        {"poducers", "producers"},
        {"prodcuers", "producers"},
        {"groupz", "groups"},
        {"Groups", "groups"},
        {"topcis", "topics"},
        {"lgos", "logs"},
        {"g", NULL},
        {"", NULL},
        {"consumers", NULL},
        {"colour", NULL},
    };
    static const char *const names[] = {"groups", "producers", "topics", "logs"};
    for (size_t i = 0; i < N(rows); i++) {
        struct nearest nearest = {.wanted = rows[i].wanted};
        for (size_t k = 0; k < N(names); k++)
            nearest_try(&nearest, names[k]);
        cr_expect(rows[i].proposed == NULL ? nearest.name == NULL
                                           : nearest.name != NULL && strcmp(nearest.name, rows[i].proposed) == 0,
                  "%s: %s must be proposed, not %s", rows[i].wanted, rows[i].proposed, nearest.name);
    }
}
