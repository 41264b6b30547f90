/* test_names.c: the names of a bus are taken away while it is in use, by `evbus rm` or by hand, and it is made anew: whoever has the
 * old one is told so within about a second, whether there is a keeper or not, and nothing that is acknowledged is on the old one
 * when the new one is ready. Every wait has a generous deadline; how long it took is printed. [R16] */
#include "await.h"
#include "child.h"
#include "fixture.h"
#include "step.h"
#include "trial.h"

#include "bus.h"
#include "hold.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define S       UINT64_C(1000000000)

static const char catalogue[] = "{\"namespace\":\"test\",\"open\":true,\"tests\":true,"
                                "\"defaults\":{\"partitions\":1,\"ring\":\"8KiB\"},"
                                "\"topics\":{\"test.a.one\":{\"groups\":[\"team\"]},\"test.b.one\":{}}}";

static void take_name(const struct fixture *f, const char *part)
{
    char name[256];
    region_name(f->name, part, name);
    cr_assert_eq(shm_unlink(name), 0, "%s is not there", name);
}

static void take_control(const struct fixture *f)
{
    take_name(f, "control");
}

static void take_log(const struct fixture *f)
{
    take_name(f, "test.b");
}

static void take_both(const struct fixture *f)
{
    take_name(f, "test.a");
    take_name(f, "control");
}

static void remove_bus(const struct fixture *f)
{
    cr_assert_eq(evbus_remove(f->name), EVBUS_OK, "%s", evbus_message(NULL));
}

static void make_anew(const struct fixture *f)
{
    evbus_remove(f->name); /* what is left of it */
    cr_assert_eq(evbus_init(&(struct evbus_init_options){.bus = f->name, .catalogue = catalogue}), EVBUS_OK, "%s",
                 evbus_message(NULL));
}

/* --- everybody is told ------------------------------------------------------------------------------------------------------ */

struct party {
    const struct fixture *f;
    _Atomic int is_ready;
};

static int is_told(int rc)
{
    if (rc != EVBUS_ESTALE)
        fprintf(stderr, "%d %s\n", rc, evbus_message(NULL));
    return rc == EVBUS_ESTALE && strstr(evbus_message(NULL), "open again") != NULL ? 0 : 1;
}

static struct evbus *join(struct party *party)
{
    return fixture_open(party->f, "party", EVBUS_KEEPER_NEVER);
}

static int publish_one(struct evbus *bus, bool is_whole)
{
    struct evbus_event event = {.topic = "test.b.one", .payload = "1"};
    if (is_whole) { /* no clock needs to be read, no id to be made */
        event.id[0] = 1;
        event.timestamp_ns = S;
        event.payload_is_checked = true;
    }
    return evbus_publish(bus, &event, NULL);
}

static int publish_on(struct party *party, bool is_whole)
{
    struct evbus *bus = join(party);
    int rc;
    while ((rc = publish_one(bus, is_whole)) == EVBUS_OK) {
        party->is_ready = 1;
        await_pause();
    }
    return is_told(rc);
}

static int publishes(void *context)
{
    return publish_on(context, false);
}

static int publishes_with_ids(void *context)
{
    return publish_on(context, true);
}

static int publishes_batches(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    const struct evbus_event events[2] = {{.size = sizeof events[0], .topic = "test.b.one", .payload = "1"},
                                          {.topic = "test.b.one", .payload = "2"}};
    int rc;
    while ((rc = evbus_publish_batch(bus, events, 2, NULL, NULL)) == EVBUS_OK) {
        party->is_ready = 1;
        await_pause();
    }
    return is_told(rc);
}

static int waits_for_room(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    const struct evbus_event event = {.topic = "test.a.one", .payload = "1", .timeout_ns = UINT64_MAX};
    int rc;
    struct evbus_event first = event;
    first.timeout_ns = 0;
    while (evbus_publish(bus, &first, NULL) == EVBUS_OK) /* the group has no members */
        ;
    party->is_ready = 1;
    rc = evbus_publish(bus, &event, NULL);
    return is_told(rc) == 0 || (rc == EVBUS_ESTALE && strstr(evbus_message(NULL), "waited for room") != NULL) ? 0 : 1;
}

static int reads(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_open(&reader, bus, NULL);
    party->is_ready = 1;
    while (rc == EVBUS_OK)
        rc = evbus_reader_next(reader, &got, UINT64_MAX);
    return is_told(rc);
}

static int polls(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_reader_open(&reader, bus, NULL);
    party->is_ready = 1;
    while (rc == EVBUS_OK || rc == EVBUS_ETIMEOUT) {
        rc = evbus_reader_next(reader, &got, 0);
        await_pause();
    }
    return is_told(rc);
}

