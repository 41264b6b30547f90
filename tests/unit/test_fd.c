/* test_fd.c: a descriptor that poll() finds readable when there may be something to read, and only then for long.
 *
 * eventfd_write() is our own here, so that a test can hold evbus-fd where it has decided to write and has not yet. */
#include "await.h"
#include "bus.h"
#include "fixture.h"
#include "threads.h"
#include "trial.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

static _Atomic bool hold_writes;
static _Atomic unsigned n_held, n_writes;

int eventfd_write(int fd, eventfd_t value)
{
    if (atomic_load(&hold_writes)) {
        atomic_fetch_add(&n_held, 1);
        await_that(!atomic_load(&hold_writes));
    }
    ssize_t n = write(fd, &value, sizeof value);
    atomic_fetch_add(&n_writes, 1);
    return n == (ssize_t)sizeof value ? 0 : -1;
}

static struct evbus_reader *reader_of(struct evbus *bus, const char *pattern, int *out_fd)
{
    struct evbus_reader *reader;
    struct evbus_reader_options options = {
        .size = sizeof options, .patterns = pattern != NULL ? &pattern : NULL, .n_patterns = pattern != NULL};
    cr_assert_eq(evbus_reader_open(&reader, bus, &options), EVBUS_OK, "%s", evbus_message(bus));
    int rc = evbus_fd(reader, out_fd);
    cr_assert_eq(rc, EVBUS_OK, "evbus_fd: %s", evbus_message(bus));
    return reader;
}

static bool is_readable(int fd, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    return poll(&poller, 1, timeout_ms) == 1 && (poller.revents & POLLIN) != 0;
}

/* Reads until there is nothing more; how many, or -1 on an error. */
static int drain(struct evbus_reader *reader)
{
    struct evbus_delivery got = {.size = sizeof got};
    int n = 0, rc;
    while ((rc = evbus_reader_next(reader, &got, 0)) == EVBUS_OK)
        n++;
    return rc == EVBUS_ETIMEOUT ? n : -1;
}

/* As a loop of poll() and drain() does it: is there, after a few rounds, rest? It may be readable too often, not for ever. */
static bool comes_to_rest(struct evbus_reader *reader, int fd)
{
    return await_that(drain(reader) == 0 && !is_readable(fd, 20));
}

static void publish(struct evbus *bus, const char *topic)
{
    struct evbus_event event = {.size = sizeof event, .topic = topic, .payload = "1", .timeout_ns = 10 * S};
    cr_assert_eq(evbus_publish(bus, &event, NULL), EVBUS_OK, "%s", evbus_message(bus));
}

Test(fd, it_is_readable_after_a_publish_and_not_after_a_drain)
{
    struct fixture f = fixture_make((struct fixture_options){.partitions = 2});
    int fd, again;
    struct evbus_reader *reader = reader_of(f.bus, NULL, &fd);
    cr_assert(comes_to_rest(reader, fd));
    for (int round = 1; round <= 20; round++) {
        for (int i = 0; i < round; i++)
            publish(f.bus, i % 2 == 0 ? "test.a.one" : "test.b.one");
        cr_assert(is_readable(fd, 5000), "round %d", round);
        cr_assert(is_readable(fd, 0), "it stays so until it is drained");
        cr_assert_eq(drain(reader), round);
        cr_assert(comes_to_rest(reader, fd), "round %d: still readable", round);
    }
    cr_expect_eq(evbus_fd(reader, &again), EVBUS_OK);
    cr_expect_eq(again, fd, "one reader, one descriptor");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, what_was_published_before_it_was_asked_for_makes_it_readable)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    int fd;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    publish(f.bus, "test.a.one");
    cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK);
    cr_expect(is_readable(fd, 5000));
    cr_expect_eq(drain(reader), 1);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, half_a_drain_leaves_it_readable)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_delivery got = {.size = sizeof got};
    int fd;
    struct evbus_reader *reader = reader_of(f.bus, NULL, &fd);
    publish(f.bus, "test.a.one");
    publish(f.bus, "test.a.one");
    cr_assert(is_readable(fd, 5000));
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK);
    cr_expect(is_readable(fd, 0), "there is one more");
    cr_assert_eq(evbus_reader_next(reader, &got, 0), EVBUS_OK);
    cr_expect(is_readable(fd, 0), "nobody has said yet that there is none");
    cr_assert(comes_to_rest(reader, fd));
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, each_of_several_readers_has_its_own_in_one_epoll)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    static const char *const patterns[] = {"test.a.one", "test.b.one", "**"};
    struct evbus_reader *readers[3];
    int fds[3], epoll = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < 3; i++) {
        readers[i] = reader_of(f.bus, patterns[i], &fds[i]);
        cr_assert(comes_to_rest(readers[i], fds[i]));
        epoll_ctl(epoll, EPOLL_CTL_ADD, fds[i], &(struct epoll_event){.events = EPOLLIN, .data.u32 = (uint32_t)i});
    }
    publish(f.bus, "test.b.one");
    int n[3] = {0};
    while (n[1] == 0 || n[2] == 0) {
        struct epoll_event events[3];
        int n_events = epoll_wait(epoll, events, 3, 5000);
        cr_assert_gt(n_events, 0, "nobody is told");
        for (int i = 0; i < n_events; i++) {
            int found = drain(readers[events[i].data.u32]);
            cr_assert_geq(found, 0);
            n[events[i].data.u32] += found;
        }
    }
    cr_expect_eq(n[0], 0);
    cr_expect_eq(n[1], 1);
    cr_expect_eq(n[2], 1);
    close(epoll);
    for (int i = 0; i < 3; i++)
        evbus_reader_close(readers[i]);
    fixture_end(&f);
}

