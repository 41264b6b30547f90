/* host.c: a host in a test. See host.h.
 *
 * An event says who published it, and its number: {"from":1,"seq":12,"pad":"..."}. Its key is its number modulo HOST_KEYS, and the key says the topic,
 * so order per topic and key is order per key. */
#include "host.h"

#include "folder.h"

#include <evbus/admin.h>

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define S UINT64_C(1000000000)

const char *const host_topics[HOST_TOPICS] = {"test.a.one", "test.a.two", "test.b.one"};

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":2,\"ring\":\"1MiB\",\"journal\":true},"
                                "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{}}}";

static struct host hosts[HOST_COUNT]; /* by number */
static unsigned n_hosts;
static uint32_t n_published[HOST_COUNT];
static uint8_t ids[HOST_COUNT][HOST_EVENTS][16];
static struct folder folder;
static pid_t made_by;

/* --- its end ----------------------------------------------------------------------------------------------------------------- */

static void remove_all(void)
{
    if (getpid() != made_by)
        return;
    for (unsigned i = 1; i <= n_hosts; i++)
        for (unsigned b = 0; b < HOST_BRIDGES; b++)
            if (hosts[i].runs[b])
                child_kill(&hosts[i].bridges[b]);
    for (unsigned i = 1; i <= n_hosts; i++) {
        evbus_reader_close(hosts[i].reader);
        evbus_close(hosts[i].bus); /* who removes a bus waits a while for those who have it open */
        evbus_remove(hosts[i].name);
    }
}

static void path_of_log(char out[300], const struct host *host, unsigned bridge)
{
    snprintf(out, 300, "%s/bridge-%u-%u.log", folder.path, host->number, bridge);
}

static void show_logs(void)
{
    for (unsigned i = 1; i <= n_hosts; i++) {
        for (unsigned b = 0; b < HOST_BRIDGES; b++) {
            char path[300], line[2000];
            path_of_log(path, &hosts[i], b);
            FILE *file = fopen(path, "re");
            if (file == NULL)
                continue;
            fseek(file, 0, SEEK_END);
            long len = ftell(file);
            fseek(file, len > 4000 ? len - 4000 : 0, SEEK_SET);
            while (fgets(line, sizeof line, file) != NULL)
                fprintf(stderr, "bridge %u of host %u: %s", b, i, line);
            fclose(file);
        }
    }
}

void host_fail(const char *format, ...)
{
    char text[1000];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    show_logs();
    cr_assert_fail("%s", text);
    abort(); /* not reached */
}

const char *host_folder(void)
{
    if (made_by != getpid()) {
        folder = folder_make();
        made_by = getpid();
        n_hosts = 0;
        setenv("EVBUS_STATE_DIR", folder.path, 1);
        atexit(remove_all);
    }
    return folder.path;
}

/* --- its bus ----------------------------------------------------------------------------------------------------------------- */

static void open_bus(struct host *host, enum evbus_keeper keeper)
{
    int rc = evbus_open(&host->bus, &(struct evbus_options){.size = sizeof(struct evbus_options),
                                                            .bus = host->name,
                                                            .service = "tester",
                                                            .keeper = keeper});
    if (rc == EVBUS_OK)
        rc = evbus_reader_open(&host->reader, host->bus,
                               &(struct evbus_reader_options){.size = sizeof(struct evbus_reader_options),
                                                              .patterns = host_topics,
                                                              .n_patterns = HOST_TOPICS,
                                                              .from = EVBUS_FROM_EARLIEST});
    if (rc != EVBUS_OK)
        host_fail("%s: %s", host->name, evbus_message(NULL));
    memset(&host->seen, 0, sizeof host->seen);
    snprintf(host->seen.whose, sizeof host->seen.whose, "bus %u", host->number);
}

