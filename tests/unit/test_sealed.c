/* test_sealed.c: a file whose first line proves the rest. */
#include "folder.h"
#include "sealed.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t ours[16] = {1, 2, 3}, theirs[16] = {9};

static int read_it(const char *path, char **out, struct error *err)
{
    size_t len;
    return sealed_read(path, "groups", ours, out, &len, err);
}

Test(sealed, gives_back_what_was_written)
{
    struct folder folder = folder_make();
    char path[FILE_PATH_MAX], *text;
    struct error err = {""};
    file_path(path, folder.path, "groups.1");
    cr_expect_eq(read_it(path, &text, &err), EVBUS_ENOTFOUND);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(sealed_write(path, "groups", ours, i == 0 ? "{}" : "", i == 0 ? 2 : 0, &err), EVBUS_OK, "%s",
                     err.text);
        cr_assert_eq(read_it(path, &text, &err), EVBUS_OK, "%s", err.text);
        cr_expect_str_eq(text, i == 0 ? "{}" : "");
        free(text);
    }
}

Test(sealed, refuses_every_bit_that_is_flipped_and_every_cut)
{
    struct folder folder = folder_make();
    char path[FILE_PATH_MAX], *text;
    struct error err = {""};
    file_path(path, folder.path, "groups.1");
    cr_assert_eq(sealed_write(path, "groups", ours, "{\"a\":1}", 7, &err), EVBUS_OK);
    size_t len = folder_len(path);
    for (size_t bit = 0; bit < len * 8; bit++) {
        folder_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
        cr_expect_eq(read_it(path, &text, &err), EVBUS_ECORRUPT, "bit %zu: %s", bit, err.text);
        cr_expect_not_null(strstr(err.text, "groups.1 is damaged"), "%s", err.text);
        folder_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
    }
    cr_expect_eq(read_it(path, &text, &err), EVBUS_OK);
    free(text);
}

Test(sealed, tells_another_bus_and_another_kind)
{
    struct folder folder = folder_make();
    char path[FILE_PATH_MAX], *text;
    size_t len;
    struct error err = {""};
    file_path(path, folder.path, "groups.1");
    cr_assert_eq(sealed_write(path, "groups", theirs, "{}", 2, &err), EVBUS_OK);
    cr_expect_eq(read_it(path, &text, &err), EVBUS_ECONFLICT);
    cr_expect_not_null(strstr(err.text, "is of another bus"), "%s", err.text);
    cr_expect_eq(sealed_read(path, "catalogue", theirs, &text, &len, &err), EVBUS_ECORRUPT);
}
