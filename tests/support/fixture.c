/* fixture.c: a bus of the test's own, removed when the test ends in whatever way. */
#include "fixture.h"

#include "await.h"
#include "bus.h"
#include "hold.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static char to_remove[64];
static pid_t made_by;

static void remove_at_exit(void)
{
    if (to_remove[0] != '\0' && getpid() == made_by)
        evbus_remove(to_remove);
}

/* Has its thread all that it needs? A sanitizer's allocator must not be locked by it when the test forks. */
static bool is_quiet(const struct evbus *bus)
{
    const struct memory *memory = &bus->memory;
    uint32_t keeper = hold_slot(&memory->control->seat);
    const struct log_head *last = memory->logs[memory_n_logs(memory) - 1].head; /* the one that it joins last */
    return keeper != 0 && atomic_load(&last->sleepers[0].slot) == keeper;
}

struct fixture fixture_make(struct fixture_options options)
{
    struct fixture fixture;
    char made[1024];
    static unsigned count;
    snprintf(fixture.name, sizeof fixture.name, "test-%d-%u", (int)getpid(), count++);
    snprintf(made, sizeof made,
             "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":%u,\"ring\":\"%s\"},"
             "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{}}}",
             options.partitions != 0 ? options.partitions : 1, options.ring != NULL ? options.ring : "64KiB");
    evbus_remove(fixture.name);
    int rc = evbus_init(&(struct evbus_init_options){
        .size = sizeof(struct evbus_init_options),
        .bus = fixture.name,
        .catalogue = options.catalogue != NULL ? options.catalogue : made,
    });
    cr_assert_eq(rc, EVBUS_OK, "evbus_init: %s", evbus_message(NULL));
    if (made_by != getpid())
        atexit(remove_at_exit);
    made_by = getpid();
    strcpy(to_remove, fixture.name);
    rc = evbus_open(&fixture.bus, &(struct evbus_options){
                                      .size = sizeof(struct evbus_options),
                                      .bus = fixture.name,
                                      .service = "tester",
                                      .keeper = options.keeper ? EVBUS_KEEPER_VOLUNTEER : EVBUS_KEEPER_NEVER,
                                      .wait = options.wait,
                                  });
    cr_assert_eq(rc, EVBUS_OK, "evbus_open: %s", evbus_message(NULL));
    if (options.keeper)
        cr_assert(await_that(is_quiet(fixture.bus)), "no keeper");
    return fixture;
}

void fixture_end(struct fixture *fixture)
{
    evbus_close(fixture->bus);
    fixture->bus = NULL;
    evbus_remove(fixture->name);
    to_remove[0] = '\0';
}

struct evbus *fixture_open(const struct fixture *fixture, const char *service, enum evbus_keeper keeper)
{
    struct evbus *bus;
    int rc = evbus_open(&bus, &(struct evbus_options){
                                  .size = sizeof(struct evbus_options),
                                  .bus = fixture->name,
                                  .service = service,
                                  .keeper = keeper,
                              });
    if (rc != EVBUS_OK) {
        fprintf(stderr, "fixture_open: %s\n", evbus_message(NULL));
        _exit(99);
    }
    return bus;
}

int fixture_publish(struct evbus *bus, const char *key, const char *payload)
{
    return evbus_publish(bus,
                         &(struct evbus_event){.size = sizeof(struct evbus_event),
                                               .topic = "test.a.one",
                                               .key = key,
                                               .payload = payload,
                                               .timeout_ns = 1000000000},
                         NULL);
}

bool fixture_own_shm(const char *size)
{
    char options[64];
    snprintf(options, sizeof options, "size=%s", size);
    return unshare(CLONE_NEWNS) == 0 && mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/dev/shm", "tmpfs", 0, options) == 0;
}