struct host *host_make(enum evbus_keeper keeper)
{
    host_folder();
    cr_assert_lt(n_hosts + 1, HOST_COUNT);
    struct host *host = &hosts[++n_hosts];
    *host = (struct host){.number = n_hosts};
    n_published[n_hosts] = 0;
    snprintf(host->name, sizeof host->name, "test-%d-host%u", (int)getpid(), n_hosts);
    evbus_remove(host->name);
    cr_assert_eq(evbus_init(&(struct evbus_init_options){
                     .size = sizeof(struct evbus_init_options), .bus = host->name, .catalogue = catalogue}),
                 EVBUS_OK, "%s", evbus_message(NULL));
    open_bus(host, keeper);
    return host;
}

void host_forget_memory(struct host *host)
{
    char prefix[80];
    evbus_reader_close(host->reader);
    evbus_close(host->bus);
    int len = snprintf(prefix, sizeof prefix, "evbus.%s.", host->name);
    DIR *dir = opendir("/dev/shm");
    cr_assert_not_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        char name[300];
        if (strncmp(entry->d_name, prefix, (size_t)len) != 0)
            continue;
        snprintf(name, sizeof name, "/%s", entry->d_name);
        shm_unlink(name);
    }
    closedir(dir);
    open_bus(host, EVBUS_KEEPER_VOLUNTEER);
}

/* --- its bridges ------------------------------------------------------------------------------------------------------------- */

struct bridge_start {
    const struct host *host;
    const char *broker, *settings, *log;
};

static void find_program(char out[PATH_MAX])
{
    const char *given = getenv("BRIDGE");
    ssize_t len = readlink("/proc/self/exe", out, PATH_MAX - 64);
    if (given != NULL) {
        snprintf(out, PATH_MAX, "%s", given);
        return;
    }
    out[len > 0 ? len : 0] = '\0';
    char *name = strrchr(out, '/');
    snprintf(name != NULL ? name : out, 64, "/../bridge/evbus-bridge");
}

static int be_bridge(void *context)
{
    const struct bridge_start *start = context;
    static char program[PATH_MAX], settings[1000];
    const char *words[64] = {program, "--bus", start->host->name, "--redis", start->broker};
    size_t n = 5;
    find_program(program);
    snprintf(settings, sizeof settings, "%s", start->settings != NULL ? start->settings : "");
    for (char *word = strtok(settings, " "); word != NULL && n < 60; word = strtok(NULL, " ")) {
        words[n++] = "--set";
        words[n++] = word;
    }
    int fd = open(start->log, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (fd < 0 || dup2(fd, 2) < 0 || dup2(fd, 1) < 0)
        return 126;
    execv(program, (char *const *)(uintptr_t)words);
    return 127;
}

void host_bridge(struct host *host, unsigned bridge, const char *broker, const char *settings)
{
    char log[300];
    path_of_log(log, host, bridge);
    unlink(log);
    struct bridge_start start = {.host = host, .broker = broker, .settings = settings, .log = log};
    host->bridges[bridge] = child_start(be_bridge, &start);
    host->runs[bridge] = true;
    host->n_starts++;
}

void host_bridge_kill(struct host *host, unsigned bridge)
{
    child_kill(&host->bridges[bridge]);
    host->runs[bridge] = false;
}

int host_bridge_end(struct host *host, unsigned bridge)
{
    kill(host->bridges[bridge].pid, SIGTERM);
    host->runs[bridge] = false;
    return child_join(&host->bridges[bridge]);
}

bool host_bridge_has_said(const struct host *host, unsigned bridge, const char *text)
{
    char path[300], line[2000];
    bool has = false;
    path_of_log(path, host, bridge);
    FILE *file = fopen(path, "re");
    while (file != NULL && !has && fgets(line, sizeof line, file) != NULL)
        has = strstr(line, text) != NULL;
    if (file != NULL)
        fclose(file);
    return has;
}

void host_await_bridge(const struct host *host, unsigned bridge)
{
    host_until(host_bridge_has_said(host, bridge, "the broker is here"));
}

/* --- events ------------------------------------------------------------------------------------------------------------------ */

static const char *topic_of(uint32_t seq)
{
    return host_topics[seq % HOST_KEYS % HOST_TOPICS];
}

static void write_payload(char out[700], unsigned number, uint32_t seq)
{
    snprintf(out, 700, "{\"from\":%u,\"seq\":%u,\"pad\":\"%*s\"}", number, seq, (int)(seq * 37 % 500), "");
}

uint32_t host_published(unsigned number)
{
    return n_published[number];
}

void host_publish(struct host *host, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        char payload[700], key[8];
        uint32_t seq = n_published[host->number];
        struct evbus_receipt receipt = {.size = sizeof receipt};
        cr_assert_lt(seq, HOST_EVENTS);
        write_payload(payload, host->number, seq);
        snprintf(key, sizeof key, "k%u", seq % HOST_KEYS);
        if (evbus_publish(host->bus,
                          &(struct evbus_event){.size = sizeof(struct evbus_event),
                                                .topic = topic_of(seq),
                                                .payload = payload,
                                                .key = key,
                                                .timeout_ns = 20 * S},
                          &receipt) != EVBUS_OK)
            host_fail("host %u cannot publish: %s", host->number, evbus_message(NULL));
        memcpy(ids[host->number][seq], receipt.id, 16);
        n_published[host->number] = seq + 1;
    }
}