Test(fd, other_topics_do_not_keep_it_readable)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    int fd;
    struct evbus_reader *reader = reader_of(f.bus, "test.a.one", &fd);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 10; i++) {
            publish(f.bus, "test.a.two");
            publish(f.bus, "test.b.one");
        }
        cr_assert(comes_to_rest(reader, fd), "round %d: readable for ever, and there is nothing to read", round);
        publish(f.bus, "test.a.one");
        cr_assert(is_readable(fd, 5000));
        cr_assert_eq(drain(reader), 1);
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}

/* evbus-fd sees an event and is about to say so; meanwhile the reader, who looks without having been told, reads that event
 * and finds nothing more. Then evbus-fd says so. */
Test(fd, a_drain_that_overtakes_the_thread_does_not_leave_it_readable_for_ever)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    int fd;
    struct evbus_reader *reader = reader_of(f.bus, NULL, &fd);
    cr_assert(comes_to_rest(reader, fd));
    unsigned n_before = atomic_load(&n_writes);
    atomic_store(&hold_writes, true);
    publish(f.bus, "test.a.one");
    cr_assert(await_that(atomic_load(&n_held) > 0), "evbus-fd does not write the eventfd by eventfd_write() any more");
    cr_assert_eq(drain(reader), 1);
    atomic_store(&hold_writes, false);
    cr_assert(await_that(atomic_load(&n_writes) > n_before));
    bool rests = false;
    for (int i = 0; i < 50 && !rests; i++)
        rests = drain(reader) == 0 && !is_readable(fd, 10);
    cr_expect(rests, "readable, and nothing to read, in 50 rounds of drain and poll");
    publish(f.bus, "test.a.one");
    cr_expect(is_readable(fd, 5000), "and the next event is told");
    evbus_reader_close(reader);
    fixture_end(&f);
}

struct told_publisher {
    struct evbus *bus;
    unsigned n_rounds;
    _Atomic unsigned n_seen, n_published;
    int rc;
};

static void *publish_when_seen(void *context)
{
    struct told_publisher *self = context;
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1", .timeout_ns = 10 * S};
    for (unsigned i = 0; i < self->n_rounds && self->rc == EVBUS_OK; i++) {
        uint64_t until = await_now_ms() + AWAIT_MS;
        while (atomic_load(&self->n_seen) < i) /* busy: the next publish shall meet the drain */
            if (await_now_ms() > until)
                self->rc = EVBUS_ETIMEOUT, atomic_store(&self->n_seen, i);
        if (self->rc == EVBUS_OK)
            self->rc = evbus_publish(self->bus, &event, NULL);
        atomic_fetch_add(&self->n_published, 1);
    }
    return NULL;
}

Test(fd, no_wake_up_is_lost_in_thousands_of_publishes_and_drains, .timeout = 60) /* [guards WOKEN] */
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct told_publisher publisher = {.bus = f.bus,
                                       .n_rounds = (unsigned)trial_count(20000, trial_is_slow() ? 200 : 2000)};
    int fd;
    struct evbus_reader *reader = reader_of(f.bus, NULL, &fd);
    pthread_t thread;
    pthread_create(&thread, NULL, publish_when_seen, &publisher);
    unsigned n = 0, n_slow = 0;
    while (n < publisher.n_rounds) {
        uint64_t before = await_now_ms();
        cr_assert(is_readable(fd, 10000), "event %u of %u was never told", n, publisher.n_rounds);
        n_slow += await_now_ms() - before >= 249; /* then evbus-fd woke by itself */
        int found = drain(reader);
        cr_assert_geq(found, 0, "%s", evbus_message(f.bus));
        n += (unsigned)found;
        atomic_store(&publisher.n_seen, n);
    }
    pthread_join(thread, NULL);
    cr_expect_eq(publisher.rc, EVBUS_OK);
    cr_expect_eq(n, publisher.n_rounds);
    if (!trial_is_slow()) /* valgrind lets one thread run at a time, and has no futex_waitv */
        cr_expect_leq(n_slow, 1u, "%u of %u events were told late: the bell was not heard", n_slow, publisher.n_rounds);
    cr_expect(comes_to_rest(reader, fd), "readable for ever");
    evbus_reader_close(reader);
    fixture_end(&f);
}

