/* test_memory.c: the objects of a bus are made as a whole or not at all, and nothing that is foreign or damaged is opened.
 *
 * [no tsan] Makers are other processes. */
#include "memory.h"
#include "memory_make.h"

#include "await.h"
#include "child.h"
#include "retire.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define N(rows) (sizeof(rows) / sizeof(rows)[0])
#define CATALOGUE                                                                                              \
    "{\"namespace\":\"test\",\"open\":true,\"tests\":true,\"defaults\":{\"partitions\":2,\"ring\":\"64KiB\"}," \
    "\"topics\":{\"test.a.one\":{},\"test.a.two\":{},\"test.b.one\":{}}}"

/* Every object of that bus: two logs of the catalogue, then its own. */
static const char *const parts[] = {"control", "test.a", "test.b", "test.dlq", "test.evbus", "test.replay"};

/* A bus name of this test's own. */
static const char *bus_of_test(void)
{
    static char name[64];
    snprintf(name, sizeof name, "test-memory-%d", (int)getpid());
    return name;
}

static struct catalogue *parsed(void)
{
    struct catalogue *catalogue = NULL;
    struct error err = {""};
    if (catalogue_parse(CATALOGUE, sizeof CATALOGUE - 1, &catalogue, &err) != EVBUS_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    return catalogue;
}

static int create(struct memory *memory, const char *bus, mode_t mode, struct error *err)
{
    struct catalogue *catalogue = parsed();
    int rc = memory_create(memory, bus, catalogue, CATALOGUE, sizeof CATALOGUE - 1, mode, (gid_t)-1, NULL, err);
    catalogue_free(catalogue);
    return rc;
}

static struct memory made(const char *bus)
{
    struct memory memory;
    struct error err = {""};
    retire_remove(bus, NULL);
    int rc = create(&memory, bus, 0600, &err);
    cr_assert_eq(rc, EVBUS_OK, "%d %s", rc, err.text);
    memory_ready(&memory);
    return memory;
}

static void end(struct memory *memory)
{
    char bus[SERVICE_BYTES];
    strcpy(bus, memory->bus);
    memory_close(memory);
    retire_remove(bus, NULL);
}

/* How many objects in /dev/shm belong to the bus. */
static int count_objects(const char *bus)
{
    char prefix[128];
    int n = 0;
    snprintf(prefix, sizeof prefix, "evbus.%s.", bus);
    DIR *dir = opendir("/dev/shm");
    if (dir == NULL)
        return -1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        n += strncmp(entry->d_name, prefix, strlen(prefix)) == 0;
    closedir(dir);
    return n;
}

/* ---- make and open ---- */

Test(memory, what_was_made_is_opened_with_its_logs_and_rings)
{
    struct memory maker = made(bus_of_test());
    struct memory memory;
    struct error err = {""};
    cr_assert_eq(memory_open(&memory, bus_of_test(), &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(memory_n_logs(&memory), 5);
    cr_expect_str_eq(memory.logs[0].head->name, "test.a");
    cr_expect_str_eq(memory.logs[1].head->name, "test.b");
    cr_expect_str_eq(memory.logs[0].head->topics[1], "test.a.two");
    cr_expect_eq(atomic_load(&memory.logs[0].head->n_topics), 2);
    cr_expect_eq(memory.logs[1].n_partitions, 2);
    cr_expect_eq(memory.logs[1].rings[1].capacity, 1024);
    cr_expect_eq(memory.logs[1].rings[1].partition, 1);
    cr_expect_str_eq(memory.logs[1].rings[1].name, "test.b");
    cr_expect_not(memory_is_internal(&memory.logs[0]));
    cr_expect_not(memory_is_internal(&memory.logs[1]));
    for (uint32_t i = 0; i < 4; i++)
        cr_expect_eq(memory.logs[i].index, i);
    cr_expect_arr_eq(memory.control->uuid, maker.control->uuid, 16);
    cr_expect_eq(memory.control->uuid[6] >> 4, 4, "a UUID of version 4");
    cr_expect_str_eq(memory.control->catalogue[1], CATALOGUE);
    cr_expect_eq(atomic_load(&memory.control->catalogue_len[1]), sizeof CATALOGUE - 1);
    cr_expect_neq(memory.control, maker.control);
    memory_close(&memory);
    memory_close(&memory);
    end(&maker);
}

/* What a dead letter needs is there before anybody dies. */
Test(memory, the_buss_own_logs_stand_behind_the_catalogues_and_dead_letters_are_kept_for_ever)
{
    struct memory maker = made(bus_of_test());
    struct memory memory;
    struct error err = {""};
    cr_assert_eq(memory_open(&memory, bus_of_test(), &err), EVBUS_OK, "%s", err.text);
    struct memory_log *dlq = memory_internal_log(&memory, MEMORY_DLQ_LOG);
    struct memory_log *notes = memory_internal_log(&memory, MEMORY_NOTES_LOG);
    cr_assert_eq(dlq, &memory.logs[2]);
    cr_assert_eq(notes, &memory.logs[3]);
    cr_assert_eq(memory_internal_log(&memory, MEMORY_REPLAY_LOG), &memory.logs[4]);
    cr_expect_str_eq(dlq->head->name, "test.dlq");
    cr_expect_str_eq(notes->head->name, "test.evbus");
    for (uint32_t i = 2; i < 5; i++) {
        cr_expect(memory_is_internal(&memory.logs[i]));
        cr_expect_eq(memory.logs[i].n_partitions, 1, "%s", memory.logs[i].head->name);
        cr_expect_eq(memory.logs[i].rings[0].capacity, 1024, "as large as the largest: %s", memory.logs[i].head->name);
    }
    cr_expect_eq(atomic_load(&dlq->head->n_topics), 0, "one for each group: there is none");
    cr_expect_eq(atomic_load(&notes->head->n_topics), 1);
    cr_expect_str_eq(notes->head->topics[MEMORY_NOTES_TOPIC - 1], "test.evbus.notes");
    cr_expect_eq(atomic_load(&dlq->head->pin_owners[0]), PIN_OWNER(1, 0));
    cr_expect_eq(LOW_BEHIND(atomic_load(&dlq->rings[0].head->lows[0])), 1, "pinned at 0");
    cr_expect_eq(atomic_load(&notes->head->pin_owners[0]), 0);
    cr_expect_eq(atomic_load(&notes->rings[0].head->lows[0]), 0);
    memory_close(&memory);
    end(&maker);
}

/* Behind each ring, where neither the ring nor the next partition lies. */
Test(memory, each_partition_has_a_place_for_each_group)
{
    struct memory memory = made(bus_of_test());
    for (uint32_t l = 0; l < memory_n_logs(&memory); l++) {
        const struct memory_log *log = &memory.logs[l];
        const char *object_end = (const char *)log->region.base + log->region.len_bytes;
        for (uint32_t p = 0; p < log->n_partitions; p++) {
            const char *first = (const char *)memory_part(log, p, 0);
            const char *behind = (const char *)memory_part(log, p, GROUPS_MAX);
            const char *ring_end = (const char *)log->rings[p].head + ring_bytes(log->rings[p].capacity);
            const char *next = p + 1 < log->n_partitions ? (const char *)log->rings[p + 1].head : object_end;
            cr_expect_eq((uintptr_t)first % alignof(struct group_part), 0u, "log %u partition %u", l, p);
            cr_expect_eq(first, ring_end, "log %u partition %u", l, p);
            cr_expect_leq((const void *)behind, (const void *)next, "log %u partition %u", l, p);
            cr_expect_eq((size_t)(behind - first), GROUPS_MAX * sizeof(struct group_part));
        }
    }
    end(&memory);
}

/* [R19] */
Test(memory, each_ring_has_a_salt_of_its_own_and_each_bus_a_name_of_its_own)
{
    struct memory first = made(bus_of_test());
    uint64_t salts[6];
    uint8_t uuid[16];
    memcpy(uuid, first.control->uuid, sizeof uuid);
    for (int i = 0; i < 6; i++)
        salts[i] = i < 4 ? first.logs[i / 2].rings[i % 2].salt : first.logs[i - 2].rings[0].salt;
    for (int i = 0; i < 6; i++)
        for (int j = 0; j < i; j++)
            cr_expect_neq(salts[i], salts[j], "rings %d and %d", i, j);
    end(&first);
    struct memory second = made(bus_of_test());
    cr_expect_neq(second.logs[0].rings[0].salt, salts[0], "stamps of the last incarnation must not look valid");
    cr_expect(memcmp(second.control->uuid, uuid, sizeof uuid) != 0);
    end(&second);
}

/* [R15] */
Test(memory, its_objects_take_what_was_said_and_every_page_is_there)
{
    struct memory memory = made(bus_of_test());
    struct catalogue *catalogue = parsed();
    uint64_t sum = 0;
    for (size_t i = 0; i < N(parts); i++) {
        struct stat found;
        char path[300];
        snprintf(path, sizeof path, "/dev/shm/evbus.%s.%s", bus_of_test(), parts[i]);
        cr_assert_eq(stat(path, &found), 0, "%s", path);
        cr_expect_geq((uint64_t)found.st_blocks * 512, (uint64_t)found.st_size, "%s", parts[i]);
        cr_expect_eq(found.st_mode & 07777, 0600, "%s", parts[i]);
        sum += (uint64_t)found.st_size;
    }
    cr_expect_eq(sum, memory_bytes(catalogue), "%" PRIu64 " and %" PRIu64, sum, memory_bytes(catalogue));
    catalogue_free(catalogue);
    end(&memory);
}

Test(memory, mode_is_as_asked_for_every_object_whatever_the_umask)
{
    static const mode_t modes[] = {0660, 0600, 0666};
    for (size_t i = 0; i < N(modes); i++) {
        struct memory memory;
        struct error err = {""};
        mode_t before = umask(077);
        int rc = create(&memory, bus_of_test(), modes[i], &err);
        umask(before);
        cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
        for (size_t k = 0; k < N(parts); k++) {
            struct stat found;
            char path[300];
            snprintf(path, sizeof path, "/dev/shm/evbus.%s.%s", bus_of_test(), parts[k]);
            cr_assert_eq(stat(path, &found), 0, "%s", path);
            cr_expect_eq(found.st_mode & 07777, modes[i], "%s: %o", parts[k], found.st_mode);
        }
        end(&memory);
    }
}

Test(memory, a_bus_that_exists_is_not_made_again)
{
    struct memory first = made(bus_of_test());
    struct memory second;
    struct error err = {""};
    uint8_t uuid[16];
    memcpy(uuid, first.control->uuid, sizeof uuid);
    cr_expect_eq(create(&second, bus_of_test(), 0600, &err), EVBUS_EDUPLICATE, "%s", err.text);
    cr_expect_not_null(strstr(err.text, "exists already"), "%s", err.text);
    cr_assert_eq(memory_open(&second, bus_of_test(), &err), EVBUS_OK, "the first is as it was: %s", err.text);
    cr_expect_arr_eq(second.control->uuid, uuid, sizeof uuid);
    memory_close(&second);
    end(&first);
}

Test(memory, a_name_is_checked)
{
    static const struct {
        const char *bus;
        int code;
    } rows[] = {
        {"lomash", EVBUS_OK},
        {"0", EVBUS_OK},
        {"a-b_c9", EVBUS_OK},
        {"", EVBUS_EINVAL},
        {"-a", EVBUS_EINVAL},
        {"_a", EVBUS_EINVAL},
        {"a.b", EVBUS_EINVAL},
        {"a/b", EVBUS_EINVAL},
        {"../a", EVBUS_EINVAL},
        {"A", EVBUS_EINVAL},
        {"a b", EVBUS_EINVAL},
        {"\xc3\xa4", EVBUS_EINVAL},
        {"a\n", EVBUS_EINVAL},
        {"123456789012345678901234567890123456789012345678901234567890123", EVBUS_OK},
        {"1234567890123456789012345678901234567890123456789012345678901234", EVBUS_EINVAL},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct memory memory;
        struct error err = {""};
        cr_expect_eq(memory_check_name(rows[i].bus, &err), rows[i].code, "\"%s\"", rows[i].bus);
        if (rows[i].code == EVBUS_OK)
            continue;
        cr_expect_eq(memory_open(&memory, rows[i].bus, &err), EVBUS_EINVAL, "\"%s\"", rows[i].bus);
        cr_expect_eq(create(&memory, rows[i].bus, 0600, &err), EVBUS_EINVAL, "\"%s\"", rows[i].bus);
        cr_expect_eq(retire_remove(rows[i].bus, &err), EVBUS_EINVAL, "\"%s\"", rows[i].bus);
    }
}

Test(memory, a_catalogue_that_is_too_long_is_refused_before_anything_is_made)
{
    struct memory memory;
    struct error err = {""};
    struct catalogue *catalogue = parsed();
    static char text[CATALOGUE_BYTES + 1];
    cr_expect_eq(memory_create(&memory, bus_of_test(), catalogue, text, sizeof text, 0600, (gid_t)-1, NULL, &err),
                 EVBUS_ECATALOGUE);
    cr_expect_eq(count_objects(bus_of_test()), 0);
    catalogue_free(catalogue);
}

Test(memory, a_bus_that_does_not_exist_is_not_made_by_opening_it)
{
    struct memory memory;
    struct error err = {""};
    retire_remove(bus_of_test(), NULL);
    cr_expect_eq(memory_open(&memory, bus_of_test(), &err), EVBUS_ENOBUS);
    cr_expect_not_null(strstr(err.text, "init"), "%s", err.text);
    cr_expect_eq(count_objects(bus_of_test()), 0);
}

/* ---- half made ---- */

Test(memory, a_bus_that_is_being_made_is_not_open_yet)
{
    struct memory maker, memory;
    struct error err = {""};
    retire_remove(bus_of_test(), NULL);
    cr_assert_eq(create(&maker, bus_of_test(), 0600, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(memory_open(&memory, bus_of_test(), &err), EVBUS_ENOBUS);
    cr_expect_not_null(strstr(err.text, "just being made"), "%s", err.text);
    cr_expect_eq(create(&memory, bus_of_test(), 0600, &err), EVBUS_EDUPLICATE, "nor taken away: %s", err.text);
    memory_ready(&maker);
    cr_expect_eq(memory_open(&memory, bus_of_test(), &err), EVBUS_OK, "%s", err.text);
    memory_close(&memory);
    end(&maker);
}

static int make_and_die(void *context)
{
    struct memory memory;
    struct error err = {""};
    if (create(&memory, context, 0600, &err) != EVBUS_OK)
        return 1;
    return 0; /* without memory_ready() */
}

Test(memory, what_a_dead_maker_left_is_told_and_made_anew)
{
    char bus[64];
    strcpy(bus, bus_of_test());
    struct memory memory;
    struct error err = {""};
    retire_remove(bus, NULL);
    struct child child = child_start(make_and_die, bus);
    cr_assert_eq(child_join(&child), 0);
    cr_expect_eq(count_objects(bus), (int)N(parts));
    cr_expect_eq(memory_open(&memory, bus, &err), EVBUS_ENOBUS);
    cr_expect_not_null(strstr(err.text, "half made"), "%s", err.text);
    cr_expect_eq(count_objects(bus), (int)N(parts), "opening clears nothing away");
    memory = made(bus);
    cr_expect_eq(count_objects(bus), (int)N(parts));
    end(&memory);
}

Test(memory, objects_that_a_dead_maker_had_just_begun_are_in_nobodys_way)
{
    static const struct {
        const char *label;
        const char *part;
        off_t len;
    } rows[] = {
        {"a control object without a size", "control", 0},
        {"a control object without a content", "control", (off_t)sizeof(struct control)},
        {"a log without a size", "test.a", 0},
        {"a log without a content", "test.b", 1 << 20},
        {"dead letters without a size", "test.dlq", 0},
        {"notes without a content", "test.evbus", 1 << 20},
    };
    for (size_t i = 0; i < N(rows); i++) {
        char name[256];
        struct memory memory;
        struct error err = {""};
        retire_remove(bus_of_test(), NULL);
        region_name(bus_of_test(), rows[i].part, name);
        int fd = shm_open(name, O_CREAT | O_EXCL | O_RDWR, 0600);
        cr_assert_geq(fd, 0);
        cr_assert_eq(ftruncate(fd, rows[i].len), 0);
        close(fd);
        int rc = memory_open(&memory, bus_of_test(), &err);
        cr_expect(rc == EVBUS_ENOBUS || rc == EVBUS_ECORRUPT, "%s: %d %s", rows[i].label, rc, err.text);
        rc = create(&memory, bus_of_test(), 0600, &err);
        cr_expect_eq(rc, EVBUS_OK, "%s: %d %s", rows[i].label, rc, err.text);
        if (rc == EVBUS_OK)
            memory_close(&memory);
        cr_expect_eq(retire_remove(bus_of_test(), &err), EVBUS_OK, "%s: %s", rows[i].label, err.text);
        cr_expect_eq(count_objects(bus_of_test()), 0, "%s", rows[i].label);
    }
}

/* Of many who make it at the same time one wins, and it is whole. */
static int make_at_the_same_time(void *context)
{
    struct memory memory;
    struct error err = {""};
    int rc = create(&memory, context, 0600, &err);
    if (rc == EVBUS_OK)
        memory_ready(&memory);
    return rc == EVBUS_OK ? 0 : rc == EVBUS_EDUPLICATE || rc == EVBUS_EBUSY ? 1 : 2;
}

Test(memory, of_many_makers_at_the_same_time_one_wins)
{
    char bus[64];
    strcpy(bus, bus_of_test());
    for (int round = 0; round < 10; round++) {
        struct child children[6];
        int n_won = 0;
        retire_remove(bus, NULL);
        for (size_t i = 0; i < N(children); i++)
            children[i] = child_start(make_at_the_same_time, bus);
        for (size_t i = 0; i < N(children); i++) {
            int status = child_join(&children[i]);
            cr_assert(status == 0 || status == 1, "status %d", status);
            n_won += status == 0;
        }
        cr_assert_eq(n_won, 1, "%d won", n_won);
        struct memory memory;
        struct error err = {""};
        cr_assert_eq(memory_open(&memory, bus, &err), EVBUS_OK, "%s", err.text);
        end(&memory);
    }
}

/* ---- foreign and damaged ---- */

enum damage {
    CONTROL_MAGIC_CHANGED,
    CONTROL_FINGERPRINT,
    CONTROL_RETIRED,
    CONTROL_CUT,
    CONTROL_EMPTY,
    NO_LOGS,
    TOO_MANY_LOGS,
    LOG_NAME_WITHOUT_END,
    LOG_GONE,
    LOG_MAGIC_CHANGED,
    LOG_FINGERPRINT,
    LOG_UUID,
    LOG_CUT,
    LOG_EMPTY,
    LOG_CELLS_0,
    LOG_CELLS_ODD,
    LOG_CELLS_MANY,
    LOG_CELLS_MAX,
    LOG_PARTITIONS_0,
    LOG_PARTITIONS_MANY,
    LOG_PARTITIONS_MAX,
    LOG_NAME_CHANGED,
    LOG_NAME_FULL
};

static void cut(const char *part, off_t len)
{
    char name[256];
    region_name(bus_of_test(), part, name);
    int fd = shm_open(name, O_RDWR, 0);
    cr_assert(fd >= 0 && ftruncate(fd, len) == 0);
    close(fd);
}

static void damage(struct memory *memory, enum damage what)
{
    struct control *control = memory->control;
    struct log_head *log = memory->logs[1].head;
    char name[256];
    switch (what) {
    case CONTROL_MAGIC_CHANGED:
        control->magic ^= 1;
        break;
    case CONTROL_FINGERPRINT:
        control->fingerprint ^= 1;
        break;
    case CONTROL_RETIRED:
        atomic_store(&control->retired, 1);
        break;
    case CONTROL_CUT:
        cut("control", sizeof(struct control) - 4096);
        break;
    case CONTROL_EMPTY:
        cut("control", 0);
        break;
    case NO_LOGS:
        atomic_store(&control->n_logs, 0);
        break;
    case TOO_MANY_LOGS:
        atomic_store(&control->n_logs, LOGS_MAX + 1);
        break;
    case LOG_NAME_WITHOUT_END:
        memset(control->logs[1], 'x', NAME_BYTES);
        break;
    case LOG_GONE:
        region_name(bus_of_test(), "test.b", name);
        shm_unlink(name);
        break;
    case LOG_MAGIC_CHANGED:
        log->magic ^= 1;
        break;
    case LOG_FINGERPRINT:
        log->fingerprint ^= 1;
        break;
    case LOG_UUID:
        log->uuid[15] ^= 1;
        break;
    case LOG_CUT:
        cut("test.b", (off_t)memory->logs[1].region.len_bytes - 1);
        break;
    case LOG_EMPTY:
        cut("test.b", 0);
        break;
    case LOG_CELLS_0:
        log->n_cells = 0;
        break;
    case LOG_CELLS_ODD:
        log->n_cells = 1023;
        break;
    case LOG_CELLS_MANY:
        log->n_cells = 2048;
        break;
    case LOG_CELLS_MAX:
        log->n_cells = UINT64_C(1) << 63;
        break;
    case LOG_PARTITIONS_0:
        log->n_partitions = 0;
        break;
    case LOG_PARTITIONS_MANY:
        log->n_partitions = 3;
        break;
    case LOG_PARTITIONS_MAX:
        log->n_partitions = UINT32_MAX;
        break;
    case LOG_NAME_CHANGED:
        log->name[0] = 'T';
        break;
    case LOG_NAME_FULL:
        memset(log->name, 'x', sizeof log->name);
        break;
    }
}

Test(memory, what_is_foreign_or_damaged_is_refused_and_can_be_removed)
{
    static const struct {
        const char *label;
        enum damage damage;
        int code;
    } rows[] = {
        {"no control object", CONTROL_MAGIC_CHANGED, EVBUS_ECORRUPT},
        {"a control object of another build", CONTROL_FINGERPRINT, EVBUS_ELAYOUT},
        {"a retired bus", CONTROL_RETIRED, EVBUS_ESTALE},
        {"a control object that was cut", CONTROL_CUT, EVBUS_ECORRUPT},
        {"an empty control object: half made", CONTROL_EMPTY, EVBUS_ENOBUS},
        {"no logs", NO_LOGS, EVBUS_ECORRUPT},
        {"too many logs", TOO_MANY_LOGS, EVBUS_ECORRUPT},
        {"a log's name without an end", LOG_NAME_WITHOUT_END, EVBUS_ECORRUPT},
        {"a log that is gone", LOG_GONE, EVBUS_ECORRUPT},
        {"no log", LOG_MAGIC_CHANGED, EVBUS_ECORRUPT},
        {"a log of another build", LOG_FINGERPRINT, EVBUS_ELAYOUT},
        {"a log of another bus", LOG_UUID, EVBUS_ECORRUPT},
        {"a log that was cut", LOG_CUT, EVBUS_ECORRUPT},
        {"an empty log", LOG_EMPTY, EVBUS_ECORRUPT},
        {"rings of no cells", LOG_CELLS_0, EVBUS_ECORRUPT},
        {"rings whose size is no power of two", LOG_CELLS_ODD, EVBUS_ECORRUPT},
        {"rings larger than their object", LOG_CELLS_MANY, EVBUS_ECORRUPT},
        {"rings of 2^63 cells", LOG_CELLS_MAX, EVBUS_ECORRUPT},
        {"no partitions", LOG_PARTITIONS_0, EVBUS_ECORRUPT},
        {"more partitions than fit", LOG_PARTITIONS_MANY, EVBUS_ECORRUPT},
        {"2^32 partitions", LOG_PARTITIONS_MAX, EVBUS_ECORRUPT},
        {"another log's name", LOG_NAME_CHANGED, EVBUS_ECORRUPT},
        {"a name without an end", LOG_NAME_FULL, EVBUS_ECORRUPT},
    };
    for (size_t i = 0; i < N(rows); i++) {
        struct memory maker = made(bus_of_test());
        struct memory memory = {.n_logs = 4711};
        struct error err = {""};
        damage(&maker, rows[i].damage);
        int rc = memory_open(&memory, bus_of_test(), &err);
        cr_expect_eq(rc, rows[i].code, "%s: %d %s", rows[i].label, rc, err.text);
        cr_expect_str_not_empty(err.text, "%s", rows[i].label);
        cr_expect_eq(memory.n_logs, 4711, "%s: the result is untouched on failure", rows[i].label);
        cr_expect_eq(retire_remove(bus_of_test(), &err), EVBUS_OK, "%s: %s", rows[i].label, err.text);
        cr_expect_eq(count_objects(bus_of_test()), 0, "%s", rows[i].label);
        memory_close(&maker);
    }
}

/* ---- remove ---- */

/* [R16] */
Test(memory, who_still_has_a_removed_bus_mapped_sees_it_retired)
{
    struct memory memory = made(bus_of_test());
    struct error err = {""};
    cr_expect_not(memory_is_retired(&memory));
    cr_assert_eq(retire_remove(bus_of_test(), &err), EVBUS_OK, "%s", err.text);
    cr_expect(memory_is_retired(&memory));
    cr_expect_eq(count_objects(bus_of_test()), 0);
    struct memory next = made(bus_of_test());
    cr_expect(memory_is_retired(&memory));
    cr_expect_not(memory_is_retired(&next), "a new bus of that name is another one");
    memory_close(&memory);
    end(&next);
}

Test(memory, removing_what_is_not_there_is_told)
{
    struct error err = {""};
    retire_remove(bus_of_test(), NULL);
    cr_expect_eq(retire_remove(bus_of_test(), &err), EVBUS_ENOBUS);
    cr_expect_not_null(strstr(err.text, bus_of_test()), "%s", err.text);
}

Test(memory, what_a_killed_remove_left_is_removed_by_the_next)
{
    for (size_t i = 0; i < N(parts); i++) {
        struct memory memory = made(bus_of_test());
        struct error err = {""};
        char name[256];
        region_name(bus_of_test(), parts[i], name);
        cr_assert_eq(shm_unlink(name), 0);
        cr_expect_eq(retire_remove(bus_of_test(), &err), EVBUS_OK, "without %s: %s", parts[i], err.text);
        cr_expect_eq(count_objects(bus_of_test()), 0, "without %s", parts[i]);
        memory_close(&memory);
    }
}

Test(memory, removing_a_bus_leaves_those_whose_names_begin_alike)
{
    char longer[80];
    struct memory memory = made(bus_of_test());
    struct error err = {""};
    snprintf(longer, sizeof longer, "%s-2", bus_of_test());
    struct memory other = made(longer);
    cr_assert_eq(retire_remove(bus_of_test(), &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(count_objects(longer), (int)N(parts));
    cr_expect_not(memory_is_retired(&other));
    memory_close(&memory);
    end(&other);
}

/* ---- no room ---- */

enum { CANNOT = 77 };

/* In a mount namespace of our own, where /dev/shm has room for the control object alone, or a log more. */
static int make_without_room(void *context)
{
    struct memory memory;
    struct error err = {""};
    (void)context;
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0)
        return CANNOT;
    struct catalogue *catalogue = parsed();
    size_t needed = memory_bytes(catalogue);
    catalogue_free(catalogue);
    for (size_t part = 1; part <= 8; part++) {
        char size[64];
        snprintf(size, sizeof size, "size=%zu", needed / 9 * part / 4096 * 4096);
        if (mount("tmpfs", "/dev/shm", "tmpfs", 0, size) != 0)
            return CANNOT;
        if (create(&memory, "no-room", 0600, &err) != EVBUS_ENOSPC || strstr(err.text, "/dev/shm") == NULL)
            return 1;
        if (count_objects("no-room") != 0)
            return 2;
        if (umount("/dev/shm") != 0)
            return 3;
    }
    return 0;
}

/* [R15] */
Test(memory, a_bus_that_does_not_fit_is_refused_and_leaves_nothing)
{
    struct child child = child_start(make_without_room, NULL);
    int status = child_join(&child);
    if (status == CANNOT)
        cr_skip_test("needs a mount namespace of its own");
    cr_expect_eq(status, 0, "step %d", status);
}