/* --- what is seen of them ---------------------------------------------------------------------------------------------------- */

struct sight {
    const char *topic;
    const char *key;
    const uint8_t *id;
    const char *payload;
    size_t payload_len;
    char where[96];
};

static void take(struct host_tally *tally, const struct sight *sight)
{
    unsigned from;
    uint32_t seq;
    char payload[700], key[8];
    if (sscanf(sight->payload, "{\"from\":%u,\"seq\":%u,", &from, &seq) != 2)
        return; /* the test's own */
    if (from == 0 || from > n_hosts || seq >= HOST_EVENTS)
        host_fail("%s: nobody has published %s", tally->whose, sight->payload);
    write_payload(payload, from, seq);
    snprintf(key, sizeof key, "k%u", seq % HOST_KEYS);
    if (strlen(payload) != sight->payload_len || memcmp(payload, sight->payload, sight->payload_len) != 0 ||
        strcmp(key, sight->key) != 0 || strcmp(topic_of(seq), sight->topic) != 0)
        host_fail("%s: event %u of host %u is another one: %s %s %s", tally->whose, seq, from, sight->topic, sight->key,
                  sight->payload);
    if (seq < n_published[from] && memcmp(ids[from][seq], sight->id, 16) != 0)
        host_fail("%s: event %u of host %u has another eventId", tally->whose, seq, from);
    if (tally->has[from][seq])
        host_fail("%s: event %u of host %u is there twice: at %s and %s", tally->whose, seq, from,
                  tally->where[from][seq], sight->where);
    if (tally->n[from] > 0 && tally->last[from][seq % HOST_KEYS] > seq)
        host_fail("%s: event %u of host %u comes behind %u of the same key", tally->whose, seq, from,
                  tally->last[from][seq % HOST_KEYS]);
    tally->has[from][seq] = true;
    memcpy(tally->where[from][seq], sight->where, sizeof sight->where);
    tally->last[from][seq % HOST_KEYS] = seq;
    tally->n[from]++;
}

void host_look(struct host *host)
{
    struct evbus_delivery event;
    int rc;
    for (;;) {
        event = (struct evbus_delivery){.size = sizeof event};
        rc = evbus_reader_next(host->reader, &event, 0);
        if (rc != EVBUS_OK)
            break;
        if (event.lost > 0)
            host_fail("bus %u has lost %llu cells", host->number, (unsigned long long)event.lost);
        unsigned from = 0;
        if (sscanf(event.payload, "{\"from\":%u,", &from) == 1 && (event.origin == NULL) != (from == host->number))
            host_fail("bus %u: an event of host %u %s: %s", host->number, from,
                      event.origin == NULL ? "has no origin" : "came in", (const char *)event.payload);
        struct sight sight = {.topic = event.topic,
                              .key = event.key,
                              .id = event.id,
                              .payload = event.payload,
                              .payload_len = event.payload_len};
        snprintf(sight.where, sizeof sight.where, "%u@%llu", event.partition, (unsigned long long)event.position);
        if (event.origin != NULL)
            snprintf(sight.where, sizeof sight.where, "%u@%llu (there %u@%llu, %.40s)", event.partition,
                     (unsigned long long)event.position, event.origin->partition,
                     (unsigned long long)event.origin->position,
                     event.origin->broker_id != NULL ? event.origin->broker_id : "");
        take(&host->seen, &sight);
    }
    if (rc != EVBUS_ETIMEOUT)
        host_fail("bus %u cannot be read: %s", host->number, evbus_message(NULL));
}

