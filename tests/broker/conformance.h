/* conformance.h: what every broker behind backend.h must do is one suite of tests, conformance.c. A program that has a
 * `broker_kind` and includes this is linked with it: see test_file.c. */
#ifndef CONFORMANCE_H
#define CONFORMANCE_H

#include "rig.h"

/* A broker as the suite needs it. */
struct broker_kind {
    const struct backend_class *class;
    bool has_trim; /* else its trimmed() says "ever" */

    /* A broker for this test alone, empty. Into the config, which has defaults: where it is, and what else there is to
     * say. It fails the test where it cannot; what it returns is the others' argument */
    void *(*make)(struct config *config);
    void (*end)(void *broker);

    void (*kill)(void *broker);    /* it is gone, whatever it is at */
    void (*restart)(void *broker); /* it is back, with what it has ever said that it has */
    void (*empty)(void *broker);   /* all that is in it is gone, at once, while it goes on */

    /* As another program does it, which knows nothing of bridges. A stream's name is the one that backends are told;
     * what the broker calls it, and whether that depends on the layout in make()'s config, is known here */
    void (*append)(void *broker, const char *stream, const struct entry_field *fields, size_t n);
    size_t (*count)(void *broker, const char *stream); /* entries */
};

extern const struct broker_kind broker_kind;

#endif
