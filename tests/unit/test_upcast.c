/* test_upcast.c: which version of an event a group's member gets, and what its upcasters make of one. */
#include "await.h"
#include "bus.h"
#include "clock.h"
#include "fixture.h"
#include "group.h"
#include "upcast.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define MS      UINT64_C(1000000)
#define S       UINT64_C(1000000000)
#define SOON    (10 * S)

/* --- upcasters of the tests ---------------------------------------------------------------------------------------------- */

/* {"v":1} becomes {"v":1,"up":"1>2"}, and so on: what was done to it can be read off it. */
static char *mark(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    char *made = malloc(from->payload_len + 64);
    (void)error;
    if (context != NULL)
        __atomic_add_fetch((unsigned *)context, 1, __ATOMIC_RELAXED);
    cr_assert_not_null(made);
    cr_assert_eq(((const char *)from->payload)[from->payload_len], '\0');
    *out_len = (size_t)sprintf(made, "%.*s,\"up\":\"%u.%u>%u\"}", (int)from->payload_len - 1,
                               (const char *)from->payload, from->major, from->minor, from->major + 1);
    return made;
}

static char *unended(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    (void)context, (void)from, (void)error;
    char *made = malloc(4);
    memcpy(made, "1234", 4); /* no NUL: its length says where it ends */
    *out_len = 4;
    return made;
}

static char *fixed(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    (void)from, (void)out_len, (void)error;
    return strdup(context);
}

static char *refuses(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    (void)from, (void)out_len;
    if (context != NULL)
        strcpy(error, context);
    return NULL;
}

static char *fills_the_error(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    (void)context, (void)from, (void)out_len;
    memset(error, 'x', EVBUS_ERROR_MAX);
    error[EVBUS_ERROR_MAX] = '\0';
    return NULL;
}

/* Not now, as often as *context says; then it works. */
static char *comes_again(void *context, const struct evbus_version *from, size_t *out_len, char *error)
{
    unsigned *n_left = context;
    if (*n_left == 0)
        return mark(NULL, from, out_len, error);
    --*n_left;
    errno = *n_left % 2 == 0 ? ENOMEM : EAGAIN;
    return NULL;
}

/* --- raising ------------------------------------------------------------------------------------------------------------------ */

static struct upcasters *made_of(const struct evbus_upcaster *given, size_t n)
{
    struct upcasters *upcasters = NULL;
    struct error err = {""};
    cr_assert_eq(upcasters_make(given, n, &upcasters, &err), EVBUS_OK, "%s", err.text);
    return upcasters;
}

static int raise_to(const struct upcasters *upcasters, const char *topic, uint16_t to, size_t max, char **out,
                    char why[EVBUS_ERROR_MAX + 1])
{
    struct evbus_version from = {.major = 1, .minor = 4, .payload = "{\"v\":1}", .payload_len = 7};
    size_t len = 0;
    int rc = upcasters_raise(upcasters, topic, &from, to, max, out, &len, why);
    if (rc == EVBUS_OK)
        cr_expect_eq(strlen(*out), len, "a NUL stands behind it: %s", *out);
    return rc;
}

Test(upcast, a_chain_goes_from_major_to_major)
{
    struct upcasters *upcasters = made_of(
        (struct evbus_upcaster[]){{.from_major = 2, .upcast = mark}, {.from_major = 1, .upcast = mark}}, 2);
    char *made = NULL;
    char why[EVBUS_ERROR_MAX + 1] = "";
    cr_assert_eq(raise_to(upcasters, "test.a.one", 3, 1000, &made, why), EVBUS_OK, "%s", why);
    cr_expect_str_eq(made, "{\"v\":1,\"up\":\"1.4>2\",\"up\":\"2.0>3\"}");
    free(made);
    upcasters_free(upcasters);
}

