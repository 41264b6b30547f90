/* test_saved.c: what the groups have done, as text and file; how they come back is test_recover.c's. */
#include "allocations.h"
#include "archive.h"
#include "clock.h"
#include "saved.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void end(struct archive *archive)
{
    evbus_close(archive->bus);
    evbus_remove(archive->name);
}

static char *snapshot(const struct archive *archive)
{
    struct error err = {""};
    char *text;
    size_t len;
    cr_assert_eq(saved_snapshot(&archive->bus->memory, &text, &len, &err), EVBUS_OK, "%s", err.text);
    cr_assert_eq(strlen(text), len);
    return text;
}

/* A member that has an event in hand. */
static struct evbus_subscription *take_one(struct archive *archive, struct evbus_delivery *out_event)
{
    cr_assert_eq(archive_publish(archive->bus, "test.a.one", 0, 100), EVBUS_OK);
    struct evbus_subscription *sub = archive_join(archive->bus, "team");
    archive_receive(sub, out_event);
    return sub;
}

Test(saved, is_the_same_text_while_nothing_is_done)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct evbus_delivery event;
    struct evbus_subscription *sub = take_one(&archive, &event);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "later"), EVBUS_OK);
    clock_freeze();
    char *one = snapshot(&archive);
    char *two = snapshot(&archive);
    cr_expect_str_eq(one, two);
    cr_expect_not_null(strstr(one, "\"name\":\"team\""), "%s", one);
    clock_release();
    free(one);
    free(two);
    evbus_unsubscribe(sub);
    end(&archive);
}

/* The text says another thing now; does the digest, too? */
static void expect_another(const struct archive *archive, char **inout_text, uint64_t *inout_digest, const char *what)
{
    uint64_t digest = saved_digest(&archive->bus->memory);
    char *text = snapshot(archive);
    cr_expect_str_neq(text, *inout_text, "%s: not saved at all", what);
    cr_expect_neq(digest, *inout_digest, "%s: not seen by the digest", what);
    cr_expect_eq(saved_digest(&archive->bus->memory), digest, "%s: it is another one of the same state", what);
    free(*inout_text);
    *inout_text = text;
    *inout_digest = digest;
}

Test(saved, has_another_digest_whenever_the_text_is_another)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct evbus_delivery event;
    clock_freeze();
    char *text = snapshot(&archive);
    uint64_t digest = saved_digest(&archive.bus->memory);
    struct evbus_subscription *sub = take_one(&archive, &event);
    expect_another(&archive, &text, &digest, "an event in hand");
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_RETRY, "later"), EVBUS_OK);
    expect_another(&archive, &text, &digest, "one that waits");
    clock_advance(3600 * CLOCK_NS_PER_S);
    archive_receive(sub, &event);
    expect_another(&archive, &text, &digest, "the next attempt");
    uint64_t defer_ns = 7200 * CLOCK_NS_PER_S;
    *event.defer_ns = defer_ns;
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DEFER, NULL), EVBUS_OK);
    expect_another(&archive, &text, &digest, "one that is put off");
    clock_advance(defer_ns);
    archive_receive(sub, &event);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    expect_another(&archive, &text, &digest, "one that is done");
    const char *pattern = "test.a.one";
    struct evbus_group_options other = {.size = sizeof other, .group = "other", .patterns = &pattern, .n_patterns = 1};
    cr_assert_eq(evbus_group_add(archive.bus, &other), EVBUS_OK);
    expect_another(&archive, &text, &digest, "a group more");
    cr_assert_eq(evbus_group_remove(archive.bus, "other"), EVBUS_OK);
    expect_another(&archive, &text, &digest, "a group less");
    clock_release();
    free(text);
    evbus_unsubscribe(sub);
    end(&archive);
}

/* What is in hand and left out would count as done. */
#if CAN_FAIL_ALLOCATIONS
Test(saved, is_no_text_where_memory_has_run_out_for_any_of_it)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct evbus_delivery event;
    struct evbus_subscription *sub = take_one(&archive, &event);
    clock_freeze();
    char *whole = snapshot(&archive);
    for (long nth = 1;; nth++) {
        struct error err = {""};
        char *text = NULL;
        size_t len;
        fail_allocation(nth);
        int rc = saved_snapshot(&archive.bus->memory, &text, &len, &err);
        bool has_struck = fail_allocation(0);
        cr_expect_eq(rc, has_struck ? EVBUS_ENOSPC : EVBUS_OK, "allocation %ld: %d", nth, rc);
        if (rc == EVBUS_OK)
            cr_expect_str_eq(text, whole, "allocation %ld", nth);
        free(text);
        if (!has_struck)
            break;
    }
    clock_release();
    free(whole);
    cr_assert_eq(evbus_finish(sub, &event, EVBUS_DONE, NULL), EVBUS_OK);
    evbus_unsubscribe(sub);
    end(&archive);
}
#endif

Test(saved, leaves_out_groups_that_end_with_their_members)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct evbus_subscription *sub = NULL;
    const char *pattern = "test.a.one";
    cr_assert_eq(evbus_subscribe(&sub, archive.bus,
                                 &(struct evbus_subscribe_options){
                                     .group = "passing", .patterns = &pattern, .n_patterns = 1, .ephemeral = true}),
                 EVBUS_OK);
    char *text = snapshot(&archive);
    cr_expect_null(strstr(text, "passing"), "%s", text);
    free(text);
    evbus_unsubscribe(sub);
    end(&archive);
}

Test(saved, keeps_the_file_before_and_removes_older_ones)
{
    struct archive archive = archive_make((struct archive_options){0});
    struct error err = {""};
    struct term term = {.incarnation = 1, .number = 5};
    for (uint32_t n = 1; n <= 4; n++)
        cr_assert_eq(saved_write(&archive.bus->memory, term, n, "{}", 2, &err), EVBUS_OK, "%s", err.text);
    cr_expect_eq(folder_count(&archive.folder, ".00000003"), 1);
    cr_expect_eq(folder_count(&archive.folder, ".00000004"), 1);
    cr_expect_eq(folder_count(&archive.folder, ".00000002") + folder_count(&archive.folder, ".00000001"), 0);
    term.number = 4; /* a keeper that was deposed and writes late */
    cr_assert_eq(saved_write(&archive.bus->memory, term, 9, "{}", 2, &err), EVBUS_OK);
    cr_expect_eq(folder_count(&archive.folder, ".00000004"), 1, "it takes nothing of a later term away");
    end(&archive);
}
