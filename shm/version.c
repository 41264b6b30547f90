/* version.c: the version of a payload's schema, MAJOR.MINOR.
 *
 * A new MAJOR breaks readers, a new MINOR only adds ("Event Schema Versioning" of the ADR). "2" means 2.0. One version
 * has one spelling, so "02.0", "+2" and "2.00" are refused: whoever compares texts and whoever compares numbers agree.
 * Checked by tests/unit/test_version.c. */
#include "version.h"

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