void host_await(struct host *host, unsigned number)
{
    uint64_t until_ms = await_now_ms() + HOST_MS;
    while (host_look(host), host->seen.n[number] < n_published[number]) {
        if (await_now_ms() >= until_ms) {
            uint32_t first = 0;
            while (first < n_published[number] && host->seen.has[number][first])
                first++;
            host_fail("bus %u has %u of the %u events of host %u: not %u, of key %u, topic %s", host->number,
                      host->seen.n[number], n_published[number], number, first, first % HOST_KEYS, topic_of(first));
        }
        await_pause();
    }
}

void host_settle(struct host *const *of, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        host_publish(of[i], HOST_KEYS);
    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < n; k++)
            host_await(of[i], of[k]->number);
}

/* --- at the broker ----------------------------------------------------------------------------------------------------------- */

static const redisReply *field_of(const redisReply *fields, const char *name)
{
    for (size_t i = 0; i + 1 < fields->elements; i += 2)
        if (strcmp(fields->element[i]->str, name) == 0)
            return fields->element[i + 1];
    return NULL;
}

static void read_id(uint8_t out[16], const char *text)
{
    size_t n = 0;
    memset(out, 0, 16);
    for (; *text != '\0' && n < 16; text++) {
        unsigned byte;
        if (*text != '-' && sscanf(text, "%2x", &byte) == 1) {
            out[n++] = (uint8_t)byte;
            text++;
        }
    }
}

static const char *text_of(const redisReply *fields, const char *name)
{
    const redisReply *field = field_of(fields, name);
    return field != NULL ? field->str : "";
}

static void take_entry(struct host_tally *tally, const char *topic, const char *entry_id, const redisReply *fields)
{
    const redisReply *key = field_of(fields, "key"), *id = field_of(fields, "eventId"),
                     *payload = field_of(fields, "payload");
    uint8_t bytes[16];
    if (id == NULL || payload == NULL)
        return; /* the test's own */
    read_id(bytes, id->str);
    struct sight sight = {.topic = topic,
                          .key = key != NULL ? key->str : "",
                          .id = bytes,
                          .payload = payload->str,
                          .payload_len = payload->len};
    snprintf(sight.where, sizeof sight.where, "%.40s (%.8s %.4s@%.20s)", entry_id, text_of(fields, "origin"),
             text_of(fields, "partition"), text_of(fields, "position"));
    take(tally, &sight);
}

void host_look_at_redis(struct host_tally *tally, const struct redis_server *server)
{
    memset(tally, 0, sizeof *tally);
    snprintf(tally->whose, sizeof tally->whose, "redis");
    for (unsigned t = 0; t < HOST_TOPICS; t++) {
        redisContext *redis = redisConnectUnix(server->socket);
        redisReply *reply = redis != NULL && redis->err == 0 ? redisCommand(redis, "XRANGE %s - +", host_topics[t])
                                                             : NULL;
        for (size_t i = 0; reply != NULL && reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++)
            take_entry(tally, host_topics[t], reply->element[i]->element[0]->str, reply->element[i]->element[1]);
        freeReplyObject(reply);
        redisFree(redis);
    }
}

void host_expect_redis(const struct redis_server *server, unsigned n)
{
    static struct host_tally tally;
    host_look_at_redis(&tally, server);
    for (unsigned i = 1; i <= n; i++) {
        uint32_t first = 0;
        while (first < n_published[i] && tally.has[i][first])
            first++;
        if (tally.n[i] != n_published[i])
            host_fail("redis has %u of the %u events of host %u: not %u, of key %u, topic %s", tally.n[i],
                      n_published[i], i, first, first % HOST_KEYS, topic_of(first));
    }
}