Test(upcast, a_topics_own_comes_before_that_of_every_topic)
{
    static char own[] = "\"own\"", any[] = "\"any\"";
    for (int first = 0; first < 2; first++) {
        struct evbus_upcaster given[2];
        given[first] = (struct evbus_upcaster){"test.a.one", 1, fixed, own};
        given[1 - first] = (struct evbus_upcaster){NULL, 1, fixed, any};
        struct upcasters *upcasters = made_of(given, 2);
        char *made = NULL;
        char why[EVBUS_ERROR_MAX + 1] = "";
        cr_assert_eq(raise_to(upcasters, "test.a.one", 2, 1000, &made, why), EVBUS_OK);
        cr_expect_str_eq(made, own);
        free(made);
        cr_assert_eq(raise_to(upcasters, "test.a.two", 2, 1000, &made, why), EVBUS_OK);
        cr_expect_str_eq(made, any);
        free(made);
        upcasters_free(upcasters);
    }
}

/* A topic's name stands in shared memory, and may be another when its event is raised. */
Test(upcast, a_topic_that_has_none_any_more_is_put_off)
{
    struct upcasters *upcasters = made_of(
        &(struct evbus_upcaster){.topic = "test.a.one", .from_major = 1, .upcast = mark}, 1);
    char *made = NULL;
    char why[EVBUS_ERROR_MAX + 1] = "";
    cr_expect_eq(raise_to(upcasters, "test.a.two", 2, 1000, &made, why), EVBUS_EAGAIN);
    cr_expect_null(made);
    upcasters_free(upcasters);
}

Test(upcast, a_result_that_could_not_be_published_is_refused_and_it_says_why)
{
    static char text[] = "{\"v\":", large[] = "\"123456\"", none[] = "", said[] = "no order without a total";
    static const struct {
        const char *what;
        evbus_upcast *upcast;
        void *context;
        int rc;
        const char *why;
    } rows[] = {
        {"as long as may be", unended, NULL, EVBUS_OK, ""},
        {"no JSON", fixed, text, EVBUS_EINVAL, "upcaster 1 -> 2: its payload is not JSON: "},
        {"empty", fixed, none, EVBUS_EINVAL, "upcaster 1 -> 2: its payload is not JSON: "},
        {"too long", fixed, large, EVBUS_EINVAL,
         "upcaster 1 -> 2: its payload has 8 bytes; the catalogue's payload_max is 7"},
        {"it cannot", refuses, said, EVBUS_EINVAL, "upcaster 1 -> 2: no order without a total"},
        {"and does not say why", refuses, NULL, EVBUS_EINVAL, "upcaster 1 -> 2: it cannot, and does not say why"},
        {"says as much as it may", fills_the_error, NULL, EVBUS_EINVAL, "upcaster 1 -> 2: xxxxx"},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_upcaster given = {NULL, 1, rows[i].upcast, rows[i].context};
        struct upcasters *upcasters = made_of(&given, 1);
        char *made = NULL;
        char why[EVBUS_ERROR_MAX + 1] = "";
        cr_expect_eq(raise_to(upcasters, "test.a.one", 2, 7, &made, why), rows[i].rc, "%s", rows[i].what);
        cr_expect_eq(strncmp(why, rows[i].why, strlen(rows[i].why)), 0, "%s: %s", rows[i].what, why);
        cr_expect_eq(made != NULL, rows[i].rc == EVBUS_OK, "%s: untouched on failure", rows[i].what);
        free(made);
        upcasters_free(upcasters);
    }
}

Test(upcast, what_the_host_cannot_do_now_is_not_the_payloads_fault)
{
    unsigned n_left = 2;
    struct evbus_upcaster given = {NULL, 1, comes_again, &n_left};
    struct upcasters *upcasters = made_of(&given, 1);
    char *made = NULL;
    char why[EVBUS_ERROR_MAX + 1] = "";
    errno = EBADF;
    cr_expect_eq(raise_to(upcasters, "test.a.one", 2, 1000, &made, why), EVBUS_EAGAIN);
    cr_expect_eq(raise_to(upcasters, "test.a.one", 2, 1000, &made, why), EVBUS_EAGAIN);
    cr_expect_eq(errno, EBADF, "it is the caller's");
    cr_expect_null(made);
    cr_expect_eq(raise_to(upcasters, "test.a.one", 2, 1000, &made, why), EVBUS_OK);
    free(made);
    upcasters_free(upcasters);
}

