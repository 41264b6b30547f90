/* finding.h: what a doctor tells: what was found, and what mends it. See finding.c. */
#ifndef EVBUS_FINDING_H
#define EVBUS_FINDING_H

#include <evbus/admin.h>

struct visit {
    struct evbus *bus;
    void (*each)(void *context, const struct evbus_finding *finding);
    void *context;
    enum evbus_severity worst;
    char mend[400]; /* of what is told next */
};

/* What mends what is told next: a command, where there is one. */
__attribute__((format(printf, 2, 3))) void finding_mend(struct visit *visit, const char *format, ...);

__attribute__((format(printf, 3, 4))) void finding_tell(struct visit *visit, enum evbus_severity severity,
                                                        const char *format, ...);

/* Puts more behind a text, as far as there is room. */
__attribute__((format(printf, 3, 4))) void finding_append(char *text, size_t cap, const char *format, ...);

/* Of `max` places few are left. */
static inline bool finding_is_scarce(uint64_t used, uint64_t max)
{
    return used > max * 9 / 10;
}

#endif
