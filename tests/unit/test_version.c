/* test_version.c: one version has one spelling; which of several a group gets. */
#include "version.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

Test(version, reads_major_and_minor)
{
    static const struct {
        const char *text;
        uint16_t major, minor;
    } rows[] = {
        {"1.0", 1, 0}, {"2.0", 2, 0}, {"1", 1, 0}, {"7.12", 7, 12}, {"65535.65535", 65535, 65535},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t major = 99, minor = 99;
        struct error err = {""};
        int rc = version_parse(rows[i].text, strlen(rows[i].text), &major, &minor, &err);
        cr_expect_eq(rc, EVBUS_OK, "%s: %s", rows[i].text, err.text);
        cr_expect(major == rows[i].major && minor == rows[i].minor, "%s became %u.%u", rows[i].text, major, minor);
    }
}

Test(version, refuses_every_other_spelling)
{
    static const char *const rows[] = {
        "",      ".",    "1.",  ".1",   "0",    "0.1",   "01.0", "1.00",    "1.01",    "+1.0",
        "-1.0",  "1.-1", "1,0", " 1.0", "1.0 ", "1.0.0", "v1",   "65536.0", "1.65536", "99999999999999999999.0",
        "1.0e1", "one",
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint16_t major = 99, minor = 98;
        struct error err = {""};
        int rc = version_parse(rows[i], strlen(rows[i]), &major, &minor, &err);
        cr_expect_eq(rc, EVBUS_EINVAL, "\"%s\" passed as %u.%u", rows[i], major, minor);
        cr_expect(strstr(err.text, rows[i]) != NULL, "\"%s\": the message must show it: %s", rows[i], err.text);
        cr_expect(major == 99 && minor == 98, "\"%s\": results must be untouched on failure", rows[i]);
    }
}

Test(version, stops_at_the_length_it_was_given)
{
    uint16_t major = 0, minor = 0;
    cr_assert_eq(version_parse("1.25", 3, &major, &minor, NULL), EVBUS_OK);
    cr_assert(major == 1 && minor == 2);
    cr_assert_eq(version_parse("1\0000", 3, &major, &minor, NULL), EVBUS_EINVAL, "a NUL is no digit");
}

/* --- what a group accepts --------------------------------------------------------------------------------------------------- */

static struct version_accepts accepts_of(const char *words)
{
    struct version_accepts accepts = {.n = 0};
    while (*words != '\0') {
        size_t len = strcspn(words, " ");
        struct error err = {""};
        int rc = version_accept_parse(words, len, &accepts.list[accepts.n++], &err);
        cr_assert_eq(rc, EVBUS_OK, "%s", err.text);
        words += len + (words[len] == ' ');
    }
    return accepts;
}

Test(version, without_a_minor_any_is_accepted_with_one_exactly_that)
{
    struct version_accepts accepts = accepts_of("1 2.0 3.65535");
    char text[64];
    cr_expect(accepts.list[0].major == 1 && accepts.list[0].minor_min == 0 && accepts.list[0].minor_max == UINT16_MAX);
    cr_expect(accepts.list[1].major == 2 && accepts.list[1].minor_min == 0 && accepts.list[1].minor_max == 0);
    cr_expect_str_eq(version_accepts_text(&accepts, text, sizeof text), "1, 2.0, 3.65535");
    for (size_t cap = 1; cap <= 16; cap++) {
        version_accepts_text(&accepts, text, cap);
        cr_expect_eq(strlen(text), cap - 1 < 15 ? cap - 1 : 15, "cap %zu: %s", cap, text);
    }
    struct version_accept untouched = {.major = 9};
    struct error err = {""};
    cr_expect_eq(version_accept_parse("2.", 2, &untouched, &err), EVBUS_EINVAL);
    cr_expect_eq(untouched.major, 9);
}

static bool raises(const void *context, uint16_t major)
{
    const char *majors = context;
    return strchr(majors, '0' + major) != NULL;
}

struct choice_row {
    const char *what, *accepts, *published, *raises, *chosen;
};

static const struct choice_row choice_rows[] = {
    {"nothing said: the lowest", "", "1.1 1.0 2.0", "", "1.0"},
    {"nothing said: never raised", "", "1.0", "1", "1.0"},
    {"any minor: the highest", "1", "1.0 1.7 1.3 2.0", "", "1.7"},
    {"exactly this minor", "1.3", "1.0 1.7 1.3", "", "1.3"},
    {"of several the highest", "1 2.0", "1.0 2.0", "", "2.0"},
    {"the order of the entries says nothing", "2.0 1", "2.0 1.0", "", "2.0"},
    {"another minor of the same major does not fit", "2.0 1", "1.0 2.1", "", "1.0"},
    {"none", "2", "1.0 3.0", "", ""},
    {"raised", "2", "1.0", "1", "1.0>2"},
    {"raised from the highest below", "2.0", "1.0 1.4 3.0", "1", "1.4>2"},
    {"a chain", "3", "1.0", "12", "1.0>3"},
    {"a chain with a gap", "4", "1.0", "13", ""},
    {"a chain from the highest below, not the lowest", "3", "1.0 2.5", "12", "2.5>3"},
    {"nobody makes a minor", "2.1", "1.0", "1", ""},
    {"published comes before made", "1 2", "1.0", "1", "1.0"},
    {"the highest that can be made", "2 3", "1.0", "12", "1.0>3"},
    {"the highest that can be made, though a higher is wanted", "2 4", "1.0", "1", "1.0>2"},
    {"nobody goes back", "1", "2.0", "123", ""},
};