/* --- a member ------------------------------------------------------------------------------------------------------------------ */

static const char *catalogue_of(const char *mailer)
{
    static char text[1024];
    snprintf(text, sizeof text,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
             "\"defaults\":{\"partitions\":2,\"ring\":\"64KiB\",\"payload_max\":1000,\"retry\":[\"1ms\",\"1ms\"]},"
             "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\",\"plain\"]},\"test.a.two\":{}},"
             "\"groups\":{\"mailer\":{%s}}}",
             mailer);
    return text;
}

static struct fixture bus_of(const char *mailer)
{
    return fixture_make((struct fixture_options){.catalogue = catalogue_of(mailer)});
}

#define ACCEPTS(...) .accepts = (const char *const[]){__VA_ARGS__}, .n_accepts = N(((const char *const[]){__VA_ARGS__}))
#define UPCASTERS(...)                                         \
    .upcasters = (const struct evbus_upcaster[]){__VA_ARGS__}, \
    .n_upcasters = N(((const struct evbus_upcaster[]){__VA_ARGS__}))
#define FROM(major)                           \
    {                                         \
        .from_major = (major), .upcast = mark \
    }

static struct evbus_subscription *join_with(struct evbus *bus, struct evbus_subscribe_options options)
{
    struct evbus_subscription *sub = NULL;
    options.size = sizeof options;
    int rc = evbus_subscribe(&sub, bus, &options);
    cr_assert_eq(rc, EVBUS_OK, "evbus_subscribe: %d, %s", rc, evbus_message(bus));
    return sub;
}

#define JOIN(bus, ...)  join_with((bus), (struct evbus_subscribe_options){.group = "mailer", __VA_ARGS__})
#define JOIN_PLAIN(bus) join_with((bus), (struct evbus_subscribe_options){.group = "mailer"})

/* "1.0 2.0": the payload of each says which it is. */
static void publish(struct evbus *bus, const char *key, const char *words)
{
    struct evbus_version versions[EVBUS_VERSIONS_MAX];
    char payloads[EVBUS_VERSIONS_MAX][32];
    size_t n = 0;
    for (unsigned major, minor; sscanf(words, "%u.%u", &major, &minor) == 2; n++) {
        snprintf(payloads[n], sizeof payloads[n], "{\"v\":%u.%u}", major, minor);
        versions[n] = (struct evbus_version){
            .major = (uint16_t)major, .minor = (uint16_t)minor, .payload = payloads[n]};
        words += strcspn(words, " ");
        words += strspn(words, " ");
    }
    struct evbus_event event = {.size = sizeof event,
                                .topic = "test.a.one",
                                .key = key,
                                .payload = versions[0].payload,
                                .version_major = versions[0].major,
                                .version_minor = versions[0].minor,
                                .more_versions = versions + 1,
                                .n_more_versions = n - 1,
                                .timeout_ns = SOON};
    cr_assert_eq(evbus_publish(bus, &event, NULL), EVBUS_OK, "%s", evbus_message(bus));
}

static void done(struct evbus_subscription *sub, const struct evbus_delivery *event)
{
    cr_assert_eq(evbus_finish(sub, event, EVBUS_DONE, NULL), EVBUS_OK, "%s", evbus_message(NULL));
}

/* The next event has this version and this payload. */
static struct evbus_delivery gets(struct evbus_subscription *sub, const char *version, const char *payload)
{
    struct evbus_delivery got = {.size = sizeof got};
    char text[32];
    int rc = evbus_receive(sub, &got, SOON);
    cr_assert_eq(rc, EVBUS_OK, "%s instead of %s", evbus_message(NULL), payload);
    snprintf(text, sizeof text, "%u.%u", got.version_major, got.version_minor);
    cr_expect_str_eq(text, version);
    cr_expect_str_eq(got.payload, payload);
    cr_expect_eq(got.payload_len, strlen(payload));
    return got;
}

static void gets_and_is_done(struct evbus_subscription *sub, const char *version, const char *payload)
{
    struct evbus_delivery got = gets(sub, version, payload);
    done(sub, &got);
}

