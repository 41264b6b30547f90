/* migration.c: a payload goes from version 1 to version 2, and its consumers with it, one by one, while all runs.
 *
 *     migration produce 1|both|2 < orders.ndjson        publish each line as an order, in these versions; print each one's id
 *     migration consume GROUP MEMBER CODE LEDGER        handle the group's orders, a line each in the ledger, until SIGTERM
 *
 * migration.md walks through it. Version 1 has "total": 440.00, which many a language reads as a double; version 2 has
 * "totalPence": 44000 in its place. A consumer of version 1 finds no total in it: so it is a new major version.
 * CODE says which program that is:
 *
 *     old       was written before there was a version 2, and says nothing of versions
 *     v1        the same, and says so
 *     v2        was written for version 2
 *     upcast    the same, and makes version 2 by itself where it is not published */
#include <evbus/evbus.h>

#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TOPIC       "lomash.orders.created"
#define WAIT_NS     UINT64_C(5000000000)
#define MEMBER_SIZE 256 /* as evbus_key_of_member() has it */

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "migration: %s: %s\n", what, why);
    return 1;
}

/* --- the two schemas --------------------------------------------------------------------------------------------------- */

static bool member(const void *payload, size_t len, const char *name, char out_text[MEMBER_SIZE])
{
    size_t text_len;
    return evbus_key_of_member(payload, len, name, out_text, &text_len) == EVBUS_OK;
}

/* "440.00" is 44000: the digits as they stand in the payload, never through a double. */
static bool pence_of(const char *text, int64_t *out_pence)
{
    size_t n_whole = strspn(text, "0123456789");
    if (n_whole < 1 || n_whole > 12 || text[n_whole] != '.' || strspn(text + n_whole + 1, "0123456789") != 2 ||
        text[n_whole + 3] != '\0')
        return false;
    *out_pence = strtoll(text, NULL, 10) * 100 + strtoll(text + n_whole + 1, NULL, 10);
    return true;
}

/* Version 2 of a version 1. A pure function: for a producer that publishes both, and as an upcaster. */
static char *to_v2(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    char total[MEMBER_SIZE];
    int64_t pence;
    (void)context;
    if (!member(from->payload, from->payload_len, "total", total) || !pence_of(total, &pence)) {
        strcpy(error, "it has no total of pounds and pence");
        return NULL;
    }
    json_t *order = json_loadb(from->payload, from->payload_len, 0, NULL);
    char *made = NULL;
    if (json_object_del(order, "total") == 0 && json_object_set_new(order, "totalPence", json_integer(pence)) == 0)
        made = json_dumps(order, JSON_COMPACT);
    json_decref(order);
    *out_len = made != NULL ? strlen(made) : 0;
    return made; /* the library frees it */
}

/* --- the producer ------------------------------------------------------------------------------------------------------ */

static void print_id(FILE *to, const uint8_t id[16])
{
    for (int i = 0; i < 16; i++)
        fprintf(to, "%02x%s", id[i], i == 3 || i == 5 || i == 7 || i == 9 ? "-" : "");
}

static int publish(struct evbus *bus, const char *which, const char *v1)
{
    char order[MEMBER_SIZE], error[EVBUS_ERROR_MAX + 1] = "";
    struct evbus_version first = {.major = 1, .payload = v1, .payload_len = strlen(v1)};
    struct evbus_version second = {.major = 2};
    struct evbus_receipt receipt = {.size = sizeof receipt};
    if (!member(v1, first.payload_len, "orderId", order))
        return fail(v1, "it has no orderId");
    char *v2 = to_v2(NULL, &first, &second.payload_len, error);
    if (v2 == NULL)
        return fail(v1, error);
    second.payload = v2;

    bool is_both = strcmp(which, "both") == 0;
    const struct evbus_version *lowest = strcmp(which, "2") == 0 ? &second : &first;
    struct evbus_event event = {.size = sizeof event,
                                .topic = TOPIC,
                                .key = order,
                                .version_major = lowest->major,
                                .payload = lowest->payload,
                                .payload_len = lowest->payload_len,
                                .more_versions = &second, /* one call, one id: each group gets one of them */
                                .n_more_versions = is_both ? 1 : 0,
                                .timeout_ns = WAIT_NS};
    int rc = evbus_publish(bus, &event, &receipt);
    free(v2);
    if (rc != EVBUS_OK)
        return fail(order, evbus_message(bus));
    print_id(stdout, receipt.id);
    printf(" %s\n", order);
    return 0;
}