static int waits_for_its_descriptor(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    struct evbus_reader *reader;
    struct evbus_delivery got = {.size = sizeof got};
    struct pollfd poller = {.events = POLLIN};
    int rc = evbus_reader_open(&reader, bus, NULL);
    if (rc == EVBUS_OK)
        rc = evbus_fd(reader, &poller.fd);
    while (rc == EVBUS_OK || rc == EVBUS_ETIMEOUT) {
        rc = evbus_reader_next(reader, &got, 0);
        party->is_ready = 1;
        if (rc == EVBUS_ETIMEOUT)
            poll(&poller, 1, -1);
    }
    return is_told(rc);
}

static enum evbus_outcome handle(void *context, const struct evbus_delivery *event, char *error)
{
    (void)context;
    (void)event;
    (void)error;
    return EVBUS_DONE;
}

static int run(struct party *party, unsigned threads)
{
    struct evbus *bus = join(party);
    struct evbus_subscription *sub;
    int rc = evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = "team", .handler = handle});
    party->is_ready = 1;
    if (rc == EVBUS_OK)
        rc = evbus_run(sub, &(struct evbus_run_options){.threads = threads});
    return is_told(rc);
}

static int runs(void *context)
{
    return run(context, 1);
}

static int runs_with_threads(void *context)
{
    return run(context, 3);
}

static int receives(void *context)
{
    struct party *party = context;
    struct evbus *bus = join(party);
    struct evbus_subscription *sub;
    struct evbus_delivery got = {.size = sizeof got};
    int rc = evbus_subscribe(&sub, bus, &(struct evbus_subscribe_options){.group = "team"});
    party->is_ready = 1;
    while (rc == EVBUS_OK)
        rc = evbus_receive(sub, &got, UINT64_MAX);
    return is_told(rc);
}

/* A keeper that is stopped, as by a debugger. */
static int keeps(void *context)
{
    struct party *party = context;
    struct evbus *bus = fixture_open(party->f, "keeper", EVBUS_KEEPER_VOLUNTEER);
    await_that(hold_slot(&bus->memory.control->seat) != 0);
    party->is_ready = 1;
    pause();
    return 0;
}

static const struct role {
    const char *name;
    int (*body)(void *context);
} roles[] = {
    {"a publisher", publishes},
    {"a publisher with ids of its own", publishes_with_ids},
    {"a publisher of batches", publishes_batches},
    {"a publisher that waits for room", waits_for_room},
    {"a reader that sleeps", reads},
    {"a reader that polls", polls},
    {"a reader with a descriptor", waits_for_its_descriptor},
    {"a member that runs", runs},
    {"a member that runs threads", runs_with_threads},
    {"a member that receives", receives},
};

static const struct loss {
    const char *name;
    void (*take)(const struct fixture *f);
} losses[] = {
    {"evbus rm", remove_bus},
    {"the control object's name", take_control},
    {"a log's name", take_log},
    {"both names", take_both},
};

enum upkeep { NO_KEEPER, KEEPER, STOPPED_KEEPER };
static const char *const upkeeps[] = {"no keeper", "a keeper", "a stopped keeper"};

/* One party of its own bus, so that nobody learns it from another. */
struct trial {
    struct fixture f;
    struct party *party, *keeping;
    struct child child, keeper;
    uint64_t began_ms;
};

static void begin(struct trial *trial, const struct role *role, enum upkeep upkeep)
{
    trial->f = fixture_make((struct fixture_options){.catalogue = catalogue});
    trial->party = child_shared(sizeof *trial->party);
    trial->keeping = child_shared(sizeof *trial->keeping);
    trial->party->f = trial->keeping->f = &trial->f;
    evbus_close(trial->f.bus);
    trial->f.bus = NULL;
    if (upkeep != NO_KEEPER) {
        trial->keeper = child_start(keeps, trial->keeping);
        cr_assert(await_that(trial->keeping->is_ready != 0), "no keeper");
    }
    trial->child = child_start(role->body, trial->party);
    cr_assert(await_that(trial->party->is_ready != 0), "%s does not begin", role->name);
    if (upkeep == STOPPED_KEEPER)
        child_stop(&trial->keeper);
}

static void see(struct trial *trial, const struct role *role, const struct loss *loss, enum upkeep upkeep)
{
    int status = child_join(&trial->child);
    unsigned long took = (unsigned long)(await_now_ms() - trial->began_ms);
    if (upkeep != NO_KEEPER)
        child_kill(&trial->keeper);
    cr_assert_eq(status, 0, "%s, %s: %s ends with %d after %lu ms", loss->name, upkeeps[upkeep], role->name, status,
                 took);
    fprintf(stderr, "%s, %s: %s is told after %lu ms\n", loss->name, upkeeps[upkeep], role->name, took);
    make_anew(&trial->f);
    trial->f.bus = fixture_open(&trial->f, "anew", EVBUS_KEEPER_NEVER);
    cr_expect_eq(publish_one(trial->f.bus, false), EVBUS_OK, "and it works again: %s", evbus_message(NULL));
    fixture_end(&trial->f);
}