static void nothing(struct evbus_subscription *sub)
{
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_receive(sub, &got, 0);
    cr_assert_eq(rc, EVBUS_ETIMEOUT, "%d: %s", rc, rc == EVBUS_OK ? (const char *)got.payload : evbus_message(NULL));
}

/* The mailer's dead letters, from the first; each has this in it, in that order. */
static void has_letters(struct evbus *bus, const char *const *fragments, size_t n)
{
    static const char *const letters[] = {"test.dlq.mailer"};
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    struct evbus_reader_options options = {
        .size = sizeof options, .patterns = letters, .n_patterns = 1, .from = EVBUS_FROM_EARLIEST};
    cr_assert_eq(evbus_reader_open(&reader, bus, &options), EVBUS_OK, "%s", evbus_message(bus));
    for (size_t i = 0; i < n; i++) {
        cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK, "%zu letters instead of %zu", i, n);
        cr_expect_not_null(strstr(got.payload, "\"cause\":\"no_version\""), "%s", (const char *)got.payload);
        cr_expect_not_null(strstr(got.payload, fragments[i]), "%s: %s", fragments[i], (const char *)got.payload);
    }
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ETIMEOUT, "more than %zu: %s", n, (const char *)got.payload);
    evbus_reader_close(reader);
}

#define HAS_LETTERS(bus, ...) \
    has_letters((bus), (const char *const[]){__VA_ARGS__}, N(((const char *const[]){__VA_ARGS__})))

Test(upcast, each_group_gets_exactly_one_version_of_an_event, .timeout = 60)
{
    struct fixture f = bus_of("\"accepts\":[\"1\",\"2.0\"]");
    struct evbus_subscription *mailer = JOIN_PLAIN(f.bus);
    struct evbus_subscription *plain = join_with(f.bus, (struct evbus_subscribe_options){.group = "plain"});
    publish(f.bus, "k", "1.0 2.0");
    publish(f.bus, "k", "2.1 1.3 1.2");
    gets_and_is_done(mailer, "2.0", "{\"v\":2.0}");
    struct evbus_delivery got = gets(mailer, "1.3", "{\"v\":1.3}");
    cr_assert_eq(got.n_versions, 3);
    cr_expect(got.versions[0].minor == 2 && got.versions[1].minor == 3 && got.versions[2].major == 2);
    done(mailer, &got);
    nothing(mailer);
    gets_and_is_done(plain, "1.0", "{\"v\":1.0}");
    gets_and_is_done(plain, "1.2", "{\"v\":1.2}");
    nothing(plain);
    evbus_unsubscribe(mailer);
    evbus_unsubscribe(plain);
    fixture_end(&f);
}