static void check_choice(const char *what, const char *accepts_words, const char *published_words, const char *majors,
                         const char *wanted)
{
    struct version_accepts accepts = accepts_of(accepts_words);
    struct version_accepts listed = accepts_of(published_words);
    struct version published[VERSION_ACCEPTS_MAX];
    struct version_choice choice = {.to_major = 99};
    char got[32] = "";
    for (uint32_t i = 0; i < listed.n; i++)
        published[i] = (struct version){listed.list[i].major, listed.list[i].minor_min};
    bool is_found = version_choose(&accepts, published, listed.n, raises, majors, &choice);
    if (is_found && choice.to_major != 0)
        snprintf(got, sizeof got, "%u.%u>%u", choice.from.major, choice.from.minor, choice.to_major);
    else if (is_found)
        snprintf(got, sizeof got, "%u.%u", choice.from.major, choice.from.minor);
    cr_expect_str_eq(got, wanted, "%s: accepts %s, published %s, raises %s", what, accepts_words, published_words,
                     majors);
    cr_expect(is_found || choice.to_major == 99, "%s: untouched on failure", what);
}

Test(version, a_group_gets_exactly_one_of_an_events_versions_or_none)
{
    for (size_t i = 0; i < sizeof choice_rows / sizeof choice_rows[0]; i++)
        check_choice(choice_rows[i].what, choice_rows[i].accepts, choice_rows[i].published, choice_rows[i].raises,
                     choice_rows[i].chosen);
}

/* What the rules say, found by trying all there is, as words. */
static void expected_of(const char *const *entries, unsigned n_entries, const char *const *published, unsigned n,
                        const char *majors, char out[32])
{
    static const char *const ascending[] = {"1.0", "1.1", "2.0", "2.1", "3.0", "3.1"};
    out[0] = '\0';
    for (unsigned v = 0; v < 6; v++) { /* the later, the higher */
        bool is_there = false, is_wanted = n_entries == 0 && out[0] == '\0';
        for (unsigned i = 0; i < n; i++)
            is_there = is_there || strcmp(published[i], ascending[v]) == 0;
        for (unsigned e = 0; e < n_entries; e++)
            is_wanted = is_wanted || strncmp(entries[e], ascending[v], strlen(entries[e])) == 0;
        if (is_there && is_wanted)
            strcpy(out, ascending[v]);
    }
    for (char to = '2'; to <= '3' && (out[0] == '\0' || out[3] == '>'); to++)
        for (unsigned e = 0; e < n_entries; e++) {
            const char *from = "";
            if (entries[e][0] != to || strcmp(entries[e] + 1, ".1") == 0)
                continue;
            for (unsigned i = 0; i < n; i++)
                if (published[i][0] < to && strcmp(published[i], from) > 0)
                    from = published[i];
            bool is_whole = from[0] != '\0';
            for (char major = from[0]; is_whole && major < to; major++)
                is_whole = strchr(majors, major) != NULL;
            if (is_whole)
                snprintf(out, 32, "%s>%c", from, to);
        }
}

Test(version, of_all_small_cases_none_is_chosen_otherwise)
{
    static const char *const entries[] = {"1", "1.0", "1.1", "2", "2.0", "2.1", "3", "3.0", "3.1"};
    static const char *const versions[] = {"2.1", "1.0", "3.0", "1.1", "2.0", "3.1"};
    static const char *const majors[] = {"", "1", "2", "12"};
    for (unsigned accepted = 0; accepted < 100; accepted++) /* none, one, two, also the same twice */
        for (unsigned set = 1; set < 64; set++)
            for (unsigned m = 0; m < 4; m++) {
                char accepts[64] = "", published[64] = "", wanted[32];
                const char *chosen[2], *there[6];
                unsigned n = 0, n_there = 0;
                if (accepted / 10 > 0)
                    chosen[n++] = entries[accepted / 10 - 1];
                if (accepted % 10 > 0)
                    chosen[n++] = entries[accepted % 10 - 1];
                for (unsigned i = 0; i < n; i++)
                    strcat(strcat(accepts, i > 0 ? " " : ""), chosen[i]);
                for (unsigned i = 0; i < 6; i++)
                    if ((set >> i & 1) != 0)
                        there[n_there++] = versions[i];
                for (unsigned i = 0; i < n_there; i++)
                    strcat(strcat(published, i > 0 ? " " : ""), there[i]);
                expected_of(chosen, n, there, n_there, majors[m], wanted);
                check_choice("small", accepts, published, majors[m], wanted);
            }
}
