/* version.c: the version of a payload's schema, MAJOR.MINOR, and which of several a group gets.
 *
 * A new MAJOR breaks readers, a new MINOR only adds ("Event Schema Versioning" of the ADR). "2" means 2.0. One version
 * has one spelling, so "02.0", "+2" and "2.00" are refused: whoever compares texts and whoever compares numbers agree.
 *
 * A group accepts versions by entries: "1" is any 1.x, "2.0" exactly that. It gets one of an event's versions:
 *
 *     it says nothing       the lowest, so that a second version beside the first changes nothing for it
 *     one or more fit       the highest of them
 *     none fits             of what its entries name, the highest MAJOR.0 that a chain of upcasters makes: out of the highest version
 *                           that was published below it. A chain from a lower one would pass through that one's major, too
 *     no chain either       none
 *
 * What was published comes before what is made: whoever accepts 1 and 2 and can raise 1 gets a 1.0 as it is.
 * Pure functions. Checked by tests/unit/test_version.c. */
#include "version.h"

#include <stdio.h>
#include <string.h>

/* Digits without a leading zero, 0..65535. Returns where they end, NULL when there are none such. */
static const char *number_end(const char *at, const char *end, uint32_t *out_value)
{
    const char *begin = at;
    uint32_t value = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        value = value * 10 + (uint32_t)(*at - '0');
        if (value > UINT16_MAX)
            return NULL;
    }
    if (at == begin || (*begin == '0' && at - begin > 1))
        return NULL;
    *out_value = value;
    return at;
}

int version_parse(const char *text, size_t len, uint16_t *out_major, uint16_t *out_minor, struct error *err)
{
    uint32_t major = 0, minor = 0;
    const char *end = text + len;
    const char *at = number_end(text, end, &major);
    if (at != NULL && at < end)
        at = *at == '.' ? number_end(at + 1, end, &minor) : NULL;
    if (at != end || major == 0)
        return error_set(err, EVBUS_EINVAL,
                         "version \"%.*s\" is not MAJOR.MINOR, as in \"1.0\"; major 1 to 65535, minor 0 to 65535, no "
                         "leading zeros",
                         len < 40 ? (int)len : 40, text);
    *out_major = (uint16_t)major;
    *out_minor = (uint16_t)minor;
    return EVBUS_OK;
}

int version_accept_parse(const char *text, size_t len, struct version_accept *out, struct error *err)
{
    struct version_accept accept = {0};
    int rc = version_parse(text, len, &accept.major, &accept.minor_min, err);
    if (rc != EVBUS_OK)
        return rc;
    accept.minor_max = memchr(text, '.', len) != NULL ? accept.minor_min : UINT16_MAX;
    *out = accept;
    return EVBUS_OK;
}

const char *version_accept_text(const struct version_accept *accept, char buffer[VERSION_TEXT_MAX])
{
    if (accept->minor_min == accept->minor_max)
        snprintf(buffer, VERSION_TEXT_MAX, "%u.%u", accept->major, accept->minor_min);
    else
        snprintf(buffer, VERSION_TEXT_MAX, "%u", accept->major);
    return buffer;
}

const char *version_accepts_text(const struct version_accepts *accepts, char *buffer, size_t cap)
{
    char one[VERSION_TEXT_MAX];
    size_t len = 0;
    buffer[0] = '\0';
    for (uint32_t i = 0; i < accepts->n && len < cap; i++) {
        int n = snprintf(buffer + len, cap - len, "%s%s", i > 0 ? ", " : "",
                         version_accept_text(&accepts->list[i], one));
        len += (size_t)n;
    }
    return buffer;
}

static bool is_lower(struct version a, struct version b)
{
    return a.major != b.major ? a.major < b.major : a.minor < b.minor;
}

static bool fits(const struct version_accepts *accepts, struct version version)
{
    for (uint32_t i = 0; i < accepts->n; i++) {
        const struct version_accept *accept = &accepts->list[i];
        if (version.major == accept->major && version.minor >= accept->minor_min && version.minor <= accept->minor_max)
            return true;
    }
    return false;
}

/* Out of the highest version below it. */
static bool choose_to_raise(uint16_t to_major, const struct version *published, unsigned n_published,
                            bool (*can_raise)(const void *context, uint16_t major), const void *context,
                            struct version_choice *out)
{
    struct version_choice choice = {.to_major = to_major};
    for (unsigned i = 0; i < n_published; i++)
        if (published[i].major < to_major && (choice.from.major == 0 || is_lower(choice.from, published[i])))
            choice.from = published[i];
    if (choice.from.major == 0)
        return false;
    for (uint16_t major = choice.from.major; major < to_major; major++)
        if (!can_raise(context, major))
            return false;
    *out = choice;
    return true;
}

bool version_choose(const struct version_accepts *accepts, const struct version *published, unsigned n_published,
                    bool (*can_raise)(const void *context, uint16_t major), const void *context,
                    struct version_choice *out)
{
    struct version_choice choice = {.from = published[0]};
    bool is_found = accepts->n == 0;
    for (unsigned i = 0; i < n_published; i++) {
        bool is_better = accepts->n == 0
                             ? is_lower(published[i], choice.from)
                             : fits(accepts, published[i]) && (!is_found || is_lower(choice.from, published[i]));
        if (is_better)
            choice.from = published[i];
        is_found = is_found || is_better;
    }
    for (uint32_t i = 0; !is_found && can_raise != NULL && i < accepts->n; i++) {
        const struct version_accept *accept = &accepts->list[i];
        struct version_choice raised;
        if (accept->minor_min == 0 && accept->major > choice.to_major &&
            choose_to_raise(accept->major, published, n_published, can_raise, context, &raised))
            choice = raised;
    }
    if (!is_found && choice.to_major == 0)
        return false;
    *out = choice;
    return true;
}