static void *publish_many(void *context)
{
    struct told_publisher *self = context;
    struct evbus_event event = {.size = sizeof event, .topic = "test.a.one", .payload = "1", .timeout_ns = 10 * S};
    for (unsigned i = 0; i < self->n_rounds && self->rc == EVBUS_OK; i++)
        self->rc = evbus_publish(self->bus, &event, NULL);
    return NULL;
}

Test(fd, a_pinned_reader_that_polls_gets_all_of_a_stream, .timeout = 60) /* [guards WOKEN] */
{
    struct fixture f = fixture_make((struct fixture_options){.ring = "16KiB"});
    struct told_publisher publisher = {.bus = f.bus,
                                       .n_rounds = (unsigned)trial_count(50000, trial_is_slow() ? 500 : 5000)};
    struct evbus_reader *reader;
    int fd;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, &(struct evbus_reader_options){.pin = true}), EVBUS_OK);
    cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK);
    pthread_t thread;
    pthread_create(&thread, NULL, publish_many, &publisher);
    for (unsigned n = 0; n < publisher.n_rounds;) {
        cr_assert(is_readable(fd, 10000), "%u of %u", n, publisher.n_rounds);
        int found = drain(reader);
        cr_assert_geq(found, 0);
        n += (unsigned)found;
    }
    pthread_join(thread, NULL);
    cr_expect_eq(publisher.rc, EVBUS_OK);
    cr_expect_eq(evbus_reader_lost(reader), 0u);
    cr_expect(comes_to_rest(reader, fd), "readable for ever");
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, a_bus_that_is_gone_makes_it_readable_and_keeps_it_so) /* [R16] */
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_delivery got = {.size = sizeof got};
    int fd;
    struct evbus_reader *reader = reader_of(f.bus, NULL, &fd);
    cr_assert(comes_to_rest(reader, fd));
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect(is_readable(fd, 3000), "nobody is told");
    cr_expect_eq(evbus_reader_next(reader, &got, 0), EVBUS_ESTALE);
    cr_expect(is_readable(fd, 1000));
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, its_thread_begins_with_the_first_call_and_ends_with_the_reader)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    int fd;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    unsigned n_before = count_threads(NULL);
    cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK);
    cr_expect(await_that(count_threads("evbus-fd") == 1));
    cr_expect_geq(count_threads(NULL), n_before + 1);
    cr_assert_eq(evbus_fd(reader, &fd), EVBUS_OK);
    cr_expect_eq(count_threads("evbus-fd"), 1u, "one is enough");
    evbus_reader_close(reader);
    cr_expect(await_that(count_threads("evbus-fd") == 0), "it goes on");
    cr_expect_lt(fcntl(fd, F_GETFD), 0, "the descriptor is closed");
    fixture_end(&f);
}

Test(fd, any_number_of_readers_may_come_and_go)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    for (int i = 0; i < SLEEPERS_MAX + 8; i++) {
        struct evbus_reader *reader;
        int fd, rc;
        cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
        rc = evbus_fd(reader, &fd);
        cr_assert_eq(rc, EVBUS_OK, "reader %d, all before it are closed: %s", i, evbus_message(f.bus));
        evbus_reader_close(reader);
    }
    struct evbus_stat stat = {.size = sizeof stat};
    cr_assert_eq(evbus_stat(f.bus, &stat), EVBUS_OK);
    cr_expect_eq(stat.n_slots, 1u, "ours");
    cr_expect_eq(stat.partitions[0].n_sleepers, 0u);
    fixture_end(&f);
}

Test(fd, what_is_wrong_is_named)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    int fd = 4711;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    cr_expect_eq(evbus_fd(NULL, &fd), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "reader is NULL");
    cr_expect_eq(evbus_fd(reader, NULL), EVBUS_EINVAL);
    cr_expect_str_eq(evbus_message(NULL), "out_fd is NULL");
    cr_assert_eq(evbus_remove(f.name), EVBUS_OK);
    cr_expect_eq(evbus_fd(reader, &fd), EVBUS_ESTALE);
    cr_expect_eq(fd, 4711);
    evbus_reader_close(reader);
    fixture_end(&f);
}

Test(fd, when_no_descriptor_is_left_it_says_so)
{
    struct fixture f = fixture_make((struct fixture_options){0});
    struct evbus_reader *reader;
    int fds[4096], n = 0, fd = 4711;
    cr_assert_eq(evbus_reader_open(&reader, f.bus, NULL), EVBUS_OK);
    while (n < 4096 && (fds[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    int rc = evbus_fd(reader, &fd);
    while (n > 0)
        close(fds[--n]);
    if (rc != EVBUS_OK) { /* it may also be that more than 4096 are allowed here */
        cr_expect_eq(rc, EVBUS_EIO);
        cr_expect_not_null(strstr(evbus_message(f.bus), "Too many open files"), "%s", evbus_message(f.bus));
        cr_expect_eq(fd, 4711);
        cr_expect_eq(evbus_fd(reader, &fd), EVBUS_OK, "it can be tried again: %s", evbus_message(f.bus));
    }
    evbus_reader_close(reader);
    fixture_end(&f);
}