static int produce(struct evbus *bus, const char *which)
{
    char *line = NULL;
    size_t cap = 0;
    int exit_code = 0;
    while (exit_code == 0 && getline(&line, &cap, stdin) > 0) {
        line[strcspn(line, "\n")] = '\0';
        exit_code = publish(bus, which, line);
    }
    free(line);
    return exit_code;
}

/* --- a consumer -------------------------------------------------------------------------------------------------------- */

struct consumer {
    const char *name;
    unsigned major; /* that its code was written for */
    int ledger;
};

static struct evbus_subscription *subscription;

static void stop(int number)
{
    (void)number;
    evbus_stop(subscription); /* what is in hand is finished first */
}

/* What the group is for: here a line that says who handled which order, in which version. */
static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    const struct consumer *consumer = context;
    char order[MEMBER_SIZE], amount[MEMBER_SIZE], *line = NULL;
    size_t len = 0;
    int64_t pence;
    if (event->version_major != consumer->major) { /* whoever says what he accepts never gets here */
        snprintf(error, EVBUS_ERROR_MAX + 1, "this code is for version %u", consumer->major);
        return EVBUS_REJECT;
    }
    if (!member(event->payload, event->payload_len, "orderId", order) ||
        !member(event->payload, event->payload_len, consumer->major == 1 ? "total" : "totalPence", amount)) {
        strcpy(error, "it has no orderId or no total");
        return EVBUS_REJECT;
    }
    if (consumer->major == 2)
        pence = strtoll(amount, NULL, 10);
    else if (!pence_of(amount, &pence))
        return EVBUS_REJECT;

    FILE *text = open_memstream(&line, &len);
    if (text == NULL)
        return EVBUS_RELEASE;
    fprintf(text, "%s ", consumer->name);
    print_id(text, event->id);
    fprintf(text, " %u.%u %s %" PRId64 "\n", event->version_major, event->version_minor, order, pence);
    bool is_written = fclose(text) == 0 && write(consumer->ledger, line, len) == (ssize_t)len;
    free(line);
    return is_written ? EVBUS_DONE : EVBUS_RELEASE; /* not the event's fault */
}

static int consume(struct evbus *bus, const char *group, const char *name, const char *code, const char *path)
{
    static const char *const one[] = {"1"}, *const two[] = {"2"};
    static const struct evbus_upcaster from_1 = {.topic = TOPIC, .from_major = 1, .upcast = to_v2};
    struct consumer consumer = {.name = name, .major = 1};
    struct evbus_subscribe_options options = {
        .size = sizeof options, .group = group, .handler = handle, .context = &consumer};
    if (strcmp(code, "v1") == 0) {
        options.accepts = one;
        options.n_accepts = 1;
    } else if (strcmp(code, "v2") == 0 || strcmp(code, "upcast") == 0) {
        consumer.major = 2;
        options.accepts = two;
        options.n_accepts = 1;
    } else if (strcmp(code, "old") != 0) {
        return fail(code, "old, v1, v2 or upcast?");
    }
    if (strcmp(code, "upcast") == 0) {
        options.upcasters = &from_1;
        options.n_upcasters = 1;
    }
    consumer.ledger = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (consumer.ledger < 0)
        return fail(path, "it cannot be written");
    if (evbus_subscribe(&subscription, bus, &options) != EVBUS_OK)
        return fail(group, evbus_message(bus));
    (void)sigaction(SIGTERM, &(struct sigaction){.sa_handler = stop}, NULL);
    int exit_code = evbus_run(subscription, NULL) == EVBUS_OK ? 0 : fail(group, evbus_message(bus));
    (void)signal(SIGTERM, SIG_IGN);
    evbus_unsubscribe(subscription);
    (void)close(consumer.ledger); /* each line was written whole */
    return exit_code;
}

int main(int argc, char **argv)
{
    bool is_producer = argc == 3 && strcmp(argv[1], "produce") == 0 &&
                       (strcmp(argv[2], "1") == 0 || strcmp(argv[2], "both") == 0 || strcmp(argv[2], "2") == 0);
    bool is_consumer = argc == 6 && strcmp(argv[1], "consume") == 0;
    if (!is_producer && !is_consumer) {
        fprintf(stderr, "usage: migration produce 1|both|2\n"
                        "       migration consume GROUP MEMBER old|v1|v2|upcast LEDGER\n");
        return 2;
    }
    struct evbus *bus;
    struct evbus_options options = {.size = sizeof options, .service = is_producer ? "order-payment-service" : argv[2]};
    if (evbus_open(&bus, &options) != EVBUS_OK)
        return fail("bus", evbus_message(NULL));
    int exit_code = is_producer ? produce(bus, argv[2]) : consume(bus, argv[2], argv[3], argv[4], argv[5]);
    evbus_close(bus);
    return exit_code;
}