Test(upcast, what_no_version_fits_is_a_dead_letter_that_no_handler_had, .timeout = 60)
{
    struct fixture f = bus_of("\"accepts\":[\"1\",\"2.0\"]");
    struct evbus_subscription *sub = JOIN_PLAIN(f.bus);
    publish(f.bus, "k", "1.0");
    publish(f.bus, "k", "3.0 2.1");
    publish(f.bus, "k", "2.0");
    gets_and_is_done(sub, "1.0", "{\"v\":1.0}");
    struct evbus_delivery got = gets(sub, "2.0", "{\"v\":2.0}");
    cr_expect_eq(got.attempt, 1);
    done(sub, &got);
    nothing(sub);
    HAS_LETTERS(f.bus,
                "\"cause\":\"no_version\",\"attempts\":[],\"error\":\"published as 3.0, 2.1; accepted are 1, 2.0\"");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, any_number_of_events_without_a_version_hide_nothing_behind_them, .timeout = 60)
{
    struct fixture f = fixture_make((struct fixture_options){
        .catalogue =
            "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":1,\"ring\":\"1MiB\"},"
            "\"topics\":{\"test.a.one\":{\"groups\":[\"mailer\"]}},"
            "\"groups\":{\"mailer\":{\"accepts\":[\"1\"]}}}"});
    struct evbus_subscription *sub = JOIN_PLAIN(f.bus);
    nothing(sub);
    for (int i = 0; i < 300; i++)
        publish(f.bus, i % 2 == 0 ? "k" : "", "2.0");
    publish(f.bus, "k", "1.0");
    struct evbus_delivery got = {.size = sizeof got};
    cr_assert_eq(evbus_receive(sub, &got, 0), EVBUS_OK, "all that is there is taken without waiting");
    cr_expect_eq(got.version_major, 1);
    done(sub, &got);
    nothing(sub);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, what_a_group_accepts_changes_with_the_catalogue_while_it_runs, .timeout = 60)
{
    struct fixture f = bus_of("");
    struct evbus_subscription *sub = JOIN_PLAIN(f.bus);
    publish(f.bus, "k", "1.0 2.0");
    gets_and_is_done(sub, "1.0", "{\"v\":1.0}");
    const char *text = catalogue_of("\"accepts\":[\"2\"]");
    cr_assert_eq(evbus_catalogue_apply(f.bus, text, 0, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    publish(f.bus, "k", "1.0 2.0");
    gets_and_is_done(sub, "2.0", "{\"v\":2.0}");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, what_waits_to_be_tried_again_is_dead_when_its_version_is_accepted_no_more, .timeout = 60)
{
    struct fixture f = bus_of("\"accepts\":[\"1\"]");
    struct evbus_subscription *sub = JOIN_PLAIN(f.bus);
    publish(f.bus, "k", "1.0");
    publish(f.bus, "k", "2.0");
    struct evbus_delivery got = gets(sub, "1.0", "{\"v\":1.0}");
    const char *text = catalogue_of("\"accepts\":[\"2\"]");
    cr_assert_eq(evbus_catalogue_apply(f.bus, text, 0, NULL), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_RETRY, "later"), EVBUS_OK);
    gets_and_is_done(sub, "2.0", "{\"v\":2.0}");
    HAS_LETTERS(f.bus, "\"cause\":\"failed\",\"error\":\"later\"");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, members_of_a_group_are_switched_one_by_one, .timeout = 60)
{
    struct fixture f = bus_of("\"accepts\":[\"1\"]");
    struct evbus *other = fixture_open(&f, "other", EVBUS_KEEPER_NEVER);
    struct evbus_subscription *old = JOIN_PLAIN(f.bus);
    struct evbus_subscription *new = JOIN(other, ACCEPTS("2.0"));
    unsigned n[3] = {0};
    for (int i = 0; i < 20; i++) {
        char key[8];
        snprintf(key, sizeof key, "%d", i);
        publish(f.bus, key, "1.0 2.0");
    }
    uint64_t until = await_now_ms() + AWAIT_MS;
    while (n[1] + n[2] < 20 && await_now_ms() < until)
        for (int i = 0; i < 2; i++) {
            struct evbus_delivery got = {.size = sizeof got};
            if (evbus_receive(i == 0 ? old : new, &got, MS) != EVBUS_OK)
                continue;
            cr_assert_eq(got.version_major, i + 1);
            n[got.version_major]++;
            done(i == 0 ? old : new, &got);
        }
    cr_expect(n[1] > 0 && n[2] > 0 && n[1] + n[2] == 20, "%u and %u", n[1], n[2]);
    evbus_unsubscribe(new);
    evbus_unsubscribe(old);
    evbus_close(other);
    fixture_end(&f);
}

Test(upcast, a_member_that_says_two_gets_what_its_upcaster_makes_of_one, .timeout = 60)
{
    struct fixture f = bus_of("");
    unsigned n_calls = 0;
    struct evbus_subscription *sub = JOIN(f.bus, ACCEPTS("2"),
                                          UPCASTERS({.from_major = 1, .upcast = mark, .context = &n_calls}));
    publish(f.bus, "k", "1.5 1.0");
    publish(f.bus, "k", "1.0 2.3");
    struct evbus_delivery got = gets(sub, "2.0", "{\"v\":1.5,\"up\":\"1.5>2\"}");
    cr_assert_eq(got.n_versions, 2);
    cr_expect_str_eq(got.versions[1].payload, "{\"v\":1.5}", "as it was published");
    cr_assert_eq(evbus_finish(sub, &got, EVBUS_RETRY, "later"), EVBUS_OK);
    got = gets(sub, "2.0", "{\"v\":1.5,\"up\":\"1.5>2\"}");
    cr_expect_eq(got.attempt, 2);
    cr_expect_eq(n_calls, 2, "at each attempt");
    done(sub, &got);
    gets_and_is_done(sub, "2.3", "{\"v\":2.3}");
    cr_expect_eq(n_calls, 2, "what is published comes before what is made");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, an_upcaster_that_cannot_makes_a_dead_letter_with_its_words, .timeout = 60)
{
    struct fixture f = bus_of("");
    static char said[] = "no total";
    struct evbus_subscription *sub = JOIN(
        f.bus, ACCEPTS("3"),
        UPCASTERS({.from_major = 1, .upcast = mark}, {.from_major = 2, .upcast = refuses, .context = said}));
    publish(f.bus, "k", "1.0");
    publish(f.bus, "k", "3.0");
    struct evbus_delivery got = gets(sub, "3.0", "{\"v\":3.0}");
    done(sub, &got);
    nothing(sub);
    HAS_LETTERS(f.bus, "\"cause\":\"no_version\",\"attempts\":[],\"error\":\"upcaster 2 -> 3: no total\"");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, one_that_cannot_now_brings_the_event_again_and_charges_nothing, .timeout = 60)
{
    struct fixture f = bus_of("");
    unsigned n_left = 7;
    struct evbus_subscription *sub = JOIN(f.bus, ACCEPTS("2"),
                                          UPCASTERS({.from_major = 1, .upcast = comes_again, .context = &n_left}));
    publish(f.bus, "k", "1.0");
    struct evbus_delivery got = gets(sub, "2.0", "{\"v\":1.0,\"up\":\"1.0>2\"}");
    cr_expect_eq(got.attempt, 1);
    cr_expect_eq(n_left, 0);
    done(sub, &got);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

struct seen {
    _Atomic unsigned n;
    _Atomic unsigned n_wrong;
    struct evbus_subscription *sub;
};

static enum evbus_outcome handler(void *context, const struct evbus_delivery *event, char *error)
{
    struct seen *seen = context;
    (void)error;
    seen->n_wrong += event->version_major != 2 || strstr(event->payload, "\"up\":\"1.0>2\"") == NULL;
    if (++seen->n == 100)
        evbus_stop(seen->sub);
    return EVBUS_DONE;
}

Test(upcast, a_replay_is_raised_by_the_upcaster_of_the_topic_where_it_was_published, .timeout = 60)
{
    struct fixture f = bus_of("\"accepts\":[\"2\"]");
    struct evbus_subscription *sub = JOIN_PLAIN(f.bus);
    publish(f.bus, "k", "1.0");
    nothing(sub);
    evbus_unsubscribe(sub);
    HAS_LETTERS(f.bus, "published as 1.0; accepted are 2");
    struct evbus_settle_result result = {.size = sizeof result};
    cr_assert_eq(evbus_dead_letters_replay(f.bus, NULL, NULL, NULL, &result), EVBUS_OK, "%s", evbus_message(f.bus));
    cr_assert_eq(result.n_done, 1);
    sub = JOIN(f.bus, UPCASTERS({.topic = "test.a.one", .from_major = 1, .upcast = mark}));
    struct evbus_delivery got = gets(sub, "2.0", "{\"v\":1.0,\"up\":\"1.0>2\"}");
    cr_expect_str_eq(got.topic, "test.a.one");
    cr_expect_eq(got.replayed, 1);
    done(sub, &got);
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, threads_that_handle_upcast_each_for_itself, .timeout = 120)
{
    struct fixture f = bus_of("");
    for (unsigned threads = 1; threads <= 4; threads += 3) {
        struct seen seen = {0};
        seen.sub = JOIN(f.bus, .handler = handler, .context = &seen, ACCEPTS("2"), UPCASTERS(FROM(1)));
        for (int i = 0; i < 100; i++)
            publish(f.bus, NULL, "1.0");
        struct evbus_run_options options = {.size = sizeof options, .threads = threads};
        cr_assert_eq(evbus_run(seen.sub, &options), EVBUS_OK, "%s", evbus_message(f.bus));
        cr_expect_eq(seen.n, 100);
        cr_expect_eq(seen.n_wrong, 0);
        evbus_unsubscribe(seen.sub);
    }
    fixture_end(&f);
}

Test(upcast, with_a_handler_an_event_that_no_upcaster_can_make_is_handled_by_nobody, .timeout = 60)
{
    struct fixture f = bus_of("");
    struct seen seen = {0};
    struct evbus_subscription *sub = JOIN(f.bus, .handler = handler, .context = &seen, ACCEPTS("2"),
                                          UPCASTERS({.from_major = 1, .upcast = refuses}));
    publish(f.bus, "k", "1.0");
    cr_expect_eq(evbus_run_once(sub, SOON), EVBUS_OK);
    cr_expect_eq(evbus_run_once(sub, 0), EVBUS_ETIMEOUT);
    cr_expect_eq(seen.n, 0);
    HAS_LETTERS(f.bus, "it cannot, and does not say why");
    evbus_unsubscribe(sub);
    fixture_end(&f);
}

Test(upcast, a_subscription_says_which_version_or_upcaster_is_wrong, .timeout = 60)
{
    struct fixture f = bus_of("");
    static const char *const mistyped[] = {"1", "two"}, *const null[] = {NULL}, *const two[] = {"2"};
    static const struct evbus_upcaster no_function[] = {{.from_major = 1}}, no_major[] = {{.upcast = mark}},
                                       no_topic[] = {{"test.a.none", 1, mark, NULL}},
                                       bad_topic[] = {{"test..one", 1, mark, NULL}},
                                       twice[] = {FROM(1), FROM(2), FROM(1)};
    const struct {
        struct evbus_subscribe_options options;
        const char *says;
    } rows[] = {
        {{.accepts = mistyped, .n_accepts = 2}, "options.accepts[1]: version \"two\" is not MAJOR.MINOR"},
        {{.accepts = null, .n_accepts = 1}, "options.accepts[0]: it is NULL"},
        {{.accepts = two, .n_accepts = 17}, "options.accepts: 17 versions; at most 16 are allowed"},
        {{.upcasters = twice, .n_upcasters = 2}, "neither options.accepts nor the catalogue says which version"},
        {{.accepts = two, .n_accepts = 1, .n_upcasters = 1}, "1 upcasters; at most 64"},
        {{.accepts = two, .n_accepts = 1, .upcasters = no_function, .n_upcasters = 1},
         "options.upcasters[0].upcast is NULL"},
        {{.accepts = two, .n_accepts = 1, .upcasters = no_major, .n_upcasters = 1},
         "options.upcasters[0].from_major is 0; 1 to 65534 are allowed"},
        {{.accepts = two, .n_accepts = 1, .upcasters = no_topic, .n_upcasters = 1},
         "options.upcasters[0]: there is no topic test.a.none"},
        {{.accepts = two, .n_accepts = 1, .upcasters = bad_topic, .n_upcasters = 1}, "options.upcasters[0]: topic"},
        {{.accepts = two, .n_accepts = 1, .upcasters = twice, .n_upcasters = 3},
         "options.upcasters[0] and [2] are both of major version 1 of every topic"},
    };
    static const char *const patterns[] = {"test.a.one"};
    for (size_t i = 0; i < N(rows); i++) {
        struct evbus_subscribe_options options = rows[i].options;
        struct evbus_subscription *sub = NULL;
        options.size = sizeof options;
        options.group = "fresh";
        options.patterns = patterns;
        options.n_patterns = 1;
        cr_expect_eq(evbus_subscribe(&sub, f.bus, &options), EVBUS_EINVAL, "%s", rows[i].says);
        cr_expect_not_null(strstr(evbus_message(f.bus), rows[i].says), "%s", evbus_message(f.bus));
        cr_expect_null(sub);
        cr_expect_eq(group_find(&f.bus->memory, "fresh"), GROUP_NONE, "no group is left of it");
    }
    fixture_end(&f);
}