static void lose_all(enum upkeep upkeep)
{
    fixture_own_shm("64m");
    for (size_t l = 0; l < N(losses); l++) {
        static struct trial trials[N(roles)];
        for (size_t r = 0; r < N(roles); r++)
            begin(&trials[r], &roles[r], upkeep);
        for (size_t r = 0; r < N(roles); r++) {
            trials[r].began_ms = await_now_ms();
            losses[l].take(&trials[r].f);
        }
        for (size_t r = 0; r < N(roles); r++)
            see(&trials[r], &roles[r], &losses[l], upkeep);
    }
}

Test(names, all_are_told_without_a_keeper, .timeout = 600) /* [R16] */
{
    lose_all(NO_KEEPER);
}

Test(names, all_are_told_where_the_keeper_is_stopped, .timeout = 600) /* [R16] */
{
    lose_all(STOPPED_KEEPER);
}

Test(names, all_are_told_by_the_keeper, .timeout = 600) /* [R16] */
{
    lose_all(KEEPER);
}

/* --- never two rings as one -------------------------------------------------------------------------------------------------- */

struct race {
    const struct fixture *f;
    struct step_ours ours;
    _Atomic int is_ready, is_back, rc;
};

static int publish_and_stop(void *context)
{
    struct race *race = context;
    struct evbus *bus = fixture_open(race->f, "old", EVBUS_KEEPER_NEVER);
    if (publish_one(bus, true) != EVBUS_OK) /* what the first one makes is there */
        return 1;
    step_begin(step_stop_in_ours, &race->ours);
    int rc = publish_one(bus, true);
    step_end();
    race->rc = rc;
    race->is_back = 1;
    return 0;
}

/* Stopped at any instruction of a publish, the bus made anew meanwhile, continued: it is acknowledged only if it was on the old bus
 * before that was retired, and never on the new one. [R16] */
Test(names, an_event_that_is_acknowledged_is_on_no_bus_that_is_gone, .timeout = 600)
{
    if (!STEP_WORKS)
        cr_skip_test("steps work on x86-64 only");
    struct race *race = child_shared(sizeof *race);
    unsigned n_acknowledged = 0, n_told = 0;
    uint64_t only = trial_only_step();
    uint64_t stride = trial_is_full() ? 1 : 13;
    for (race->ours.wanted = only != 0 ? only : 1;; race->ours.wanted += stride) {
        struct fixture f = fixture_make((struct fixture_options){.catalogue = catalogue});
        race->f = &f;
        race->is_back = 0;
        race->ours.n = 0;
        const struct ring *ring = &f.bus->memory.logs[1].rings[0];
        uint64_t before = ring_tail(ring);
        struct child child = child_start(publish_and_stop, race);
        int status;
        cr_assert_eq(waitpid(child.pid, &status, WUNTRACED), child.pid);
        if (!WIFSTOPPED(status)) {
            cr_assert_eq(status, 0);
            fixture_end(&f);
            break;
        }
        uint64_t tail = ring_tail(ring), event = before;
        unsigned n_events = 0; /* name, first, this one */
        for (uint64_t word; event < tail && ring_look(ring, event, &word) == RING_COMMITTED; event += word_cells(word))
            n_events++;
        bool was_committed = n_events == 3;
        remove_bus(&f);
        make_anew(&f);
        child_continue(&child);
        cr_assert_eq(child_join(&child), 0, "step %lu", (unsigned long)race->ours.wanted);
        cr_assert(race->rc == EVBUS_ESTALE || (race->rc == EVBUS_OK && was_committed),
                  "EVBUS_STEP=%lu: it answers %d, %s committed before", (unsigned long)race->ours.wanted, race->rc,
                  was_committed ? "it was" : "not");
        n_acknowledged += race->rc == EVBUS_OK;
        n_told += race->rc == EVBUS_ESTALE;
        struct evbus *anew = fixture_open(&f, "new", EVBUS_KEEPER_NEVER);
        cr_expect_eq(publish_one(f.bus, true), EVBUS_ESTALE);
        cr_expect_eq(ring_tail(&anew->memory.logs[1].rings[0]), before, "the new bus has an event of the old one");
        uint64_t old_tail = ring_tail(ring);
        cr_expect_eq(publish_one(anew, true), EVBUS_OK);
        cr_expect_eq(ring_tail(ring), old_tail, "the old bus has an event of the new one");
        evbus_close(anew);
        fixture_end(&f);
        if (only != 0)
            break;
    }
    fprintf(stderr, "%u steps: %u acknowledged, %u told\n", n_acknowledged + n_told, n_acknowledged, n_told);
    cr_expect_gt(n_told, 10u);
}
